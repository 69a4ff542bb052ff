import pytest
import torch
from torch import nn

from assay.models.dropout import LEVELS, QuickDropout, quicken_dropout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_scale_and_gradients(dtype):
    torch.manual_seed(0)
    x = torch.ones(401, 499, dtype=dtype, requires_grad=True)  # no multiple of four
    y = QuickDropout(0.3)(x)
    dropped = round(0.3 * LEVELS)
    scale = torch.tensor(LEVELS / (LEVELS - dropped)).to(dtype)
    assert set(y.unique().tolist()) == {0.0, scale.item()}
    assert (y == 0).double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / y.numel()) ** 0.5)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())  # what is dropped has no gradient, what is kept the same scale


def test_elements_are_independent():
    torch.manual_seed(1)
    kept = (QuickDropout(0.5)(torch.ones(200_000)) > 0).double() - 0.5
    for lag in (1, 2, 3, 4, 8):
        assert abs((kept[lag:] * kept[:-lag]).mean().item()) < 5 * 0.25 / 200_000**0.5


def test_the_generator_decides_and_evaluation_keeps_all():
    layer, x = QuickDropout(0.2), torch.randn(7, 5)
    torch.manual_seed(2)
    first = layer(x)
    assert not torch.equal(first, layer(x))
    torch.manual_seed(2)
    assert torch.equal(first, layer(x))
    assert layer.eval()(x) is x
    assert QuickDropout(0.0)(x) is x


@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_impossible_probabilities_are_refused(probability):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        QuickDropout(probability)


def test_every_dropout_of_a_network_is_replaced_and_its_weights_stay():
    network = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.3), nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.15)))
    before = network.state_dict()
    quick = quicken_dropout(network)
    assert quick is network
    assert [layer.dropped for layer in quick.modules() if isinstance(layer, QuickDropout)] == [round(0.3 * LEVELS), round(0.15 * LEVELS)]
    assert not any(isinstance(layer, nn.Dropout) for layer in quick.modules())
    assert list(quick.state_dict()) == list(before)
