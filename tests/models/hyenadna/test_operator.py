"""The operator against its formulas, and how often the filter is computed."""

import math

import pytest
import torch

from assay.models.hyenadna import operator
from assay.models.hyenadna.operator import HyenaOperator, ImplicitFilter, PositionGrid, convolve, decay_rates, find_fast_length, position_features
from tests.models.hyenadna.reference import convolve_directly, make_filter, mix, take_weights


def test_features_are_relative_time_and_two_bands():
    longest = 1026
    features = position_features(5, longest)
    for i in range(5):
        omega = 2 * math.pi * i / longest
        expected = [i / 1025, math.cos(1e-4 * omega), math.cos(omega), -math.sin(1e-4 * omega), -math.sin(omega)]
        assert features[i].tolist() == pytest.approx(expected, abs=1e-6)
    assert position_features(longest, longest)[-1, 0] == 1


def test_decay_rates_run_from_the_slowest_to_the_fastest():
    rates = decay_rates(128)
    assert rates[0].item() == pytest.approx(math.log(0.01) / 1.5, rel=1e-6)
    assert rates[-1].item() == pytest.approx(math.log(0.01) / 0.3, rel=1e-6)
    assert (rates.diff() < 0).all()


@pytest.mark.parametrize("least", [1, 2, 3, 7, 402, 1002, 1006, 1_000_003, 2_000_004])
def test_fast_lengths_are_the_smallest_even_products_of_2_3_and_5(least):
    found = find_fast_length(least)
    assert found >= least
    assert found % 2 == 0

    def is_smooth(n):
        for prime in (2, 3, 5):
            while n % prime == 0:
                n //= prime
        return n == 1

    assert is_smooth(found)
    assert not any(is_smooth(n) for n in range(least + least % 2, found, 2))


def test_filter_follows_the_formulas():
    torch.manual_seed(0)
    filter_fn = ImplicitFilter(PositionGrid(6, 40))
    for length in (40, 17, 1):
        torch.testing.assert_close(filter_fn(length).double(), make_filter(take_weights(filter_fn), length, 40), atol=2e-5, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 13, 31])
def test_convolution_is_the_direct_one(length):
    torch.manual_seed(length)
    filter_fn = ImplicitFilter(PositionGrid(5, 64))
    x = torch.randn(2, 5, length)
    y = convolve(x, filter_fn.transform(length))
    direct = convolve_directly(x.double(), filter_fn(length).detach().double(), filter_fn.bias.detach().double())
    torch.testing.assert_close(y.double(), direct, atol=1e-5, rtol=1e-5)


def test_operator_is_its_step_by_step_loop_and_so_are_its_gradients():
    torch.manual_seed(1)
    mixer = HyenaOperator(PositionGrid(4, 30))
    u = torch.randn(2, 11, 4, requires_grad=True)
    torch.testing.assert_close(mixer(u).double(), mix(take_weights(mixer), u.detach().double(), 30), atol=1e-5, rtol=1e-4)
    mixer(u).square().sum().backward()
    plain = {name: tensor.requires_grad_() for name, tensor in take_weights(mixer).items()}
    shadow = u.detach().double().requires_grad_()
    mix(plain, shadow, 30).square().sum().backward()
    for name, ours, theirs in [("u", u, shadow), *((name, parameter, plain[name]) for name, parameter in mixer.named_parameters())]:
        assert ours.grad is not None, name
        assert theirs.grad is not None, name
        assert torch.allclose(ours.grad.double(), theirs.grad, atol=1e-4, rtol=1e-3), name


def test_nothing_flows_backwards():
    torch.manual_seed(2)
    mixer = HyenaOperator(PositionGrid(8, 64)).eval()
    u = torch.randn(1, 20, 8)
    changed = u.clone()
    changed[:, 12:] += 1
    with torch.inference_mode():
        before, after = mixer(u), mixer(changed)
    torch.testing.assert_close(before[:, :12], after[:, :12], atol=1e-5, rtol=0)
    assert (before[:, 12:] - after[:, 12:]).abs().max() > 1e-2


def test_convolution_stays_in_float32_under_autocast():
    torch.manual_seed(3)
    filter_fn = ImplicitFilter(PositionGrid(4, 64))
    x = torch.randn(1, 4, 16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = convolve(x, filter_fn.transform(16))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, convolve(x, filter_fn.transform(16)), atol=0, rtol=0)


@pytest.fixture
def counted(monkeypatch):
    """An operator's filter, and the lengths that its network was asked for."""
    torch.manual_seed(4)
    filter_fn = ImplicitFilter(PositionGrid(4, 64))
    asked = []
    forward = filter_fn.forward

    def count(length):
        asked.append(length)
        return forward(length)

    monkeypatch.setattr(filter_fn, "forward", count)
    return filter_fn, asked


def test_filter_is_kept_in_inference_until_length_or_weights_change(counted):
    filter_fn, asked = counted
    filter_fn.eval()
    with torch.inference_mode():
        first = filter_fn.transform(20)
        assert filter_fn.transform(20) is first
    with torch.no_grad():
        assert filter_fn.transform(20) is first
    assert asked == [20]
    with torch.no_grad():
        filter_fn.transform(21)
        filter_fn.implicit_filter["1"].freq.mul_(2)
        filter_fn.transform(21)
    assert asked == [20, 21, 21]
    with torch.no_grad():
        filter_fn.load_state_dict({name: tensor * 2 for name, tensor in filter_fn.state_dict().items()})
        torch.testing.assert_close(filter_fn.transform(21), torch.fft.rfft(filter_fn(21), n=48) + filter_fn.bias[:, None])


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimiser_step_is_noticed(counted, fused):
    filter_fn, asked = counted
    optimiser = torch.optim.AdamW(filter_fn.parameters(), fused=fused)
    with torch.inference_mode():
        before = filter_fn.transform(8)
    filter_fn.transform(8).abs().sum().backward()
    optimiser.step()
    with torch.inference_mode():
        assert not torch.equal(filter_fn.transform(8), before)
    assert asked == [8, 8, 8]


def test_a_frozen_filter_is_kept_in_training_too_and_works_after_inference(counted):
    filter_fn, asked = counted
    filter_fn.requires_grad_(False)
    with torch.inference_mode():
        filter_fn.transform(8)
    x = torch.randn(1, 4, 8, requires_grad=True)
    convolve(x, filter_fn.transform(8)).sum().backward()
    assert asked == [8]
    assert x.grad is not None


def test_what_is_too_large_is_not_kept(counted, monkeypatch):
    filter_fn, asked = counted
    monkeypatch.setattr(operator, "KEPT_BYTES", 100)
    with torch.inference_mode():
        torch.testing.assert_close(filter_fn.transform(20), filter_fn.transform(20), atol=0, rtol=0)
    assert asked == [20, 20]
