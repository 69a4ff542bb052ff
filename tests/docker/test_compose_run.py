"""compose.yaml and the Docker launcher on a real engine with a scripted GPU: what a user sees, and what a container cannot do."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from docker.client import DockerClient

from assay.bench.gate.container import Image as ImageSide
from assay.bench.gate.container import open_image
from assay.bench.gate.harness import open_sides
from assay.bench.gate.line import Line
from assay.bench.gate.pair import B
from assay.bench.gate.protocol import PROTOCOL
from assay.bench.gate.reference import hash_files
from assay.bench.records.store import RunStore
from assay.bench.running.containers import HARDENED, PYTHON, Containers, Image, name_launcher
from benchmarks.gate_rig.injection import copy_project
from tests.conftest import ROOT, heed_interrupts

FEW = ("--select", "affinity-v1/documented/train", "--division", "closed", "--preset", "smoke")
PRETENDED = "--emulated=gpu: scripted NVML"
LABEL = "label=assay.launcher"
# whether the file system itself refuses: a user who is not root may not write to / anyway
CONTAINED = """
import json, os, pathlib
status = dict(line.split(":\\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
def write(folder):
    try:
        pathlib.Path(folder, "probe").write_text("")
        pathlib.Path(folder, "probe").unlink()
    except OSError as error:
        return os.strerror(error.errno)
    return "written"
mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
own = [place for _, place, _, options, *_ in mounts if "rw" in options.split(",") and not place.startswith(("/proc", "/sys", "/dev"))]
print(json.dumps({
    "read-only root": bool(os.statvfs("/").f_flag & os.ST_RDONLY), "mounted to write": sorted(own),
    "write": {place: write(place) for place in ("/assay/results", "/cache", "/tmp")},
    "user": os.getuid(), "network": sorted(os.listdir("/sys/class/net")),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")], "no new privileges": status["NoNewPrivs"],
}))
"""


def contained(user, results="written"):
    mounted = ["/cache", "/tmp"] if results != "written" else ["/assay/results", "/cache", "/tmp"]
    return {
        "read-only root": True, "mounted to write": mounted, "write": {"/assay/results": results, "/cache": "written", "/tmp": "written"},
        "user": user, "network": ["lo"], "capabilities": [0, 0, 0, 0], "no new privileges": "1",
    }  # fmt: skip


class Host:
    """A user's machine: a checkout's compose.yaml beside a results folder, and the engine."""

    def __init__(self, engine, folder: Path) -> None:
        self.engine, self.folder, self.results = engine, folder, folder / "results"
        self.second = ""  # digest of the image in assay:cuda's place
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
    assert json.loads(done.stdout) == contained(1000)


def probe(container):
    """What holds inside a running container, and that the engine was asked for no less than for all containers."""
    container.reload()
    host = container.attrs["HostConfig"]
    told = {"init": host["Init"], "network_mode": host["NetworkMode"], "read_only": host["ReadonlyRootfs"], "cap_drop": host["CapDrop"],
            "security_opt": host["SecurityOpt"], "user": container.attrs["Config"]["User"], "stdin_open": container.attrs["Config"]["OpenStdin"]}  # fmt: skip
    assert told == HARDENED
    assert host["Privileged"] is False
    assert container.labels == container.labels | {"assay.launcher": name_launcher()}
    code, output = container.exec_run([PYTHON, "-c", CONTAINED])
    assert code == 0, output
    return json.loads(output)


@pytest.fixture
def client(host):
    opened = DockerClient(base_url=host.engine.variables["DOCKER_HOST"])
    yield opened
    opened.close()


def test_so_it_is_in_a_container_of_the_launcher(host, client, digest):
    os.chown(host.results, os.getuid(), os.getgid())
    containers = Containers(client=client, image=Image("assay:cpu", digest), gpu=None, results=host.results, data=None)
    with containers.start(["-c", "input()"]) as running:
        assert probe(running.container) == contained(os.getuid())
    assert host.containers() == []


def test_so_it_is_in_a_container_of_the_gate(host, client, digest, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", host.engine.variables["DOCKER_HOST"])
    image = open_image(digest, gpu=False)
    with contextlib.closing(image.start(tmp_path / "log", None)), contextlib.closing(image.containers.client):
        (container,) = client.containers.list(filters={"label": "assay.launcher"})
        assert probe(container) == contained(os.getuid(), "Read-only file system")
    assert host.containers() == []


def test_a_side_that_is_an_image_is_run_by_the_reference_s_harness(host, client, digest, tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", host.engine.variables["DOCKER_HOST"])
    reference = copy_project(ROOT, tmp_path / "reference")
    (reference / "bench" / "another.py").write_text("# another harness\n")
    with open_sides(str(reference), digest, ROOT, gpu=False) as sides:
        side = sides.sources[B]
        assert isinstance(side, ImageSide)
        pipe = side.start(tmp_path / "log", None)
        with Line(pipe, 120) as line:
            assert line.greet().protocol == PROTOCOL
            (container,) = client.containers.list(filters={"label": "assay.launcher"})
            assert container.exec_run(["cat", "/assay/bench/another.py"]).output == b"# another harness\n"
            usage = pipe.read_usage()
            assert usage is not None, "the engine's processes are this system's"
            assert 0.1 < usage.main <= usage.ran
            assert pipe.read_standing() is not None
        assert sides.borrowed
        assert hash_files(side.copy_harness(tmp_path / "its-own")) == hash_files(ROOT / "bench")
        side.containers.client.close()
    assert host.containers() == []


def test_what_a_killed_gate_leaves_the_next_one_removes(host, digest, monkeypatch, tmp_path):
    script = "import sys, os, pathlib; from assay.bench.gate.container import open_image\nopen_image(sys.argv[1], gpu=False).start(pathlib.Path(sys.argv[2]), None); os._exit(9)"
    environment = os.environ | host.engine.variables
    killed = subprocess.run([sys.executable, "-c", script, digest, tmp_path / "log"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (killed.returncode, len(host.containers())) == (9, 1), killed.stderr
    monkeypatch.setenv("DOCKER_HOST", host.engine.variables["DOCKER_HOST"])
    open_image(digest, gpu=False).containers.client.close()
    assert host.containers() == []


def test_the_services_that_need_no_gpu_start(host):
    # the private engine makes no networks; `data` has one of its own otherwise
    (host.folder / "offline.yaml").write_text("services: {data: {network_mode: none}}\n")
    board = host.compose_run("board")
    assert board.returncode == 0, board.stdout + board.stderr
    assert {"LEADERBOARD.md", "CLAIMS.md", "index.html"} <= {path.name for path in host.results.iterdir()}
    tested = host.compose_run("test", "tests/bench/formatting/test_numbers.py")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    fetched = host.docker("compose", "-f", "compose.yaml", "-f", "offline.yaml", "run", "--rm", "data", "fetch", "--help")
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    assert "--to" in fetched.stdout


def test_a_data_folder_that_was_not_there_is_refused_with_a_remedy(host):
    done = host.compose_run("bench-cpu", *FEW, BENCH_DATA=f"{host.folder}/typo")
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"`sudo rmdir {host.folder}/typo`" in done.stderr
    assert (host.folder / "typo").stat().st_uid == 0


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
    (host.folder / "cuda").mkdir()
    host.second = host.engine.relabel("assay:cuda", host.folder / "cuda")
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
    assert [[record.environment and record.environment.image_digest for record in found] for found in records] == [[digest], [a40.second]]
    assert digest != a40.second
    assert [[record.emulated for record in found] for found in records] == [[("gpu: scripted NVML",)]] * 2
    assert "assay:cuda beside assay:cpu" in done.stdout
    assert tomllib.loads((a40.results / "images.toml").read_text()) == {"images": {"assay:cpu": digest, "assay:cuda": a40.second}}
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
    assert (record.outcome, record.reason) == ("interrupted", "its run was ended by Ctrl-C or SIGTERM; --resume tries it again")
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
