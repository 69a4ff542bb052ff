import hashlib
import os
import shutil
import subprocess

import pytest
import torch

from assay.bench.measure.machine import identify_environment, identify_machine
from assay.bench.records.record import Machine

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@localhost")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    root = tmp_path / "checkout"
    (root / "results").mkdir(parents=True)
    (root / "model.py").write_text("depth = 3\n")
    (root / "results" / "old.json").write_text("{}")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", root, *command], check=True)
    return root


def describe(root):
    return identify_environment(root, ["python", "-m", "bench"])


def test_a_cpu_is_described():
    machine = identify_machine(CPU)
    assert machine.cpu
    assert machine.cores >= 1
    assert machine.threads == torch.get_num_threads()
    assert machine.memory_bytes > 1 << 28
    assert machine.gpu is None
    assert machine.unavailable["gpu"] == "the case ran on cpu"
    Machine.model_validate_json(machine.model_dump_json())


def test_a_gpu_is_described_and_its_serial_number_hidden(nvml):
    nvml.script("limit 250000 300000", "clocks 1410 7251", "reasons 0x4", "cuda 12040")
    machine = identify_machine(CUDA)
    assert (machine.gpu, machine.gpu_memory_bytes, machine.compute_capability) == ("NVIDIA A40", 46068 << 20, "8.6")
    assert (machine.driver, machine.cuda_driver, machine.ecc, machine.power_limit_w) == ("580.65.06", "12.4", True, 250.0)
    assert (machine.sm_clock_mhz, machine.memory_clock_mhz, machine.event_reasons) == (1410, 7251, ("sw_power_cap",))
    assert machine.gpu_uuid_sha256 == hashlib.sha256(b"GPU-fa4e0000-0000-4000-8000-000000000000").hexdigest()
    assert machine.unavailable == {"mig": "NVML: Not Supported (error 3)"}
    assert "fa4e0000" not in machine.model_dump_json()


def test_a_gpu_that_cannot_be_asked_has_reasons(no_nvml):
    machine = identify_machine(CUDA)
    assert machine.gpu is None
    assert machine.unavailable["gpu"] == machine.unavailable["driver"] == "NVML: NVML Shared Library Not Found (error 12)"


def test_readings_that_an_old_driver_lacks_have_reasons(old_nvml):
    old_nvml.script("ecc off", "fail nvmlDeviceGetEnforcedPowerLimit 3")
    machine = identify_machine(CUDA)
    assert machine.gpu == "NVIDIA A40"
    assert (machine.ecc, machine.power_limit_w) == (None, None)
    assert set(machine.unavailable) == {"ecc", "mig", "power_limit_w"}


def test_a_clean_checkout(checkout):
    environment = describe(checkout)
    head = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert environment.git_sha == head
    assert environment.git_dirty_sha256 is None
    assert "git_sha" not in environment.unavailable
    assert environment.command == ("python", "-m", "bench")
    assert (environment.torch, environment.python.split(".")[0]) == (torch.__version__, "3")


def test_every_change_shows_in_the_hash(checkout):
    hashes = [describe(checkout).git_dirty_sha256]
    for change in (
        lambda: (checkout / "model.py").write_text("depth = 4\n"),
        lambda: (checkout / "model.py").write_text("depth = 5\n"),
        lambda: (checkout / "new name.py").write_text("x"),
        lambda: (checkout / "new name.py").write_text("y"),
        (checkout / "model.py").unlink,
    ):
        change()
        hashes.append(describe(checkout).git_dirty_sha256)
    assert len(set(hashes)) == len(hashes)
    assert describe(checkout).git_dirty_sha256 == hashes[-1]


def test_results_do_not_make_a_checkout_dirty(checkout):
    (checkout / "results" / "old.json").write_text("[]")
    (checkout / "results" / "new.json").write_text("{}")
    assert describe(checkout).git_dirty_sha256 is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed, as in an image")
def test_outside_a_checkout_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_REVISION", raising=False)  # an image knows its commit without git
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    environment = describe(tmp_path)
    assert (environment.git_sha, environment.git_dirty_sha256, environment.lock_sha256) == (None, None, None)
    assert environment.unavailable["git_sha"].startswith("fatal: not a git repository")
    assert environment.unavailable["lock_sha256"] == "no docker/cpu/requirements.txt here"


def test_without_git_there_is_a_reason(tmp_path, monkeypatch):
    monkeypatch.delenv("ASSAY_REVISION", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert describe(tmp_path).unavailable["git_sha"] == "git is not installed"


def test_the_lock_is_hashed(tmp_path):
    (tmp_path / "docker" / "cpu").mkdir(parents=True)
    (tmp_path / "docker" / "cpu" / "requirements.txt").write_bytes(b"torch==2.13.0\n")
    assert describe(tmp_path).lock_sha256 == hashlib.sha256(b"torch==2.13.0\n").hexdigest()


def test_an_image_knows_its_lock_and_its_commit(tmp_path, monkeypatch):
    (tmp_path / "docker" / "triton2").mkdir(parents=True)
    (tmp_path / "docker" / "triton2" / "requirements.txt").write_bytes(b"torch==2.1.2\n")
    monkeypatch.setenv("ASSAY_IMAGE", "triton2")
    monkeypatch.setenv("ASSAY_REVISION", "0123456789" * 4)
    environment = describe(tmp_path)
    assert environment.lock_sha256 == hashlib.sha256(b"torch==2.1.2\n").hexdigest()
    assert (environment.git_sha, environment.git_dirty_sha256) == ("0123456789" * 4, None)


@pytest.mark.parametrize("revision", ["unknown", "0123456789" * 4 + "-dirty"])
def test_an_image_of_changed_sources_names_no_commit(tmp_path, monkeypatch, revision):
    monkeypatch.setenv("ASSAY_REVISION", revision)
    environment = describe(tmp_path)
    assert environment.git_sha is None
    assert environment.unavailable["git_sha"] == f"ASSAY_REVISION is {revision!r}: the image was not built from a commit as it stands"


@pytest.mark.parametrize(
    ("value", "reason"),
    [("", "BENCH_IMAGE_DIGEST is not set: not run from a known image"), ("unknown", "BENCH_IMAGE_DIGEST is 'unknown', not sha256:<64 hexadecimal digits>")],
)
def test_an_image_is_never_guessed(tmp_path, monkeypatch, value, reason):
    monkeypatch.setenv("BENCH_IMAGE_DIGEST", value)
    environment = describe(tmp_path)
    assert environment.image_digest is None
    assert environment.unavailable["image_digest"] == reason


def test_an_image_is_named_by_its_digest(tmp_path, monkeypatch):
    digest = "sha256:" + "0123456789abcdef" * 4
    monkeypatch.setenv("BENCH_IMAGE_DIGEST", digest)
    assert describe(tmp_path).image_digest == digest


def test_packages_are_hashed_by_name_and_version(tmp_path, monkeypatch):
    before = describe(tmp_path).packages_sha256
    assert describe(tmp_path).packages_sha256 == before
    info = tmp_path / "extra" / "novel-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: novel\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(info.parent)
    assert describe(tmp_path).packages_sha256 != before


def test_torch_describes_a_gpu_that_nvml_does_not(no_nvml, monkeypatch):
    properties = type("Properties", (), {"name": "NVIDIA A40", "total_memory": 47_600_000_000, "major": 8, "minor": 6})()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    machine = identify_machine(CUDA)
    assert (machine.gpu, machine.gpu_memory_bytes, machine.compute_capability) == ("NVIDIA A40", 47_600_000_000, "8.6")
    assert "gpu" not in machine.unavailable
    assert machine.unavailable["driver"] == "NVML: NVML Shared Library Not Found (error 12)"
