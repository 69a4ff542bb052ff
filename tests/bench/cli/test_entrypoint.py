"""What a service does before its first case: the doctor's refusals, the profile, the data. Containers run it in tests/docker."""

import os
import subprocess
import sys

import pytest

from assay.bench.case import UsageError
from assay.bench.cli.entrypoint import choose_options, find_data
from assay.bench.measure import fitness
from assay.bench.measure.fitness import NotFit
from assay.bench.records.store import RunStore
from tests.conftest import ROOT

PRETENDED = ["--emulated", "gpu: scripted NVML"]
A100 = "a100-80gb,a100-80gb-pcie"


@pytest.fixture(autouse=True)
def enough_shared_memory(monkeypatch):
    monkeypatch.setattr(fitness, "SHARED_MEMORY_GIB", 0)


def refusals(profile, arguments=()):
    with pytest.raises(NotFit) as refused:
        choose_options({"BENCH_PROFILE": profile}, arguments)
    return {finding.name: finding for finding in refused.value.refusals}


def test_another_gpu_is_refused_with_what_was_found_wanted_and_to_do(nvml):
    nvml.script("name NVIDIA GeForce RTX 4090")
    gpu = refusals("a40", PRETENDED)["gpu"]
    assert (gpu.message, gpu.wanted) == ("found NVIDIA GeForce RTX 4090.", "NVIDIA A40 48 GB (named NVIDIA A40) for profile a40")
    assert gpu.remedy == "Run `docker compose run --rm bench-rtx4090`, or choose another GPU with BENCH_GPU=1 docker compose run ..."


def test_a_gpu_that_no_profile_knows_is_refused_with_the_way_to_add_it(nvml):
    nvml.script("name NVIDIA L40S")
    assert refusals("a40", PRETENDED)["gpu"].remedy.startswith("No profile knows this GPU: add one to bench/profiles")


def test_of_several_profiles_the_gpu_decides(nvml):
    nvml.script("name NVIDIA A100 80GB PCIe")
    options = choose_options({"BENCH_PROFILE": A100, "BENCH_PRESET": "standard"}, PRETENDED)
    assert options == ["--profile", "a100-80gb-pcie", "--preset", "standard"]


def test_a_gpu_that_fits_none_of_several_profiles_is_refused_with_all_of_them(nvml):
    found = refusals(A100)["gpu"]
    assert (found.message, found.wanted) == ("found NVIDIA A40.", "NVIDIA A100 80 GB SXM or NVIDIA A100 80 GB PCIe")
    assert found.remedy.startswith("Run `docker compose run --rm bench-a40`")


@pytest.mark.parametrize("profile", ["a40", A100])
def test_no_gpu_is_refused(no_nvml, profile):
    assert "no GPU can be asked" in refusals(profile)["nvml"].message


def test_an_old_driver_is_refused(nvml):
    nvml.script("driver 470.82.01")
    assert set(refusals("a40", PRETENDED)) == {"driver"}


def test_little_shared_memory_is_refused(nvml, monkeypatch):
    monkeypatch.setattr(fitness, "SHARED_MEMORY_GIB", 1e9)
    assert "shm_size" in refusals("a40", PRETENDED)["shared memory"].remedy


def test_results_that_cannot_be_written_are_refused_in_the_words_of_compose(nvml, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "BENCH_UID=$(id -u)" in refusals("a40", PRETENDED)["results folder"].remedy


def test_a_gpu_profile_does_not_run_on_the_cpu_unasked(nvml):
    assert set(refusals("a40")) <= {"torch build", "architecture", "cuda"}
    assert refusals("a40")


@pytest.mark.parametrize("argument", ["--profile=a40", "--profile"])
def test_the_profile_is_the_services_to_set(argument):
    with pytest.raises(UsageError, match="run the service of that GPU"):
        choose_options({"BENCH_PROFILE": "cpu"}, [argument])


def test_real_data_are_used_where_there_are_any(tmp_path):
    assert find_data(tmp_path / "none", {}) == []
    assert find_data(tmp_path, {"BENCH_DATA": ""}) == []
    with pytest.raises(UsageError, match=r"BENCH_DATA=\.\./data holds nothing.*`sudo rmdir \.\./data`.*`docker compose run --rm data`"):
        find_data(tmp_path, {"BENCH_DATA": "../data"})
    (tmp_path / "gue").mkdir()
    assert find_data(tmp_path, {"BENCH_DATA": "../data"}) == ["--data", str(tmp_path)]


def start(*arguments, **variables):
    command = [sys.executable, "-m", "assay.bench.cli.entrypoint", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, timeout=240)


def test_exit_code_4_for_an_unfit_machine(nvml):
    nvml.script("name NVIDIA GeForce RTX 4090")
    done = start(BENCH_PROFILE="a40")
    assert done.returncode == 4
    assert done.stdout == ""
    assert "profile a40: not fit to measure on" in done.stderr
    assert "Run `docker compose run --rm bench-rtx4090`" in done.stderr


def test_the_cases_of_a_gpu_profile_run_on_the_cpu_when_told_and_say_so(nvml, tmp_path):
    arguments = ("--select", "affinity-v1/documented/train", "--division", "closed", "--out", str(tmp_path), "--name", "pretended")
    done = start(*PRETENDED, *arguments, BENCH_PROFILE="a40", BENCH_PRESET="smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    records = RunStore(tmp_path / "runs" / "pretended").read()
    assert {(record.profile, record.emulated) for record in records} == {("a40", ("gpu: scripted NVML",))}
    assert all(record.machine is not None and record.machine.gpu is None for record in records)
    assert "emulated: gpu: scripted NVML" in (tmp_path / "LEADERBOARD.md").read_text()


@pytest.mark.usefixtures("checkout")
def test_exit_codes_of_the_run_pass_through(tmp_path):
    assert start("--select", "no-such-case", "--out", str(tmp_path), BENCH_PROFILE="cpu").returncode == 2
