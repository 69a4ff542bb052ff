import itertools

import pytest
import torch
from torch import nn

from assay.bench.case import Precision, Quantity
from assay.bench.measure.flops import count_work, utilise
from assay.bench.profiles import load_profile

A40 = load_profile("a40")
FLOPS = Quantity(149.7e9, "FLOP")
UNCOUNTED = Quantity.missing("FLOP", "not counted")


def work(flops, least=None):
    return {"flops_per_step": flops, "least_bytes_per_step": Quantity.missing("bytes", "not counted") if least is None else Quantity(least, "bytes")}


def test_forward_and_backward_of_a_linear_layer():
    layer, batch = nn.Linear(64, 32, bias=False), torch.ones(8, 64, requires_grad=True)

    def step() -> int:
        layer(batch).sum().backward()
        return len(batch)

    # one product forward, one for each of the two gradients; two operations per multiply-add
    counted = count_work(step)
    assert (counted["flops_per_step"].value, counted["flops_per_step"].unit) == (3 * 2 * 8 * 64 * 32, "FLOP")
    least, moved = counted["least_bytes_per_step"].value, counted["bytes_per_step"].value
    assert least is not None
    assert moved is not None
    assert moved > least >= 4 * (8 * 64 + 32 * 64)  # the batch and the weight


def test_a_forward_pass_in_inference_mode():
    layer, batch = nn.Linear(64, 32), torch.ones(8, 64)

    def infer() -> int:
        with torch.inference_mode():
            layer(batch)
        return len(batch)

    assert count_work(infer)["flops_per_step"].value == 2 * 8 * 64 * 32


def test_a_step_without_known_operations_has_no_count():
    assert count_work(lambda: int(torch.ones(3).sum()))["flops_per_step"].reason == "torch's counter knows none of the step's operations"


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_a_step_that_no_counter_may_watch_keeps_the_reason():
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="came with torch 2.5")
    query = torch.ones(1, 1, 128, 32)

    def step() -> int:
        flex.flex_attention(query, query, query)
        return 1

    counted = count_work(step)
    assert step() == 1  # what comes after, such as an evaluation, runs as before
    assert counted.keys() == {"flops_per_step", "bytes_per_step", "least_bytes_per_step"}
    assert all((q.reason or "").startswith("the step does not run under torch's counters: ") for q in counted.values())


def ragged(sizes):
    """A step over batches of these sizes in turn, as an epoch with a tail batch is."""
    layer, turns = nn.Linear(64, 32, bias=False), itertools.cycle(sizes)

    def infer() -> int:
        batch = torch.ones(next(turns), 64)
        with torch.inference_mode():
            layer(batch)
        return len(batch)

    return infer


@pytest.mark.parametrize("first", range(3))
def test_a_tail_batch_does_not_stand_for_the_mean_step(first):
    step = ragged((512, 512, 8))
    for _ in range(first):  # whichever batch is next when counting begins
        step()
    mean = (512 + 512 + 8) / 3
    counted = count_work(step, mean_samples=mean)
    assert counted["flops_per_step"].value == pytest.approx(2 * mean * 64 * 32)
    assert counted["flops_per_step"].how.endswith("counted over a step of 512 samples and scaled to the 344 of a mean one")
    full = count_work(ragged((512,)))
    for name in ("bytes_per_step", "least_bytes_per_step"):
        whole = full[name].value
        assert whole is not None
        assert counted[name].value == pytest.approx(whole * mean / 512)


def test_steps_of_one_size_are_counted_once_and_not_scaled():
    taken = []
    inner = ragged((8,))

    def step():
        taken.append(1)
        return inner()

    counted = count_work(step, mean_samples=8.0)
    assert len(taken) == 1
    assert counted["flops_per_step"].value == 2 * 8 * 64 * 32
    assert "scaled" not in counted["flops_per_step"].how


def test_mfu_is_throughput_times_flop_per_sample():
    step = ragged((512, 512, 8))
    counted = count_work(step, mean_samples=344.0)
    samples_per_s = 1e6
    found = utilise(counted, 344.0 / samples_per_s, profile=A40, precision=Precision.BF16)
    assert found["mfu"].value == pytest.approx(samples_per_s * 2 * 64 * 32 / 149.7e12)


def test_mfu_and_bound_by_hand():
    found = utilise(work(FLOPS), step_seconds=4e-3, profile=A40, precision=Precision.BF16)
    assert found["mfu"].value == pytest.approx(0.25)
    assert "bf16, dense; NVIDIA A40 datasheet" in found["mfu"].how
    assert found["roofline_bound_ms"].value == pytest.approx(1.0)


def test_the_bound_is_the_slower_of_arithmetic_and_memory():
    by_memory = utilise(work(FLOPS, 696e9 * 2e-3), 4e-3, profile=A40, precision=Precision.BF16)
    assert by_memory["roofline_bound_ms"].value == pytest.approx(2.0)
    by_arithmetic = utilise(work(FLOPS, 696e9 * 0.5e-3), 4e-3, profile=A40, precision=Precision.BF16)
    assert by_arithmetic["roofline_bound_ms"].value == pytest.approx(1.0)
    assert by_arithmetic["roofline_bound_ms"].how.endswith("whichever takes longer")


def test_a_profile_without_the_figure_gives_no_number():
    found = utilise(work(FLOPS, 1e9), 4e-3, profile=load_profile("cpu"), precision=Precision.FP32)
    assert found["mfu"].reason == found["roofline_bound_ms"].reason == "profile cpu has no peak for fp32"
    t4 = utilise(work(FLOPS, 300e9 * 1e-3), 4e-3, profile=load_profile("t4"), precision=Precision.BF16)
    assert t4["mfu"].reason == "profile t4 has no peak for bf16"
    assert t4["roofline_bound_ms"].value == pytest.approx(1.0)  # memory alone still bounds


def test_an_uncounted_step_keeps_its_reason():
    found = utilise(work(UNCOUNTED), 4e-3, A40, Precision.BF16)
    assert found["mfu"].reason == found["roofline_bound_ms"].reason == "not counted"
