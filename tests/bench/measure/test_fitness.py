import os
import re

import pytest
import torch
from ruamel.yaml import YAML

from assay.bench.case import Precision
from assay.bench.measure import fitness
from assay.bench.measure.calibration import Calibration, calibrate_device
from assay.bench.measure.fitness import check_fitness, find_least_driver, serves_capability
from assay.bench.measure.load import Load, read_load
from assay.bench.profiles import load_profile
from tests.conftest import ROOT

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
A40 = load_profile("a40")


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch):
    """Whatever else runs on the machine of these tests."""
    monkeypatch.setattr(fitness, "read_load", lambda: Load(busy=0.0, stolen=0.0, cores=4, average=0.1))


def check(tmp_path, profile=A40, device=CUDA):
    findings = check_fitness(profile, device, results=tmp_path, calibrate=False)
    assert all(finding.remedy and finding.wanted for finding in findings if not finding.ok)
    assert not any(finding.remedy or finding.wanted for finding in findings if finding.ok)
    return {finding.name: finding for finding in findings}


def refusals(found):
    return {name for name, finding in found.items() if not finding.ok}


@pytest.fixture
def cuda_build(monkeypatch):
    """A torch for CUDA 13.0 with a device: what of it fitness asks is plain values."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90", "sm_120"])
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: type("Properties", (), {"uuid": "fa4e0000-0000-4000-8000-000000000000"})())
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)


def test_a_fit_gpu_passes_every_check(nvml, cuda_build, tmp_path):
    found = check(tmp_path)
    assert refusals(found) <= {"shared memory"}  # which this machine may or may not have enough of
    names = {"results folder", "gpu", "driver", "free memory", "processes", "power limit", "clocks", "ecc", "torch build", "cuda", "architecture"}
    assert names <= set(found)
    assert found["power limit"].message == "300 W, default 300 W"


def test_a_wrong_gpu_is_refused_with_the_profile_that_fits(nvml, cuda_build, tmp_path):
    nvml.script("name NVIDIA GeForce RTX 4090")
    gpu = check(tmp_path)["gpu"]
    assert not gpu.ok
    assert gpu.message == "found NVIDIA GeForce RTX 4090."
    assert gpu.wanted == "NVIDIA A40 48 GB (named NVIDIA A40) for profile a40"
    assert gpu.remedy.startswith("Run with --profile rtx4090, or choose another GPU")


def test_an_unknown_gpu_is_refused_with_the_way_to_add_it(nvml, cuda_build, tmp_path):
    nvml.script("name NVIDIA A40-48Q")
    assert "add a profile for this one" in check(tmp_path)["gpu"].remedy


@pytest.mark.parametrize(
    ("line", "name", "message", "wanted"),
    [
        ("driver 570.26", "driver", "570.26.", "580 or later for CUDA 13.0, which torch is built for"),
        ("memory 9000", "free memory", "35.6 of 45.0 GiB free.", "90 % of it"),
        ("processes 4242", "processes", "other processes use the GPU: 4242.", "a GPU of its own"),
        ("limit 250000 300000", "power limit", "250 W, default 300 W.", "the default or more"),
        ("reasons 0x44", "clocks", "held by: sw_power_cap, hw_thermal_slowdown.", "clocks that neither heat nor a power brake holds"),
        ("reasons 0x80", "clocks", "held by: hw_power_brake_slowdown.", "clocks that neither heat nor a power brake holds"),
        ("ecc 2", "ecc", "2 uncorrected memory errors since the driver was loaded.", "none"),
        ("cuda 12020", "cuda", "driver 580.65.06 serves CUDA 12.2, torch is built for CUDA 13.0.", "a driver of the same CUDA major version or a later one"),
        ("capability 7 0", "architecture", "compute capability 7.0, torch is built for sm_75 sm_80 sm_90 sm_120.", "a build that has it"),
    ],
)
def test_what_makes_a_gpu_unfit(nvml, cuda_build, tmp_path, line, name, message, wanted):
    nvml.script(line)
    found = check(tmp_path)
    assert refusals(found) - {"shared memory"} == {name}
    assert (found[name].message, found[name].wanted) == (message, wanted)


@pytest.mark.parametrize("line", ["driver 580.00", "cuda 13020", "reasons 0x5", "ecc off", "memory 300", "processes {own}"])
def test_what_does_not(nvml, cuda_build, tmp_path, line):
    nvml.script(line.format(own=os.getpid()))
    assert refusals(check(tmp_path)) <= {"shared memory"}


@pytest.mark.parametrize(
    ("built", "profile", "wanted"),
    [
        ("13.0", "a40", "580 or later for CUDA 13.0, which torch is built for"),
        ("12.1", "a40", "525.60.13 or later for profile a40"),
        ("12.1", "rtx5090", "570.26 or later for profile rtx5090"),
        ("13.0", "rtx5090", "580 or later for CUDA 13.0, which torch is built for"),
        ("14.0", "a40", "525.60.13 or later for profile a40"),  # the check named cuda asks the driver itself
    ],
)
def test_the_driver_must_serve_the_profile_and_the_cuda_of_torch(nvml, cuda_build, tmp_path, monkeypatch, built, profile, wanted):
    monkeypatch.setattr(torch.version, "cuda", built)
    nvml.script("driver 470.82.01")
    assert check(tmp_path, load_profile(profile))["driver"].wanted == wanted


def test_where_the_cases_run_on_the_cpu_the_cuda_of_torch_asks_for_no_driver(nvml, cuda_build, tmp_path):
    nvml.script("driver 525.60.13")
    found = check_fitness(A40, CPU, results=tmp_path, calibrate=False, emulated=True)
    assert [finding.message for finding in found if finding.name == "driver"] == ["525.60.13"]


def test_the_readme_asks_for_the_drivers_that_the_doctor_asks_for():
    told: dict[str, tuple[str, str]] = {}
    for row, cuda, driver in re.findall(r"^\| (`bench-.*) \|[^|]*\|[^|]*CUDA (\d+)[^|]*\| (\d+) or later \|$", (ROOT / "README.md").read_text(), re.MULTILINE):
        told |= dict.fromkeys(re.findall(r"`(bench-[\w-]+)`", row), (cuda, driver))
    services = YAML(typ="safe").load((ROOT / "compose.yaml").read_text())["services"]
    on_gpu = {name: service["environment"]["BENCH_PROFILE"].split(",") for name, service in services.items() if "deploy" in service}
    assert set(told) == set(on_gpu)
    for service, (cuda, driver) in told.items():
        least = {find_least_driver(load_profile(profile), f"{cuda}.0")[0] for profile in on_gpu[service]}
        assert {version.partition(".")[0] for version in least if version} == {driver}, service


def test_readings_that_are_not_there_refuse_nothing(old_nvml, cuda_build, tmp_path):
    old_nvml.script("ecc off", "fail nvmlDeviceGetEnforcedPowerLimit 3", "fail nvmlDeviceGetCurrentClocksThrottleReasons 3")
    found = check(tmp_path)
    assert refusals(found) <= {"shared memory"}
    assert all(found[name].message.startswith("cannot be told: ") for name in ("ecc", "power limit", "clocks", "processes"))


def test_no_library_is_a_refusal_for_gpu_profiles_only(no_nvml, tmp_path):
    nvml_finding = check(tmp_path)["nvml"]
    assert not nvml_finding.ok
    assert nvml_finding.message == "no GPU can be asked: NVML: NVML Shared Library Not Found (error 12)."
    assert "nvml" not in check(tmp_path, load_profile("cpu"), CPU)


def test_a_torch_without_cuda_is_a_refusal(nvml, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    found = check_fitness(A40, CUDA, results=tmp_path, calibrate=True)  # and no calibration is tried
    assert [f.name for f in found if not f.ok and f.name != "shared memory"] == ["torch build"]


def test_results_that_cannot_be_written_are_a_refusal(tmp_path):
    found = check(tmp_path / "none", load_profile("cpu"), CPU)
    assert found["results folder"].message == f"{tmp_path / 'none'} cannot be written: No such file or directory."


def test_little_shared_memory_is_a_refusal_for_gpus(nvml, cuda_build, tmp_path, monkeypatch):
    monkeypatch.setattr(fitness, "SHARED_MEMORY_GIB", 1e9)
    assert "shared memory" in refusals(check(tmp_path))
    assert "shm_size" in check(tmp_path)["shared memory"].remedy
    assert refusals(check(tmp_path, load_profile("cpu"), CPU)) == set()


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        (["sm_80"], "8.6", True),
        (["sm_86"], "8.0", False),
        (["sm_80"], "9.0", False),
        (["compute_80"], "9.0", True),
        (["compute_90"], "8.9", False),
        (["sm_90a"], "9.0", True),
        (["sm_90a"], "9.1", False),
        (["sm_120"], "12.0", True),
        (["sm_100"], "12.0", False),
        ([], "8.6", False),
    ],
)
def test_which_builds_run_where(archs, capability, runs):
    assert serves_capability(archs, capability) is runs


@pytest.mark.parametrize(
    ("flops", "bandwidth", "refused"),
    [(120e12, 600e9, set()), (49e12, 600e9, {f"matrix product {p}" for p in ("bf16", "fp16")}), (50e12, 348e9, set()), (120e12, 347e9, {"copy"})],
)
def test_calibration_is_held_against_the_datasheet(nvml, cuda_build, tmp_path, monkeypatch, flops, bandwidth, refused):
    monkeypatch.setattr(fitness, "calibrate_device", lambda device, precisions: Calibration(dict.fromkeys(precisions, flops), bandwidth))
    found = {f.name: f for f in check_fitness(A40, CUDA, results=tmp_path, calibrate=True)}
    assert refusals(found) - {"shared memory"} == refused
    assert found["matrix product bf16"].message.startswith(f"bf16 matrix product {flops / 1e12:.3g} TFLOP/s, {100 * flops / 149.7e12:.0f} % of the datasheet")


def test_on_a_cpu_calibration_is_reported_only(tmp_path, monkeypatch):
    monkeypatch.setattr("assay.bench.measure.calibration.SECONDS", 0.05)
    found = {f.name: f for f in check_fitness(load_profile("cpu"), CPU, results=tmp_path, calibrate=True)}
    assert refusals(found) == set()
    for precision in ("fp32", "bf16"):
        assert re.fullmatch(f"{precision} matrix product .+ TFLOP/s; the profile promises nothing", found[f"matrix product {precision}"].message)
    assert found["open division"].message.startswith(("runs in bf16: the CPU has ", "runs in fp32: the CPU multiplies bfloat16 in software"))
    assert found["copy"].message.endswith("read and written; the profile promises nothing")


def test_the_product_counts_two_operations_per_multiply_add(monkeypatch):
    monkeypatch.setattr("assay.bench.measure.calibration._time_call", lambda call, device: 0.5 if call() is not None else 0.0)
    reached = calibrate_device(CPU, [Precision.FP32, Precision.BF16])
    assert reached.flops == dict.fromkeys([Precision.FP32, Precision.BF16], 2 * 1024**3 / 0.5)
    assert reached.bandwidth == 2 * (1 << 26) / 0.5


@pytest.mark.parametrize(
    ("busy", "stolen", "message"),
    [
        (0.26, 0.0, "other work takes 26 % of 4 cores, a host 0 %; load average 3.40."),
        (0.0, 0.06, "other work takes 0 % of 4 cores, a host 6 %; load average 3.40."),
    ],
)
def test_a_busy_cpu_is_unfit_for_a_cpu_profile_only(nvml, cuda_build, tmp_path, monkeypatch, busy, stolen, message):
    monkeypatch.setattr("assay.bench.measure.calibration.SECONDS", 0.01)
    monkeypatch.setattr(fitness, "read_load", lambda: Load(busy=busy, stolen=stolen, cores=4, average=3.4))
    found = {f.name: f for f in check_fitness(load_profile("cpu"), CPU, results=tmp_path, calibrate=True)}
    assert refusals(found) == {"other work"}
    assert (found["other work"].message, found["other work"].wanted) == (message, "less than 25 % and 5 %")
    monkeypatch.setattr(fitness, "calibrate_device", lambda device, precisions: Calibration(dict.fromkeys(precisions, 120e12), 600e9))
    assert "other work" not in refusals({f.name: f for f in check_fitness(A40, CUDA, results=tmp_path, calibrate=True)})


def test_the_load_of_this_machine_is_a_share_of_it(monkeypatch):
    monkeypatch.setattr("assay.bench.measure.load.WINDOW_SECONDS", 0.05)
    load = read_load()
    assert 0 <= load.busy <= 1
    assert 0 <= load.stolen <= 1
    assert load.cores >= 1
