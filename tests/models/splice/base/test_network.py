"""The base model: the published architecture, its numbers, and checkpoints by key."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from assay.datasets.card import DataError, MissingData
from assay.models.splice.base.network import SPLICEAI_2K, SPLICEAI_10K, SPLICEAI_80NT, SPLICEAI_400NT, SpliceAI, load_ensemble, load_model
from benchmarks.peer_splice_base import predict_as_published


def make_model(architecture, seed=0):
    torch.manual_seed(seed)
    model = SpliceAI(architecture).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):  # trained statistics, so that a padded zero is not what normalisation makes of it
            for name, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0), ("bias", -0.5, 0.5)):
                getattr(module, name).data.uniform_(low, high)
    return model


def one_hot(length, batch=1, seed=1):
    bases = torch.randint(4, (batch, length), generator=torch.Generator().manual_seed(seed))
    return F.one_hot(bases, 4).transpose(1, 2).float()


def test_the_10k_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = SpliceAI()
    assert sum(weights.numel() for weights in model.parameters()) == 696_739
    assert [architecture.context for architecture in (SPLICEAI_80NT, SPLICEAI_400NT, SPLICEAI_2K, SPLICEAI_10K)] == [80, 400, 2_000, 10_000]


def test_an_output_sees_exactly_its_context():
    model, x = make_model(SPLICEAI_80NT).double(), one_hot(83).double()
    with torch.inference_mode():
        before = model(x)
        for at in (0, 82):
            x[:, :, at] = x[:, :, at].roll(1)
        after = model(x)
    assert before.shape == (1, 3, 3)
    torch.testing.assert_close(before.sum(dim=1), torch.ones(1, 3).double())
    assert torch.equal(before[:, :, 1], after[:, :, 1])
    assert not torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.equal(before[:, :, 2], after[:, :, 2])


@pytest.mark.parametrize("architecture", [SPLICEAI_80NT, SPLICEAI_400NT, SPLICEAI_2K])
def test_convolutions_without_padding_equal_the_published_form(architecture):
    model, x = make_model(architecture), one_hot(architecture.context + 21, batch=2)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), predict_as_published(model.state_dict(), architecture, x), rtol=1e-5, atol=1e-6)


def test_a_sequence_without_context_is_refused():
    with pytest.raises(ValueError, match="fewer than the receptive field of 81"):
        SpliceAI(SPLICEAI_80NT)(one_hot(80))


def test_an_ensemble_averages_the_checkpoints_of_a_folder(tmp_path):
    first, second = make_model(SPLICEAI_80NT, 1), make_model(SPLICEAI_80NT, 2)
    torch.save(first.state_dict(), tmp_path / "model_rs10.pt")
    save_file(second.state_dict(), tmp_path / "model_rs11.safetensors")
    (tmp_path / "README").write_text("weights")
    x = one_hot(90)
    with torch.inference_mode():
        torch.testing.assert_close(load_ensemble(tmp_path, SPLICEAI_80NT)(x), (first(x) + second(x)) / 2)


def test_without_weights_the_error_says_where_they_come_from(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(MissingData, match=r"holds no checkpoint .*OpenSpliceAI-MANE-10000nt .*--weights"):
            load_ensemble(folder)


def test_another_architecture_is_named_by_its_first_differing_key_and_shapes(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(make_model(SPLICEAI_80NT).state_dict(), path)
    with pytest.raises(DataError, match=r"another architecture: it has no 'residual_units\.5\.batchnorm1\.weight', expected with shape \(32,\)"):
        load_model(path, SPLICEAI_400NT)
    torch.save(make_model(SPLICEAI_400NT).state_dict(), path)
    with pytest.raises(DataError, match=r"it has 'residual_units\.5\.\S+ of shape \(32,\), which is not expected"):
        load_model(path, SPLICEAI_80NT)
    state = make_model(SPLICEAI_80NT).state_dict()
    state["residual_units.2.conv1.weight"] = torch.zeros(32, 32, 21)
    torch.save(state, path)
    with pytest.raises(DataError, match=r"model\.pt: .*'residual_units\.2\.conv1\.weight' has shape \(32, 32, 21\), expected \(32, 32, 11\)"):
        load_model(path, SPLICEAI_80NT)


def test_files_that_are_no_plain_weights_are_refused(tmp_path):
    path = tmp_path / "model.pt"
    torch.save(make_model(SPLICEAI_80NT), path)  # a pickled module
    with pytest.raises(DataError, match=r"is no file of plain weights.*could run code"):
        load_model(path, SPLICEAI_80NT)
    torch.save({"state_dict": {}, "epoch": 3}, path)
    with pytest.raises(DataError, match="is no plain state dict"):
        load_model(path, SPLICEAI_80NT)
    for name in ("cut.pt", "cut.safetensors"):
        (tmp_path / name).write_bytes(b"\x80\x02nonsense")
        with pytest.raises(DataError, match="is no file of plain weights"):
            load_model(tmp_path / name, SPLICEAI_80NT)
    state = make_model(SPLICEAI_80NT).state_dict()
    state["final_conv.bias"][1] = torch.nan
    torch.save(state, path)
    with pytest.raises(DataError, match=r"'final_conv\.bias' holds a value that is not finite"):
        load_model(path, SPLICEAI_80NT)
