import sys
from functools import partial

import pytest
import torch

from assay.bench.case import Precision, Quantity
from assay.bench.profiles import load_profile
from benchmarks import footprint
from benchmarks.footprint import measure_growth, use_of_peak

CPU = torch.device("cpu")
MEBIBYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process reset its peak")
def test_growth_is_what_a_run_touches_at_once_however_much_ran_before():
    def touch(mebibytes):
        torch.ones(mebibytes * MEBIBYTE // 4).sum()

    for _ in range(2):
        large, small = (measure_growth(partial(touch, size), CPU) for size in (256, 64))
        if large.value is None:
            pytest.skip(large.reason or "")
        assert large.value == pytest.approx(256 * MEBIBYTE, rel=0.05)
        assert small.value == pytest.approx(64 * MEBIBYTE, rel=0.1)


def test_growth_that_the_kernel_does_not_tell_has_a_reason(monkeypatch):
    monkeypatch.setattr(footprint, "reset_resident_peak", lambda: False)
    assert measure_growth(lambda: None, CPU).reason == "the kernel does not reset the peak of resident memory here, and lanes share a process"


def test_use_of_peak_by_hand():
    a40 = load_profile("a40")
    found = use_of_peak(Quantity(1e12, "FLOP"), 100, Quantity(1497.0, "rows/s", 9), a40, Precision.BF16)
    assert found.value == pytest.approx(1e10 * 1497 / 149.7e12)
    assert "bf16, dense; NVIDIA A40 datasheet" in found.how
    assert use_of_peak(Quantity.missing("FLOP", "not counted"), 1, Quantity(1.0, "rows/s"), a40, Precision.BF16).reason == "not counted"
    cpu = use_of_peak(Quantity(1.0, "FLOP"), 1, Quantity(1.0, "rows/s"), load_profile("cpu"), Precision.FP32)
    assert cpu.reason == "profile cpu has no peak for fp32"
