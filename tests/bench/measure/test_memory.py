import gc

import pytest
import torch

from assay.bench.measure.board import SampledWindow
from assay.bench.measure.memory import (
    AllocatorPeaks,
    find_memory_fault,
    measure_gpu_memory,
    measure_resident_peak,
    read_allocator_peaks,
    reset_resident_peak,
)

MIB = 1 << 20
WINDOW = SampledWindow(memory_api="v2", period_ms=20, samples=500, largest_gap_ms=23.4, baseline_bytes=10 * MIB, peak_bytes=3010 * MIB)


def test_three_numbers_and_their_difference():
    memory = measure_gpu_memory(WINDOW, AllocatorPeaks(allocated=2000 * MIB, reserved=2400 * MIB), baseline=10 * MIB)
    values = {name: quantity.value for name, quantity in memory.items()}
    assert values == {"allocated_peak": 2000 * MIB, "reserved_peak": 2400 * MIB, "device_peak": 3000 * MIB, "non_torch": 600 * MIB}
    assert {quantity.unit for quantity in memory.values()} == {"bytes"}
    assert memory["device_peak"].n == 500
    assert memory["device_peak"].how == "NVML memory info v2 every 20 ms, above the baseline; 500 samples, largest gap 23.4 ms"


def test_the_old_reading_is_labelled():
    memory = measure_gpu_memory(WINDOW.model_copy(update={"memory_api": "v1"}), AllocatorPeaks(1, 1), baseline=0)
    assert memory["device_peak"].how.startswith("NVML memory info v1")
    assert memory["device_peak"].how.endswith("v1 counts the driver's own reserve on both sides of the difference")


def test_a_lost_sampler_leaves_torchs_own_numbers():
    memory = measure_gpu_memory(SampledWindow(lost="GPU is lost", peak_bytes=5), AllocatorPeaks(3, 4), baseline=0)
    assert (memory["allocated_peak"].value, memory["reserved_peak"].value) == (3, 4)
    assert memory["device_peak"].reason == memory["non_torch"].reason == "GPU is lost"


def test_on_the_cpu_every_gpu_number_is_missing_with_its_reason():
    peaks = read_allocator_peaks(torch.device("cpu"))
    memory = measure_gpu_memory("the case ran on the CPU", peaks, baseline=0)
    assert {quantity.reason for quantity in memory.values()} == {"the case ran on the CPU"}


def test_less_seen_than_reserved_is_a_fault():
    assert find_memory_fault(WINDOW, AllocatorPeaks(1, 3000 * MIB), baseline=10 * MIB) == []
    (fault,) = find_memory_fault(WINDOW, AllocatorPeaks(1, 3000 * MIB + 1), baseline=10 * MIB)
    assert fault.startswith(f"sampled peak of GPU memory ({3000 * MIB} bytes) is below what torch reserved ({3000 * MIB + 1} bytes)")
    assert find_memory_fault(SampledWindow(lost="x", peak_bytes=0), AllocatorPeaks(1, 5), baseline=0) == []


def resident_peak():
    return measure_resident_peak(since_reset=False)["rss_peak"].value


def test_a_known_allocation_shows():
    if not reset_resident_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    before = resident_peak()
    block = b"x" * (192 * MIB)
    assert resident_peak() - before == pytest.approx(len(block), rel=0.05)


def test_a_known_leak_grows_step_by_step():
    if not reset_resident_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    gc.collect()  # what other tests left would be freed while this one grows
    leaked, peaks = [], []
    for _ in range(4):
        leaked.append(b"x" * (32 * MIB))
        peaks.append(resident_peak())
    assert peaks == sorted(peaks)
    assert peaks[-1] - peaks[0] == pytest.approx(3 * 32 * MIB, rel=0.05)


def test_a_reset_forgets_an_earlier_peak():
    block = b"x" * (192 * MIB)
    high = resident_peak()
    del block
    if not reset_resident_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    assert high - resident_peak() == pytest.approx(192 * MIB, rel=0.05)


def test_what_the_peak_covers_is_said():
    assert "since the window's start" in measure_resident_peak(since_reset=True)["rss_peak"].how
    assert "since the process started" in measure_resident_peak(since_reset=False)["rss_peak"].how


def test_without_proc_the_kernel_is_asked_another_way(monkeypatch, tmp_path):
    monkeypatch.setattr("assay.bench.measure.memory.STATUS", tmp_path / "none")
    monkeypatch.setattr("assay.bench.measure.memory.CLEAR_REFS", tmp_path / "none" / "none")
    assert not reset_resident_peak()
    peak = measure_resident_peak(since_reset=False)["rss_peak"]
    assert peak.how == "getrusage, since the process started"
    assert peak.value is not None
    assert peak.value > 50 * MIB  # this process has torch in it
