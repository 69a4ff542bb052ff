"""docker/kit.py: what a GPU host lacks, in a folder that installs without a network and says which commit it is of."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docker.test_lock import write_index, write_wheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROJECT = """
[project]
name = "assay-suite"
version = "0"
requires-python = ">=3.11"
dependencies = ["numpy>=2.4"]
[project.optional-dependencies]
suite = ["torch>=2.10", "reader>=2"]
plots = ["plots"]
[dependency-groups]
test = ["checker"]
"""
HOST = "Package  Version\n-------- -------\nNumPy    2.5.2\ntorch    2.11.0+cu130\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that needs `reader`, which needs `part`, beside what the host has; an index with a newer reader than the lock's."""
    if not Path(sys.executable).with_name("uv").exists():
        pytest.skip("uv is not installed here; `make .venv/ready` brings it")
    folder = tmp_path / "project"
    for path in ("docker/lock.py", "docker/build.py", "docker/kit.py", "docker/kit-start.sh", ".dockerignore", "pytest.ini"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    (folder / "bench").mkdir()
    (folder / "assay").mkdir()
    (folder / "assay" / "bench").symlink_to("../bench")
    (folder / "bench" / "case.py").write_text("PHASE = 1\n")
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "docker" / "cpu").mkdir()
    (folder / "docker" / "cpu" / "requirements.txt").write_text("reader==2.0\n")
    wheels = tmp_path / "wheels"
    for name, version, *needs in (("reader", "2.0", "part"), ("reader", "2.1", "part"), ("part", "1.0"), ("plots", "1.0"), ("checker", "1.0")):
        write_wheel(wheels, name, version, *needs)
    for version in ("2.4.6", "2.5.2"):
        write_wheel(wheels, "numpy", version)
    for version in ("2.9.1", "2.11.0"):
        write_wheel(wheels, "torch", version, "numpy")
    return folder


def pack(project: Path, host: str, *options: str) -> subprocess.CompletedProcess[str]:
    index = write_index(project.parent / "wheels")
    index |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    (project.parent / "host.txt").write_text(host)
    command: list[str | Path] = [sys.executable, project / "docker" / "kit.py", project.parent / "host.txt", "--python", PYTHON, *options]
    return subprocess.run(command, env=os.environ | index, capture_output=True, text=True)


def start(project: Path, *command: str, without_network: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
    isolate = ["unshare", "--net"] if without_network else []
    environment = os.environ | {"PYTHON": sys.executable} | variables
    return subprocess.run([*isolate, "kit/start", *command], cwd=project, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "host",
    [
        HOST,
        "numpy==2.5.2\ntorch @ file:///wheels/torch-2.11.0-cp312.whl\n",
        json.dumps([{"name": "numpy", "version": "2.5.2"}, {"name": "torch", "version": "2.11.0+cu130"}]),
        "# a host as somebody described it\nnumpy 2.5.2\ntorch\n",
        "\ufeffPackage Version Editable project location\r\n------- ------- ----\r\nNUMPY 2.5.2\r\nMy_Own 0.1 /home/me/my own\r\nTorch 2.11.0\r\n",
        "cloud-init 23.1.2-0ubuntu0~22.04.1\nnumpy 2.5.2\ntorch 2.11.0a0+ebedce2\n",
    ],
    ids=["columns", "freeze", "json", "names", "windows", "a vendor's torch"],
)
def test_it_holds_what_the_host_lacks_in_the_locked_versions(project: Path, host: str) -> None:
    done = pack(project, host)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (project / "kit" / "wheels").iterdir()) == ["part-1.0-py3-none-any.whl", "reader-2.0-py3-none-any.whl"]
    assert re.fullmatch(r"part==1.0 \\\n +--hash=sha256:\w{64}\nreader==2.0 \\\n +--hash=sha256:\w{64}\n", (project / "kit" / "requirements.txt").read_text())
    assert "0.00 MB in " in done.stdout


def test_what_the_tests_need_comes_on_demand(project: Path) -> None:
    assert pack(project, HOST, "--tests").returncode == 0
    assert {path.name.split("-")[0] for path in (project / "kit" / "wheels").iterdir()} == {"part", "reader", "plots", "checker"}


@pytest.mark.skipif(subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0, reason="a process without a network takes rights that we have not")
def test_it_installs_once_and_runs_without_a_network(project: Path) -> None:
    with_code = project.parent / "wheels" / "part-1.0-py3-none-any.whl"
    with_code.unlink()
    write_wheel(with_code.parent, "part", "1.0", files={"part/__init__.py": "SAID = 'installed'\n"})
    assert pack(project, HOST).returncode == 0
    shutil.rmtree(project.parent / "wheels")
    code = "import os, part; print(part.SAID, os.environ['ASSAY_REVISION'])"
    done = start(project, "python3", "-c", code, without_network=True)
    assert (done.stdout, done.stderr) == ("installed unknown\n", "")
    shutil.rmtree(project / "kit" / "wheels")  # which a second start does not need
    (project / "bench" / "case.py").write_text("PHASE = 2\n")
    assert start(project, "python3", "-c", code, without_network=True).stdout == "installed unknown-changed\n"
    (project / "bench" / "case.py").write_text("PHASE = 1\n")
    (project / "bench" / "added.py").write_text("")
    assert start(project, "python3", "-c", code, without_network=True).stdout == "installed unknown-changed\n"


def test_its_children_find_the_same_packages_whatever_their_environment(project: Path) -> None:
    """The host's own too: `psutil` is of this very environment. So workers of the gate start, who get no PYTHONPATH."""
    assert pack(project, HOST).returncode == 0
    code = "import subprocess, sys; print(subprocess.run([sys.executable, '-c', 'import psutil, sys; print(sys.prefix)'], env={}, capture_output=True, text=True).stdout)"
    assert start(project, "python3", "-c", code).stdout.startswith(f"{project / 'kit' / 'env-'}")


def test_where_git_knows_the_commit_it_says_so_itself(project: Path) -> None:
    assert pack(project, HOST).returncode == 0
    assert start(project, "printenv", "ASSAY_REVISION").stdout == "unknown\n"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message=one"]):
        subprocess.run([*git, *command], cwd=project, check=True)
    assert start(project, "printenv", "ASSAY_REVISION").stdout == ""


def test_a_host_that_lacks_nothing_needs_a_start_alone(project: Path) -> None:
    assert pack(project, HOST + "reader 2.0\npart 1.0\n").returncode == 0
    assert start(project, "echo", "runs").stdout == "runs\n"


@pytest.mark.parametrize(
    ("host", "options", "said"),
    [
        (HOST, ("--limit", "0.0001"), r"the wheels have 0\.0 MB, .* over --limit 0.0001; the largest: "),
        ("numpy 2.5.2\n", (), "the list has no torch: a kit is for hosts that bring theirs. Take an image"),
        ("torch 2.9.1\n", (), r"what the host has does not fit this project:(.|\n)*torch>=2\.10"),
        (HOST, ("--out", "bench"), "is there and no kit"),
        (HOST, ("--limit", "nan"), "a size in MB above 0"),
        (HOST, ("--python", "banana"), "'banana' is no Python version; write 3.12"),
        ('[["torch", "2.11.0"]]', (), r"host\.txt: no list of packages; `pip list --format json`"),
    ],
    ids=["too large", "no torch", "an older torch", "a folder of somebody's", "no limit", "no Python", "another list"],
)
def test_what_cannot_be_packed_says_why_and_leaves_nothing(project: Path, host: str, options: tuple[str, ...], said: str) -> None:
    options = tuple(str(project / word) if word == "bench" else word for word in options)
    done = pack(project, host, *options)
    assert done.returncode == 2, done.stdout
    assert re.search(said, done.stderr), done.stderr
    assert not (project / "kit").exists()
    assert not [*project.glob(".kit-*")]
    assert (project / "bench" / "case.py").exists()


def test_start_says_what_is_wrong_before_it_installs(project: Path) -> None:
    assert pack(project, HOST).returncode == 0
    assert "name a command" in start(project).stderr
    script = (project / "kit" / "start").read_text()
    (project / "kit" / "start").write_text(script.replace(f'"{PYTHON}"', '"3.99"'))
    done = start(project, "true")
    assert (done.returncode, "and " + sys.executable + " is " + PYTHON in done.stderr) == (2, True), done.stderr
    (project / "kit" / "start").write_text(script)
    (project / "assay" / "bench").unlink()
    assert start(project, "ls", "assay/bench").stdout == "case.py\n", "a link that was left out is made"
    (project / "assay" / "bench").unlink()
    (project / "assay" / "bench").mkdir()  # as a copy that follows links leaves it
    assert "assay/bench is no link: copy the project with its links" in start(project, "true").stderr
    (project / "pytest.ini").unlink()
    assert "this is not the project's folder" in start(project, "true").stderr


def test_what_a_torch_brought_along_stays_with_it(project: Path) -> None:
    """A torch that conda or a compiler made lists no CUDA packages."""
    write_wheel(project.parent / "wheels", "triton", "3.6")
    write_wheel(project.parent / "wheels", "torch", "2.11.0", "numpy", "triton")
    assert pack(project, HOST).returncode == 0
    assert {path.name.split("-")[0] for path in (project / "kit" / "wheels").iterdir()} == {"part", "reader"}


def test_starts_at_once_install_whole(project: Path) -> None:
    assert pack(project, HOST).returncode == 0
    with ThreadPoolExecutor(3) as pool:
        done = [*pool.map(lambda _: start(project, "python3", "-c", "from importlib.metadata import version; print(version('part'))"), range(3))]
    assert [(each.returncode, each.stdout, each.stderr) for each in done] == [(0, "1.0\n", "")] * 3
    assert [path.name[:4] for path in (project / "kit").glob("*env-*")] == ["env-"]


def test_an_installation_that_failed_leaves_nothing_behind(project: Path) -> None:
    assert pack(project, HOST).returncode == 0
    (wheel,) = (project / "kit" / "wheels").glob("part*")
    content = wheel.read_bytes()
    wheel.write_bytes(content + b"x")
    refused = start(project, "true")
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert not [*(project / "kit").glob("*env-*")]
    wheel.write_bytes(content)
    assert start(project, "true").returncode == 0
