import pytest
import torch
from safetensors.torch import save_file

from assay.datasets.card import DataError, MissingData
from assay.models.dnabert.checkpoints import find_checkpoint, load_checkpoint
from assay.models.dnabert.network import TINY, DnabertEncoder

QKV = "encoder.layer.0.attention.self.Wqkv.weight"


def make_weights(seed=3):
    torch.manual_seed(seed)
    return {key: value.clone() for key, value in DnabertEncoder(TINY).state_dict().items()}


def write(folder, weights, kind):
    path = folder / ("model.safetensors" if kind == "safetensors" else "pytorch_model.bin")
    if kind == "safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
@pytest.mark.parametrize("layout", ["DNABERT-S", "DNABERT-2"])
def test_both_published_layouts_load_by_key(tmp_path, kind, layout):
    weights = make_weights()
    if layout == "DNABERT-2":  # a masked language model: prefixed, with a head, without a pooler
        stored = {f"bert.{key}": value for key, value in weights.items() if not key.startswith("pooler.")}
        stored["cls.predictions.decoder.bias"] = torch.zeros(4096)
    else:
        stored = weights
    write(tmp_path, stored, kind)
    encoder = DnabertEncoder(TINY)
    before = encoder.pooler.dense.weight.clone()
    loaded = load_checkpoint(encoder, find_checkpoint(tmp_path))
    assert torch.equal(encoder.state_dict()[QKV], weights[QKV])
    assert (loaded.prefixed, loaded.pooler) == ((True, False) if layout == "DNABERT-2" else (False, True))
    assert loaded.unused == (("cls.predictions.decoder.bias",) if layout == "DNABERT-2" else ())
    assert torch.equal(encoder.pooler.dense.weight, before) == (layout == "DNABERT-2")


def test_another_architecture_is_told_by_its_first_differing_key(tmp_path):
    weights = make_weights()
    wrong = weights | {QKV: torch.zeros(96, 32)}
    with pytest.raises(DataError, match=r"'encoder\.layer\.0\.attention\.self\.Wqkv\.weight' has shape \(96, 32\), expected \(192, 64\)"):
        load_checkpoint(DnabertEncoder(TINY), write(tmp_path, wrong, "safetensors"))
    short = {key: value for key, value in weights.items() if not key.startswith("encoder.layer.1.")}
    with pytest.raises(DataError, match=r"has no 'encoder\.layer\.1\.attention\.self\.Wqkv\.weight', expected with shape \(192, 64\)"):
        load_checkpoint(DnabertEncoder(TINY), write(tmp_path, short, "safetensors"))
    extra = weights | {"embeddings.position_embeddings.weight": torch.zeros(512, 64)}
    with pytest.raises(DataError, match=r"has 'embeddings\.position_embeddings\.weight' of shape \(512, 64\), which is not expected"):
        load_checkpoint(DnabertEncoder(TINY), write(tmp_path, extra, "safetensors"))


class Surprise:
    pass


def test_a_pickle_that_is_more_than_tensors_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weights": Surprise()}, path)
    with pytest.raises(DataError, match="is no file of plain weights"):
        load_checkpoint(DnabertEncoder(TINY), path)
    torch.save({"step": 3}, path)
    with pytest.raises(DataError, match="is no plain state dict"):
        load_checkpoint(DnabertEncoder(TINY), path)


def test_damaged_and_missing_files(tmp_path):
    with pytest.raises(MissingData, match=r"holds neither model\.safetensors nor pytorch_model\.bin"):
        find_checkpoint(tmp_path)
    with pytest.raises(MissingData, match=r"not found\. Give the checkpoint of DNABERT-2-117M or DNABERT-S"):
        load_checkpoint(DnabertEncoder(TINY), tmp_path / "model.safetensors")
    for content in (b"", b"PK", b"\x80\x02nonsense", b"\x80"):
        path = tmp_path / "pytorch_model.bin"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"pytorch_model\.bin: is no file of plain weights: \S+"):
            load_checkpoint(DnabertEncoder(TINY), path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"no header")
    with pytest.raises(DataError, match=r"model\.safetensors: is no file of plain weights"):
        load_checkpoint(DnabertEncoder(TINY), path)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, bad):
    weights = make_weights()
    weights[QKV][3, 1] = bad
    with pytest.raises(DataError, match=r"'encoder\.layer\.0\.attention\.self\.Wqkv\.weight' holds a value that is not finite"):
        load_checkpoint(DnabertEncoder(TINY), write(tmp_path, weights, "safetensors"))


def test_keys_that_are_no_names_are_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    torch.save({0: torch.zeros(2)}, path)
    with pytest.raises(DataError, match="is no plain state dict"):
        load_checkpoint(DnabertEncoder(TINY), path)
