import os
import time

import psutil
import pytest
import torch

from assay.bench.measure.meter import Meter
from tests.fakes.nvml import wait_for

MIB = 1 << 20
CPU = torch.device("cpu")
UUID = "GPU-fa4e0000-0000-4000-8000-000000000000"
KEYS = {"allocated_peak", "reserved_peak", "device_peak", "non_torch", "rss_peak", "energy", "energy_per_1000_samples", "idle_power"}


def values(window, samples=1):
    return {name: quantity.value for name, quantity in window.measurements(samples).items()}




def test_on_a_cpu_no_process_is_started():
    before = len(psutil.Process().children())
    with Meter(CPU) as meter, meter.window() as window:
        assert len(psutil.Process().children()) == before
        block = b"x" * (256 * MIB)
    measured = window.measurements(samples=10)
    assert set(measured) == KEYS
    assert values(window)["rss_peak"] > len(block)
    assert {quantity.reason for name, quantity in measured.items() if name != "rss_peak"} == {"the case ran on the CPU"}
    assert window.findings == ()


def test_numbers_of_an_open_window_are_not_there_yet():
    with Meter(CPU) as meter, meter.window() as window:
        assert window.measurements(samples=1)["device_peak"].reason == "the window is still open"


def test_a_gpu_is_watched(nvml):
    nvml.script("memory 300*3 2300*2 1000", "power 0:90000", "energy 777")
    with Meter(CPU, gpu=UUID) as meter, meter.window() as window:
        wait_for(lambda: nvml.readings >= 8)
    measured = window.measurements(samples=500)
    assert measured["device_peak"].value == 2000 * MIB
    assert measured["idle_power"].value == 90.0
    assert measured["allocated_peak"].reason == measured["non_torch"].reason == "the case ran on the CPU"
    assert str(measured["energy"].reason).endswith("the energy counter takes at least 5 s")
    assert window.findings == ()


def test_energy_over_a_long_window(nvml, monkeypatch):
    monkeypatch.setattr("assay.bench.measure.energy.MIN_SECONDS", 0.5)
    nvml.script("power 0:100000")
    before = time.monotonic()
    with Meter(CPU, gpu=UUID) as meter, meter.window() as window:
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 0.5)
        shortest = time.monotonic() - began
    measured = values(window, samples=250)
    assert 100 * shortest <= measured["energy"] + 0.001 <= 100 * (time.monotonic() - before) + 0.002
    assert measured["energy_per_1000_samples"] == pytest.approx(4 * measured["energy"], rel=1e-9)


def test_windows_of_one_meter_share_the_baseline(nvml):
    nvml.script("memory 300*3 2300*2 1000")
    with Meter(CPU, gpu=UUID) as meter:
        with meter.window() as first:
            wait_for(lambda: nvml.readings >= 8)
        with meter.window() as second:
            wait_for(lambda: nvml.readings >= 12)
    assert first.measurements(1)["device_peak"].value == 2000 * MIB
    assert second.measurements(1)["device_peak"].value == 700 * MIB


def test_an_unfit_board_is_a_finding(nvml):
    nvml.script("reasons 0x1*2 0x40", f"processes {os.getpid()} 4242")
    with Meter(CPU, gpu=UUID) as meter, meter.window() as window:
        pass
    assert len(window.findings) == 2
    assert "heat (hw_thermal_slowdown)" in window.findings[0]
    assert "another process used the GPU (process 4242)" in window.findings[1]


def test_a_lost_sampler_is_a_missing_number_and_no_finding(no_nvml):
    with Meter(CPU, gpu=UUID) as meter, meter.window() as window:
        pass
    measured = window.measurements(samples=1)
    reason = "NVML: NVML Shared Library Not Found (error 12)"
    assert measured["device_peak"].reason == measured["energy"].reason == measured["idle_power"].reason == reason
    assert values(window)["rss_peak"] > 0
    assert window.findings == ()


def test_work_that_fails_closes_its_window(nvml):
    with Meter(CPU, gpu=UUID) as meter:
        with pytest.raises(MemoryError), meter.window() as window:
            raise MemoryError
        assert window.measurements(samples=1)["device_peak"].value == 0
        with meter.window() as following:
            pass
    assert following.measurements(samples=1)["device_peak"].value == 0


def test_torch_and_board_together(nvml, monkeypatch):
    # torch has no CUDA here: its three counters are scripted, the board's come through the real nvidia-ml-py
    held = {"now": 100 * MIB}
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 800 * MIB)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 900 * MIB)
    nvml.script("memory 150*2 1400")  # 50 MiB of others and 100 MiB of torch before the window
    with Meter(torch.device("cuda"), gpu=UUID) as meter, meter.window() as window:
        wait_for(lambda: nvml.readings >= 5)
    expected = {"allocated_peak": 800 * MIB, "reserved_peak": 900 * MIB, "device_peak": 1350 * MIB, "non_torch": 450 * MIB}
    assert values(window).items() >= expected.items()
    assert window.findings == ()

    nvml.script("memory 150*2 600")
    with Meter(torch.device("cuda"), gpu=UUID) as meter, meter.window() as window:
        wait_for(lambda: nvml.readings >= 5)
    (finding,) = window.findings
    assert finding.startswith("sampled peak of GPU memory")
