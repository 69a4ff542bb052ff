import pytest
import torch
from torch import nn

from bench.case import Precision, Quantity
from bench.measure.flops import count_flops, utilise
from bench.profiles import load_profile

A40 = load_profile("a40")
FLOPS = Quantity(149.7e9, "FLOP")


def test_forward_and_backward_of_a_linear_layer():
    layer, batch = nn.Linear(64, 32, bias=False), torch.ones(8, 64, requires_grad=True)

    def step() -> int:
        layer(batch).sum().backward()
        return len(batch)

    # one product forward, one for each of the two gradients; two operations per multiply-add
    assert count_flops(step).value == 3 * 2 * 8 * 64 * 32
    assert count_flops(step).unit == "FLOP"


def test_a_forward_pass_in_inference_mode():
    layer, batch = nn.Linear(64, 32), torch.ones(8, 64)

    def infer() -> int:
        with torch.inference_mode():
            layer(batch)
        return len(batch)

    assert count_flops(infer).value == 2 * 8 * 64 * 32


def test_a_step_without_known_operations_has_no_count():
    assert count_flops(lambda: int(torch.ones(3).sum())).reason == "torch's counter knows none of the step's operations"


def test_mfu_and_bound_by_hand():
    found = utilise(FLOPS, step_seconds=4e-3, bytes_per_step=None, profile=A40, precision=Precision.BF16)
    assert found["mfu"].value == pytest.approx(0.25)
    assert "bf16, dense; NVIDIA A40 datasheet" in found["mfu"].how
    assert found["roofline_bound_ms"].value == pytest.approx(1.0)


def test_the_bound_is_the_slower_of_arithmetic_and_memory():
    by_memory = utilise(FLOPS, 4e-3, bytes_per_step=696e9 * 2e-3, profile=A40, precision=Precision.BF16)
    assert by_memory["roofline_bound_ms"].value == pytest.approx(2.0)
    by_arithmetic = utilise(FLOPS, 4e-3, bytes_per_step=696e9 * 0.5e-3, profile=A40, precision=Precision.BF16)
    assert by_arithmetic["roofline_bound_ms"].value == pytest.approx(1.0)
    assert by_arithmetic["roofline_bound_ms"].how.endswith("whichever takes longer")


def test_a_profile_without_the_figure_gives_no_number():
    found = utilise(FLOPS, 4e-3, bytes_per_step=1e9, profile=load_profile("cpu"), precision=Precision.FP32)
    assert found["mfu"].reason == found["roofline_bound_ms"].reason == "profile cpu has no peak for fp32"
    t4 = utilise(FLOPS, 4e-3, bytes_per_step=300e9 * 1e-3, profile=load_profile("t4"), precision=Precision.BF16)
    assert t4["mfu"].reason == "profile t4 has no peak for bf16"
    assert t4["roofline_bound_ms"].value == pytest.approx(1.0)  # memory alone still bounds


def test_an_uncounted_step_keeps_its_reason():
    found = utilise(Quantity.missing("FLOP", "not counted"), 4e-3, None, A40, Precision.BF16)
    assert found["mfu"].reason == found["roofline_bound_ms"].reason == "not counted"
