"""compose.yaml and the Docker launcher on a real engine with a scripted GPU: what a user sees, and what a container cannot do."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.record import RunStore
from tests.conftest import heed_interrupts

ROOT = Path(__file__).resolve().parents[2]
FEW = ("--select", "affinity-v1/documented/train", "--division", "closed", "--preset", "smoke")
PRETENDED = "--emulated=gpu: scripted NVML"
LABEL = "label=assay.launcher"
CONTAINED = """
import os, pathlib
status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
writable = [place for place in ("/", "/assay", "/opt/assay", "/etc", "/data") if os.access(place, os.W_OK)]
print(os.getuid(), sorted(os.listdir("/sys/class/net")), int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"], writable)
"""


class Host:
    """A user's machine: a checkout's compose.yaml beside a results folder, and the engine."""

    def __init__(self, engine, folder: Path) -> None:
        self.engine, self.folder, self.results = engine, folder, folder / "results"
        shutil.copytree(ROOT / "results" / "baselines", self.results / "baselines")
        os.chown(self.results, 1000, 1000)
        shutil.copy(ROOT / "compose.yaml", folder)

    def docker(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | self.engine.variables | variables
        return subprocess.run(["docker", *arguments], cwd=self.folder, env=environment, capture_output=True, text=True, timeout=240)

    def compose_run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.docker("compose", "run", "--rm", *arguments, **variables)

    def launch(self, *arguments: str) -> list[str]:
        os.chown(self.results, os.getuid(), os.getgid())  # its containers run as the user who launches them
        return [sys.executable, "-m", "bench", "run", "--engine", "docker", "--image", "cpu", "--out", str(self.results), *arguments]

    def containers(self) -> list[str]:
        return self.docker("ps", "--all", "--quiet", "--filter", LABEL).stdout.split()


@pytest.fixture
def host(engine, tmp_path):
    return Host(engine, tmp_path)


@pytest.fixture
def digest(host):
    return host.docker("image", "inspect", "--format", "{{.Id}}", "assay:cpu").stdout.strip()


def test_docker_compose_understands_the_file(host):
    done = host.docker("compose", "config", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # stderr: e.g. a variable that is not set


def test_bench_cpu_leaves_records_on_the_host(host, digest):
    done = host.compose_run("bench-cpu", *FEW, "--name", "small", BENCH_IMAGE_DIGEST=digest)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "doctor: " in done.stderr
    store = RunStore(host.results / "runs" / "small")
    assert store.verify_chain() == []
    (record,) = store.read()
    assert record.environment is not None
    assert (record.environment.image_digest, record.profile, record.outcome) == (digest, "cpu", "ok")
    assert store.paths()[0].stat().st_uid == 1000


def test_a_container_has_no_network_no_capability_and_nothing_to_write_to(host):
    done = host.compose_run("--entrypoint", "/opt/assay/bin/python", "bench-cpu", "-c", CONTAINED)
    assert done.stdout.split("\n")[0] == "1000 ['lo'] 0 0 1 []", done.stdout + done.stderr


def test_results_that_are_missing_are_a_clear_error_and_are_not_created(host):
    shutil.rmtree(host.results)
    done = host.compose_run("bench-cpu", *FEW)
    assert done.returncode != 0
    assert f"bind source path does not exist: {host.results}" in done.stderr
    assert not host.results.exists()


def test_results_that_cannot_be_written_are_refused_with_a_remedy(host):
    os.chown(host.results, 0, 0)
    done = host.compose_run("bench-cpu", *FEW)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "results cannot be written: Permission denied" in done.stderr
    assert "BENCH_UID=$(id -u)" in done.stderr


@pytest.fixture
def a40(host):
    """A scripted A40, and the cpu image in the place of the cuda image: CUDA itself is not faked."""
    host.docker("tag", "assay:cpu", "assay:cuda")
    host.engine.fake_gpu("NVIDIA A40")
    return host


def test_a_gpu_that_passes_still_needs_a_torch_for_it(a40):
    done = a40.compose_run("bench-a40", *FEW)
    assert done.returncode == 4, done.stdout + done.stderr
    refused = [line for line in done.stderr.splitlines() if line.endswith(".")]
    assert [line.partition(":")[0] for line in refused] == ["torch build"], done.stderr


def test_cases_of_a_gpu_profile_run_on_the_cpu_only_when_told_and_say_so(a40):
    done = a40.compose_run("bench-a40", PRETENDED, *FEW, "--name", "pretended")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = RunStore(a40.results / "runs" / "pretended").read()
    assert (record.profile, record.emulated) == ("a40", ("gpu: scripted NVML",))
    assert record.machine is not None
    assert record.machine.gpu is None


def test_another_gpu_is_refused_with_what_was_found_wanted_and_to_do(a40):
    a40.engine.fake_gpu("NVIDIA GeForce RTX 4090", "driver 470.82.01")
    (a40.folder / "little.yaml").write_text("services: {bench-a40: {shm_size: 64m}}\n")
    done = a40.docker("compose", "-f", "compose.yaml", "-f", "little.yaml", "run", "--rm", "bench-a40", *FEW)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "gpu: found NVIDIA GeForce RTX 4090. Wanted: NVIDIA A40" in done.stderr
    assert "Run `docker compose run --rm bench-rtx4090`" in done.stderr
    assert "driver: 470.82.01. Wanted: 525.60.13 or later for profile a40. Install a newer NVIDIA driver on the host." in done.stderr
    assert "shared memory: /dev/shm has 0.06 GiB. Wanted: 1 GiB. Give the container shm_size" in done.stderr


def launch(host, *arguments):
    return subprocess.run(host.launch(*arguments), cwd=ROOT, env=os.environ | host.engine.variables, capture_output=True, text=True, timeout=240)


def test_the_launcher_runs_the_same_cases_in_two_images_side_by_side(a40, digest):
    again = ("--image", "assay:cuda", "--profile", "a40", "--gpu", "0", PRETENDED)
    done = launch(a40, *again, *FEW, "--name", "pair")
    assert done.returncode == 0, done.stdout + done.stderr
    records = [RunStore(a40.results / "runs" / f"pair-{image}").read() for image in ("cpu", "cuda")]
    assert [[record.environment and record.environment.image_digest for record in found] for found in records] == [[digest], [digest]]
    assert [[record.emulated for record in found] for found in records] == [[("gpu: scripted NVML",)]] * 2
    assert "assay:cuda beside assay:cpu" in done.stdout
    assert f'"assay:cpu" = "{digest}"' in (a40.results / "images.toml").read_text()
    assert a40.containers() == []


def start(host, name):
    """A run by the launcher whose case is under way, as its log shows."""
    process = subprocess.Popen(
        host.launch(*FEW, "--name", name), cwd=ROOT, env=os.environ | host.engine.variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or list((host.results / "runs" / name / "logs").glob("*.log")))
    assert process.poll() is None, process.communicate()[0]
    return process


def wait_for(condition, seconds=60.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"nothing happened for {seconds} s"
        time.sleep(0.05)


def test_what_a_killed_launcher_leaves_ends_by_itself_and_is_swept_and_ctrl_c_leaves_nothing(host):
    process = start(host, "killed")
    (orphan,) = host.containers()
    process.kill()
    process.communicate()
    wait_for(lambda: host.docker("inspect", "--format", "{{.State.Running}}", orphan).stdout.strip() == "false")
    process = start(host, "interrupted")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "removed 1 containers of a run that is gone" in output
    assert f"Go on with: python -m bench run --engine docker --image cpu --out {host.results} " in output
    assert "--name interrupted --resume" in output
    (record,) = RunStore(host.results / "runs" / "interrupted").read()
    assert (record.outcome, record.reason) == ("crash", "interrupted by the user")
    assert host.containers() == []


def test_without_a_gpu_runtime_nothing_starts_and_the_reason_is_clear(host):
    host.docker("tag", "assay:cpu", "assay:cuda")
    host.engine.remove_gpu()
    done = host.compose_run("bench-a40", *FEW)
    assert done.returncode != 0
    assert 'could not select device driver "nvidia"' in done.stderr
    done = launch(host, "--gpu", "0", "--profile", "a40", *FEW)
    assert done.returncode == 4
    assert 'Docker cannot start one: could not select device driver "nvidia"' in done.stderr
    assert "install the NVIDIA Container Toolkit" in done.stderr
    assert host.containers() == []
