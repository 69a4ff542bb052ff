"""The throw-away engine, and what its build of assay:cpu is like inside."""

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import ROOT
from tests.docker.conftest import PIP_MARKER, Engine, ask

IMAGE = "assay:cpu"
LIMIT = 1.5e9  # bytes on disk
OFFLINE = ("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp", "--tmpfs", "/cache:mode=1777,size=1g")
INSIDE = (*OFFLINE, "--entrypoint", "python", IMAGE, "-c")


def inspect(engine: Engine) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(engine.docker("image", "inspect", IMAGE).stdout)
    return found[0]


def git(*arguments: str) -> str:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def test_the_image_is_small(engine):
    script = "import os; print(sum(os.lstat(os.path.join(f, n)).st_size for t in ('/usr', '/opt', '/assay', '/var', '/etc') for f, _, ns in os.walk(t) for n in ns))"
    assert int(engine.docker(*INSIDE, script).stdout) <= LIMIT


def test_the_image_is_labelled(engine):
    labels = inspect(engine)["Config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == IMAGE
    assert labels["org.opencontainers.image.revision"].removesuffix("-dirty") == git("rev-parse", "HEAD")
    locks = "".join(f"{hashlib.sha256((ROOT / 'docker/cpu' / name).read_bytes()).hexdigest()}  {name}\n" for name in ("torch.txt", "requirements.txt"))
    assert labels["assay.lock.sha256"] == hashlib.sha256(locks.encode()).hexdigest()
    assert engine.docker(*INSIDE, f"print(open({labels['assay.locks']!r}).read(), end='')").stdout == locks


def test_it_runs_as_anybody_but_root(engine):
    script = "import os, torch; print(os.getuid(), torch.ones(2).sum().item(), os.access('/assay', os.W_OK), os.access('/cache', os.W_OK))"
    done = engine.docker("run", "--user", "4711:4711", *OFFLINE[1:], "--entrypoint", "python", IMAGE, "-c", script)
    assert done.stdout.split() == ["4711", "2.0", "False", "True"]
    assert inspect(engine)["Config"]["User"] == "1000:1000"


def test_users_share_a_cache_and_nothing_in_it(engine):
    script = """
import os, pathlib, sys
import json.tool  # its byte code is kept
kept = [p for p in pathlib.Path(sys.pycache_prefix).rglob("tool.*.pyc")]
home = pathlib.Path.home()
(home / "note").write_text(str(os.getuid()))
print(home, os.environ["XDG_CACHE_HOME"], len(kept), os.stat(home).st_mode & 0o777 == 0o700, sorted(os.listdir("/cache")))
"""
    engine.docker("volume", "create", "shared-cache")
    said = []
    for user in ("4711", "4712", "4711"):
        done = engine.docker(*OFFLINE[:-2], "--user", f"{user}:{user}", "--volume", "shared-cache:/cache", "--entrypoint", "python", IMAGE, "-c", script)
        said.append(done.stdout.strip())
    engine.docker("volume", "rm", "shared-cache")
    assert said == [
        "/cache/4711 /cache/4711 1 True ['4711']",
        "/cache/4712 /cache/4712 1 True ['4711', '4712']",
        "/cache/4711 /cache/4711 1 True ['4711', '4712']",
    ]


def test_the_environment_is_the_locked_one(engine):
    script = """
import importlib.metadata, json, pathlib
bill = json.loads(pathlib.Path("/opt/assay/sbom.cdx.json").read_text())
installed = {d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version for d in importlib.metadata.distributions()}
listed = {c["name"]: c["version"] for c in bill["components"] if c["purl"].startswith("pkg:pypi/")}
print(json.dumps([installed == listed, listed, [c["name"] for c in bill["components"] if c["purl"].startswith("pkg:deb/")]]))
"""
    same, listed, packages = json.loads(engine.docker(*INSIDE, script).stdout)
    lock = (ROOT / "docker/cpu/requirements.txt").read_text() + (ROOT / "docker/cpu/torch.txt").read_text()
    assert same
    assert [f"{name}=={version}" for name, version in listed.items() if f"{name}=={version.partition('+')[0]} " not in lock] == []
    assert {"libc6", "python3.11-minimal"} <= set(packages)


def test_no_byte_code_and_no_rubbish_is_inside(engine):
    script = "import pathlib; print([str(p) for top in ('/opt/assay', '/assay') for p in pathlib.Path(top).rglob('*') if p.suffix == '.pyc' or p.name in {'.git', '.venv', 'runs'}])"
    assert engine.docker(*INSIDE, script).stdout.strip() == "[]"


def test_settings_of_the_building_machine_stay_out(engine):
    places = ("/assay", "/etc", "/opt", "/root", "/tmp", "/usr", "/var")
    searched = engine.docker("run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "grep", IMAGE, "-rlF", PIP_MARKER, *places, check=False)
    assert (searched.returncode, searched.stdout, searched.stderr) == (1, "", "")  # 1: read everything, found nothing
    assert PIP_MARKER not in engine.docker("history", "--no-trunc", IMAGE).stdout + json.dumps(inspect(engine))
    sources = "import pathlib; print([str(p) for p in pathlib.Path('/etc/apt').rglob('*') if p.is_file() and b'deb' in p.read_bytes().split()])"
    assert engine.docker(*INSIDE, sources).stdout.strip() == "[]"


def test_the_same_inputs_give_the_same_digest(bare_engine):
    if not os.environ.get("ASSAY_VERIFY_IMAGE"):
        pytest.skip("two full builds take minutes: `ASSAY_VERIFY_IMAGE=1`, or docker/build.py cpu --verify")
    digest, verdict = bare_engine.build("--verify", "--tag", "assay:verified").splitlines()
    assert verdict == "the second build has the same digest"
    assert bare_engine.docker("image", "inspect", "--format", "{{.Id}}", "assay:verified").stdout.strip() == digest


def test_without_a_gpu_runtime_a_gpu_is_refused(bare_engine):
    bare_engine.remove_gpu()
    refused = bare_engine.docker(*OFFLINE, "--gpus", "device=0", "assay-base:bookworm", "true", check=False)
    assert refused.returncode != 0
    assert "could not select device driver" in refused.stderr


def test_a_scripted_gpu_is_seen_inside(engine):
    script = "import pynvml; pynvml.nvmlInit(); h = pynvml.nvmlDeviceGetHandleByIndex(0); print(pynvml.nvmlDeviceGetName(h), pynvml.nvmlDeviceGetMemoryInfo(h).total >> 20)"
    seen = []
    for board in (("NVIDIA A40",), ("NVIDIA A100-SXM4-80GB", "total 81920")):
        engine.fake_gpu(*board)
        seen.append(engine.docker(*OFFLINE, "--gpus", "device=0", "--entrypoint", "python", IMAGE, "-c", script).stdout.strip())
    engine.remove_gpu()
    assert seen == ["NVIDIA A40 46068", "NVIDIA A100-SXM4-80GB 81920"]


def test_stop_leaves_nothing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("second")
    ask(folder, "start")
    lines = [line.removeprefix("export ").split("=", 1) for line in ask(folder, "env").splitlines()]
    second = Engine(folder, {name: value.strip("'") for name, value in lines})
    try:
        static = tmp_path_factory.mktemp("static")
        (static / "wait.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
        second.run("cc", "-static", "-o", static / "wait", static / "wait.c")
        second.run("sh", "-c", f"tar -C {static} -c wait | docker import - wait:1")
        second.docker("run", "--detach", "--network", "none", "wait:1", "/wait")
        assert find_below(folder)
    finally:
        ask(folder, "stop")
    assert not folder.exists()
    psutil.wait_procs(find_below(folder), timeout=10)  # the kernel may still be ending what was killed
    assert find_below(folder) == []
    assert f" {folder}/" not in Path("/proc/self/mountinfo").read_text()
    assert not [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["/wait"]]


def find_below(folder: Path) -> list[psutil.Process]:
    running = psutil.process_iter(["exe"])
    return [process for process in running if process.info["exe"] and Path(process.info["exe"]).is_relative_to(folder)]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years of work")
    done = subprocess.run([ROOT / "docker/engine/engine.py", "--dir", tmp_path, "stop"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == f"engine.py: {tmp_path} is not an engine's folder; it is left as it is"
    assert (tmp_path / "thesis.tex").exists()
