import pytest
import torch

from assay.bench.measure.torch21 import adapt_torch


@pytest.fixture
def old_torch(monkeypatch):
    monkeypatch.delattr(torch.amp, "GradScaler")
    monkeypatch.delattr(torch.nn.Module, "register_load_state_dict_pre_hook")
    adapt_torch()


def test_a_present_torch_is_left_alone():
    before = torch.amp.GradScaler, torch.nn.Module.register_load_state_dict_pre_hook
    adapt_torch()
    assert before == (torch.amp.GradScaler, torch.nn.Module.register_load_state_dict_pre_hook)


@pytest.mark.filterwarnings("ignore:.*GradScaler:FutureWarning")  # a present torch's word on the old name
def test_a_disabled_scaler_leaves_the_loss_as_it_is(old_torch):
    assert torch.amp.GradScaler("cpu", enabled=False).scale(torch.tensor(3.0)).item() == 3
    with pytest.raises(RuntimeError, match="scales gradients on CUDA only"):
        torch.amp.GradScaler("cpu", enabled=True)


def test_a_hook_sees_its_module_before_weights_are_loaded(old_torch):
    layer, seen = torch.nn.Linear(1, 1), []
    layer.register_load_state_dict_pre_hook(lambda module, state, prefix, *rest: seen.append((module, sorted(state))))
    layer.load_state_dict(layer.state_dict())
    assert seen == [(layer, ["bias", "weight"])]
