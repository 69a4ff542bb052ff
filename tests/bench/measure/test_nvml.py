"""The sampler against a scripted NVML library, through the real nvidia-ml-py."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from assay.bench.checkout import ROOT
from assay.bench.measure import nvml as nvml_module
from assay.bench.measure.board import find_faults
from assay.bench.measure.nvml import Sampler, query_board
from tests.fakes.nvml import is_alive, wait_for

MIB = 1 << 20
SECOND_UUID = "GPU-fa4e0000-0000-4000-8000-000000000001"


def ask(gpu=None):
    return query_board(gpu)


def watch(fake, readings, **options):
    """One window in which the used memory is read at least so often."""
    with Sampler(idle_seconds=0.0, period=0.002, **options) as sampler:
        sampler.start()
        wait_for(lambda: fake.readings >= readings or sampler.lost is not None)
        return sampler.stop()


def test_the_board_is_described(nvml):
    nvml.script("memory 100", "clocks 1410 7251", "limit 250000 300000", "reasons 0x44", "processes 4242", "capability 8 6", "cuda 12040")
    board = ask()
    assert (board.name, board.compute_capability, board.cuda_driver, board.driver) == ("NVIDIA A40", "8.6", "12.4", "580.65.06")
    assert (board.memory_bytes, board.used_bytes, board.free_bytes) == (46068 * MIB, 100 * MIB, (46068 - 581 - 100) * MIB)
    assert (board.ecc, board.mig, board.default_power_limit_w) == (True, None, 300.0)
    assert board.unavailable == {"mig": "NVML: Not Supported (error 3)"}
    assert (board.state.sm_clock_mhz, board.state.memory_clock_mhz, board.state.power_limit_w) == (1410, 7251, 250.0)
    assert board.state.event_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert (board.state.processes, board.state.ecc_uncorrected, board.state.unavailable) == ((4242,), 0, {})


def test_a_peak_that_lasts_one_reading_is_found(nvml):
    nvml.script("memory 4*10 1500*5 9000 5000")
    window = watch(nvml, readings=20)
    assert window.lost is None
    assert (window.baseline_bytes, window.peak_bytes) == (4 * MIB, 9000 * MIB)


def test_the_last_reading_belongs_to_the_window(nvml):
    # no tick falls due in an hour: baseline and peak are the readings at the edges
    nvml.script("memory 4*3 7000")
    with Sampler(idle_seconds=0.0, period=3600) as sampler:
        sampler.start()
        window = sampler.stop()
    assert (window.samples, window.baseline_bytes, window.peak_bytes) == (2, 4 * MIB, 7000 * MIB)


def test_the_sampler_tells_its_own_health(nvml):
    window = watch(nvml, readings=50)
    assert (window.memory_api, window.period_ms) == ("v2", 2.0)
    assert window.samples >= 45
    assert 2.0 <= window.largest_gap_ms <= window.seconds * 1e3 + 50
    assert window.cpu_seconds > 0


def test_energy_is_the_integral_of_the_power(nvml):
    nvml.script("power 0:200000", "energy 5000")
    with Sampler(idle_seconds=0.0) as sampler:
        before = time.monotonic()
        sampler.start()
        began = time.monotonic()
        wait_for(lambda: time.monotonic() - began > 0.3)
        ended = time.monotonic()
        window = sampler.stop()
        after = time.monotonic()
    assert window.energy_start_mj is not None
    assert window.energy_end_mj is not None
    joules = (window.energy_end_mj - window.energy_start_mj) / 1e3
    assert 200 * (ended - began) - 0.001 <= joules <= 200 * (after - before) + 0.001


def test_idle_power_is_read_before_any_window(nvml):
    nvml.script("power 0:31500")
    with Sampler(idle_seconds=0.1) as sampler:
        assert (sampler.idle_power.value, sampler.idle_power.unit) == (31.5, "W")
        assert 1 <= sampler.idle_power.n <= 6


def test_idle_power_that_the_board_does_not_tell(nvml):
    nvml.script("fail nvmlDeviceGetPowerUsage 3")
    with Sampler(idle_seconds=0.1) as sampler:
        assert sampler.idle_power.reason == "NVML: Not Supported (error 3)"


def test_a_board_without_an_energy_counter(nvml):
    nvml.script("fail nvmlDeviceGetTotalEnergyConsumption 3", "memory 4*5 700")
    window = watch(nvml, readings=10)
    assert (window.energy_start_mj, window.energy_end_mj, window.energy_reason) == (None, None, "NVML: Not Supported (error 3)")
    assert (window.lost, window.peak_bytes) == (None, 700 * MIB)


@pytest.mark.parametrize("code", [15, 999], ids=["gpu is lost", "unknown"])
def test_a_gpu_lost_on_the_way_is_a_reason(nvml, code):
    nvml.script(f"fail nvmlDeviceGetMemoryInfo_v2 {code} 20")
    with Sampler(idle_seconds=0.0, period=0.002) as sampler:
        sampler.start()
        wait_for(lambda: nvml.readings >= 19)
        assert str(sampler.stop().lost).endswith(f"(error {code})")
        sampler.start()  # the next window of the same case neither hangs nor raises
        assert str(sampler.stop().lost).endswith(f"(error {code})")


def test_a_gpu_lost_at_the_last_moment_is_a_reason(nvml):
    nvml.script("fail nvmlDeviceGetTotalEnergyConsumption 15 2")
    assert watch(nvml, readings=10).lost == "NVML: GPU is lost (error 15)"


def test_an_old_driver_is_read_by_v1_and_says_so(old_nvml):
    old_nvml.script("memory 4*10 1500*5 9000 5000", "reasons 4", "reserved 300")
    window = watch(old_nvml, readings=20)
    assert window.memory_api == "v1"
    assert (window.baseline_bytes, window.peak_bytes) == (304 * MIB, 9300 * MIB)  # both with the driver's reserve
    assert window.before.event_reasons == ("sw_power_cap",)
    assert window.before.processes is None
    assert "processes" in window.before.unavailable


def test_no_library_is_a_reason(no_nvml):
    assert ask() == "NVML: NVML Shared Library Not Found (error 12)"
    with Sampler() as sampler:
        sampler.start()
        assert sampler.stop().lost == sampler.lost == "NVML: NVML Shared Library Not Found (error 12)"


def test_a_driver_that_is_not_loaded_is_a_reason(nvml):
    nvml.script("fail nvmlInitWithFlags 9")
    assert ask() == "NVML: Driver Not Loaded (error 9)"


def test_the_gpu_is_chosen_by_uuid(nvml):
    nvml.script("gpus 2", "memory 100")
    assert ask(SECOND_UUID).used_bytes == 1124 * MIB
    assert ask().startswith("2 GPUs and none chosen: set CUDA_VISIBLE_DEVICES")
    assert ask("GPU-0").endswith("(error 6)")


def test_a_slice_of_a_gpu_is_found_by_the_uuid_that_torch_gives(nvml):
    nvml.script("uuid MIG-11111111-2222-3333-4444-555555555555")
    assert ask("GPU-11111111-2222-3333-4444-555555555555").name == "NVIDIA A40"


def test_a_killed_sampler_is_a_reason_not_an_error(nvml):
    with Sampler(idle_seconds=0.0, period=0.002) as sampler:
        sampler.start()
        os.kill(sampler.pid, signal.SIGKILL)
        assert sampler.stop().lost == "the NVML sampler died of SIGKILL"
        sampler.start()
        assert sampler.stop().lost == "the NVML sampler died of SIGKILL"


def test_a_driver_that_hangs_does_not_hang_the_case(nvml):
    nvml.script("hang nvmlDeviceGetMemoryInfo_v2 20")
    with Sampler(idle_seconds=0.0, period=0.002, answer_seconds=0.3) as sampler:
        sampler.start()
        wait_for(lambda: nvml.readings >= 19)
        assert sampler.stop().lost == "the NVML sampler did not answer within 0.3 s: the driver may hang (see dmesg)"
        assert not is_alive(sampler.pid)


def test_a_driver_that_hangs_from_the_start_does_not_hang_the_case(nvml, monkeypatch):
    nvml.script("hang nvmlInitWithFlags")
    monkeypatch.setattr(nvml_module, "START_SECONDS", 0.5)
    assert ask().startswith("the NVML sampler did not answer within 0.5 s")


def test_nothing_is_left_behind(nvml):
    before = {child.pid for child in psutil.Process().children()}
    with Sampler(idle_seconds=0.0) as sampler:
        assert is_alive(sampler.pid)
        sampler.start()
    assert not is_alive(sampler.pid)
    assert {child.pid for child in psutil.Process().children()} == before


PARENT = """
import os, signal, sys, time
from assay.bench.measure.nvml import Sampler
sampler = Sampler(idle_seconds=0.0)
if sys.argv[1] == "watching":
    sampler.start()
worker = os.fork()  # holds the sampler's pipe open, as a loader's worker would
if worker == 0:
    os.close(1)
    time.sleep(60)
    os._exit(0)
print(sampler.pid, worker, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("state", ["watching", "waiting"])
def test_the_sampler_dies_with_its_parent(nvml, state):
    done = subprocess.run([sys.executable, "-c", PARENT, state], stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    sampler, worker = map(int, done.stdout.split())
    try:
        wait_for(lambda: not is_alive(sampler))
    finally:
        os.kill(worker, signal.SIGKILL)


def test_ctrl_c_does_not_end_the_sampler(nvml):
    with Sampler(idle_seconds=0.0, period=0.002) as sampler:
        sampler.start()
        os.kill(sampler.pid, signal.SIGINT)
        wait_for(lambda: nvml.readings >= 20)
        assert sampler.stop().lost is None


NOBODY = frozenset[int]()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("reasons 1*2 0x40", "the GPU slowed down for heat (hw_thermal_slowdown)"),
        ("reasons 1*2 0x20", "the GPU slowed down for heat (sw_thermal_slowdown)"),
        ("reasons 1*2 0x80", "the GPU slowed down for its power supply (hw_power_brake_slowdown)"),
        ("ecc 0*2 3", "3 new uncorrected memory errors on the GPU"),
        ("processes 4242 4243", "another process used the GPU (process 4242, 4243)"),
    ],
)
def test_what_makes_a_window_invalid(nvml, line, fault):
    nvml.script(line)
    faults = find_faults(watch(nvml, readings=5), NOBODY, holds_context=False)
    assert [text.startswith(fault) for text in faults] == [True]


@pytest.mark.parametrize("line", ["reasons 0x1 0x4", "reasons 0x8", "ecc 7", "ecc off"], ids=["power cap", "clock change", "old errors", "no ecc"])
def test_what_does_not(nvml, line):
    nvml.script(line)
    assert find_faults(watch(nvml, readings=5), NOBODY, holds_context=False) == []


def test_the_case_itself_is_no_stranger(nvml):
    nvml.script("processes 4242")
    window = watch(nvml, readings=5)
    assert find_faults(window, frozenset({4242}), holds_context=True) == []
    assert find_faults(window, frozenset({7}), holds_context=True) == []  # 4242 is ourselves, by the host's number
    assert len(find_faults(window, frozenset({7}), holds_context=False)) == 1
    nvml.script("processes 4242 4243")
    window = watch(nvml, readings=5)
    assert "(process 4243)" in find_faults(window, frozenset({4242}), holds_context=True)[0]
    assert len(find_faults(window, frozenset({7}), holds_context=True)) == 1


def test_the_sampler_imports_nothing_but_pynvml():
    code = "import sys, assay.bench.measure.sampler; print([m for m in ('torch', 'numpy', 'pydantic', 'pytest') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip() == "[]"
