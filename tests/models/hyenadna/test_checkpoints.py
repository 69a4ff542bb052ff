"""Both published layouts, and every way in which a file can be the wrong one."""

import collections
import os
import sys
import types
import typing

import pytest
import torch
from safetensors.torch import save_file

from assay.datasets.card import DataError, hash_files
from assay.models.hyenadna.checkpoints import find_weights, load_weights
from assay.models.hyenadna.network import CONFIGS, HyenaConfig, HyenaDNA
from assay.models.hyenadna.operator import decay_rates, position_features

SMALL = HyenaConfig(name="small", width=8, layers=2, context=62)
MIXER = "layers.0.mixer.filter_fn"


def make_tables(config):
    features = position_features(config.longest, config.longest)
    for layer in range(config.layers):
        root = f"layers.{layer}.mixer.filter_fn"
        yield f"{root}.pos_emb.z", features[None].clone()
        yield f"{root}.pos_emb.t", features[None, :, :1].clone()
        yield f"{root}.modulation.deltas", decay_rates(config.width)[None, None].clone()


def make_hf(config=SMALL, seed=0):
    """The `-hf` layout: prefix hyena, tables stored, the frequency once, an untied language-model head."""
    torch.manual_seed(seed)
    state = HyenaDNA(config).state_dict()
    hf = {f"hyena.backbone.{name}": tensor for name, tensor in (*state.items(), *make_tables(config))}
    return state, hf | {"lm_head.weight": torch.randn(16, config.width)}


def make_original(config=SMALL, seed=0, wrapped=True):
    """The original layout: prefix model, three names for one frequency, blocks in `.layer` where they were checkpointed in training."""
    torch.manual_seed(seed)
    state = HyenaDNA(config).state_dict()
    original = {}
    for name, tensor in (*state.items(), *make_tables(config)):
        aliases = [name] if "freq" not in name else [name.replace(".1.freq", f".{i}.freq") for i in (1, 3, 5)]
        for alias in aliases:
            key = alias.replace(".mixer.", ".mixer.layer.").replace(".mlp.", ".mlp.layer.") if wrapped else alias
            original[f"model.backbone.{key}"] = tensor
    counters = {f"{part}_torchmetrics.num_tokens.count": torch.tensor(7) for part in ("train", "val", "test")}
    return state, original | {"model.lm_head.weight": state["embeddings.word_embeddings.weight"]} | counters


def check(path, state, config=SMALL):
    weights = load_weights(path, config)
    assert set(weights.tensors) == set(state)
    assert all(torch.equal(weights.tensors[name], tensor) for name, tensor in state.items())
    assert weights.sha256 == hash_files([path])
    torch.manual_seed(99)
    fresh, source = HyenaDNA(config).eval(), HyenaDNA(config).eval()
    fresh.load_state_dict(weights.tensors)
    source.load_state_dict(state)
    ids = torch.randint(7, 12, (1, 20))
    with torch.inference_mode():
        assert torch.equal(fresh(ids), source(ids))


def test_hf_layout_from_safetensors(tmp_path):
    state, hf = make_hf()
    assert len([name for name in hf if "layers" in name]) == 2 * 26  # 28 with the two aliases that safetensors drops
    save_file(hf, tmp_path / "model.safetensors")
    check(tmp_path / "model.safetensors", state)


@pytest.mark.parametrize("wrapped", [True, False])
def test_original_layout_bare_or_below_state_dict(tmp_path, wrapped):
    state, original = make_original(wrapped=wrapped)
    backbone = [name for name in original if "backbone" in name]
    assert len(backbone) == 59  # the published count for two layers
    torch.save(original, tmp_path / "pytorch_model.bin")
    check(tmp_path / "pytorch_model.bin", state)
    torch.save({"epoch": 3, "state_dict": collections.OrderedDict(original)}, tmp_path / "weights.ckpt")
    check(tmp_path / "weights.ckpt", state)


def test_a_published_size_loads(tmp_path):
    state, hf = make_hf(CONFIGS["tiny-1k"])
    save_file(hf, tmp_path / "model.safetensors")
    assert sum(tensor.numel() for tensor in hf.values()) == 450_712
    check(tmp_path / "model.safetensors", state, CONFIGS["tiny-1k"])


class Settings:
    """What Lightning pickles beside the weights; its module is not there when the file is read."""

    def __init__(self, **values):
        self.values = values


class Bomb:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_a_lightning_file_gives_its_tensors_and_none_of_its_objects(tmp_path, monkeypatch):
    state, original = make_original()
    gone = types.ModuleType("omegaconf_that_is_gone")
    monkeypatch.setitem(sys.modules, gone.__name__, gone)
    monkeypatch.setattr(Settings, "__module__", gone.__name__)
    gone.Settings = Settings  # type: ignore[attr-defined]
    extras = {"hyper_parameters": Settings(d_model=128, path=tmp_path), "callbacks": {"best": tmp_path}, "optimizer_states": [{"step": torch.ones(1)}]}
    torch.save({"state_dict": original, "any": typing.Any, **extras}, tmp_path / "weights.ckpt")
    monkeypatch.delitem(sys.modules, gone.__name__)
    check(tmp_path / "weights.ckpt", state)


def test_code_in_a_pickle_never_runs(tmp_path):
    state, original = make_original()
    mark = tmp_path / "it-ran"
    torch.save({"state_dict": original, "bomb": Bomb(eval, f"open({str(mark)!r}, 'w')")}, tmp_path / "weights.ckpt")
    check(tmp_path / "weights.ckpt", state)
    torch.save({"state_dict": original, "bomb": Bomb(os.system, f"touch {mark}")}, tmp_path / "weights.ckpt")
    with pytest.raises(DataError, match=r"weights\.ckpt: holds more than tensors \(posix\.system\).*could run code\. Take the `-hf` checkpoint"):
        load_weights(tmp_path / "weights.ckpt", SMALL)
    assert not mark.exists()


def test_an_object_where_a_tensor_should_be_is_refused(tmp_path):
    _, original = make_original()
    torch.save({"state_dict": original | {"model.backbone.ln_f.bias": tmp_path}}, tmp_path / "weights.ckpt")
    with pytest.raises(DataError, match="is no plain state dict"):
        load_weights(tmp_path / "weights.ckpt", SMALL)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_damaged_files_are_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        load_weights(tmp_path / name, SMALL)


def test_what_is_no_table_of_tensors_is_refused(tmp_path):
    for content in ([1, 2], {0: torch.zeros(2)}, {"state_dict": {0: torch.zeros(2)}}, {"state_dict": 3}):
        torch.save(content, tmp_path / "pytorch_model.bin")
        with pytest.raises(DataError, match="is no plain state dict"):
            load_weights(tmp_path / "pytorch_model.bin", SMALL)


def _refusal(tmp_path, hf, config=SMALL):
    save_file(hf, tmp_path / "model.safetensors")
    with pytest.raises(DataError) as caught:
        load_weights(tmp_path / "model.safetensors", config)
    return str(caught.value)


def test_another_width_names_the_first_key_and_both_shapes(tmp_path):
    _, hf = make_hf(HyenaConfig(name="wide", width=16, layers=2, context=62))
    del hf["lm_head.weight"]
    tables = [name for name in hf if "deltas" in name or "pos_emb" in name]
    told = _refusal(tmp_path, {name: tensor for name, tensor in hf.items() if name not in tables})
    assert "another architecture: 'embeddings.word_embeddings.weight' has shape (16, 16), expected (16, 8)" in told
    assert "Give the checkpoint of hyenadna-small" in told


def test_more_or_fewer_layers_name_the_first_key(tmp_path):
    _, deep = make_hf(HyenaConfig(name="deep", width=8, layers=3, context=62))
    assert "layers.2.mixer." in _refusal(tmp_path, deep)
    _, flat = make_hf(HyenaConfig(name="flat", width=8, layers=1, context=62))
    assert "it has no 'layers.1.mixer.in_proj.weight', expected with shape (24, 8)" in _refusal(tmp_path, flat)


def test_another_context_shows_in_the_stored_tables_alone(tmp_path):
    _, longer = make_hf(HyenaConfig(name="longer", width=8, layers=2, context=100))
    assert f"'{MIXER}.pos_emb.z' has shape (1, 102, 5), expected (1, 64, 5)" in _refusal(tmp_path, longer)


def test_another_network_names_its_first_strange_key(tmp_path):
    state, _ = make_hf()
    told = _refusal(tmp_path, {f"backbone.{name}": tensor for name, tensor in state.items()} | {"pooler.weight": torch.ones(2)})
    assert "it has 'pooler.weight' of shape (2,), which is not expected" in told


def test_trained_tables_frequencies_that_differ_and_holes_are_refused(tmp_path):
    _, hf = make_hf()
    key = f"hyena.backbone.{MIXER}.pos_emb.z"
    assert "pos_emb.z departs from its formula by 0.01" in _refusal(tmp_path, hf | {key: hf[key] + 0.01})
    first = f"hyena.backbone.{MIXER}.implicit_filter.1.freq"
    assert "share one frequency" in _refusal(tmp_path, hf | {first.replace(".1.", ".3."): hf[first] + 1})
    norm = "hyena.backbone.ln_f.weight"
    assert "'ln_f.weight' holds a value that is not finite" in _refusal(tmp_path, hf | {norm: hf[norm] * float("nan")})


def test_weights_are_found_by_name_in_the_environments_folder_or_the_datas(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_WEIGHTS", raising=False)
    assert find_weights(SMALL, None) is None
    assert find_weights(SMALL, tmp_path) is None
    folder = tmp_path / "weights" / "hyenadna-small"
    folder.mkdir(parents=True)
    with pytest.raises(DataError, match=r"hyenadna-small: holds no checkpoint\. Put one of model\.safetensors"):
        find_weights(SMALL, tmp_path)
    for name in ("weights.ckpt", "pytorch_model.bin", "model.safetensors"):
        (folder / name).touch()
        assert find_weights(SMALL, tmp_path) == folder / name
    folder.rename(folder.with_name("hyenadna-small-seqlen-hf"))  # as the hub calls it
    folder = folder.with_name("hyenadna-small-seqlen-hf")
    monkeypatch.setenv("ASSAY_WEIGHTS", str(tmp_path / "weights"))
    assert find_weights(SMALL, None) == folder / "model.safetensors"
    monkeypatch.setenv("ASSAY_WEIGHTS", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="names a folder that is not there"):
        find_weights(SMALL, tmp_path)
