"""One throw-away Docker engine for all tests of containers: its base image, assay:cpu, and a scripted GPU on demand."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.conftest import ROOT

SCRIPT = ROOT / "docker" / "engine" / "engine.py"
BASE = "assay-base:bookworm"
PIP_MARKER = uuid.uuid4().hex  # stands in the pip settings of the build; new each time, for these tests lie in the image
UNFIT_HERE = 3  # exit code of engine.py; with any other one it is broken
NO_INDEX = re.compile(r"\(from versions: none\)|connection", re.IGNORECASE)


@dataclass(frozen=True)
class Engine:
    """A running engine; `variables` is the environment of its clients."""

    folder: Path
    variables: dict[str, str]

    def run(self, *command: str | Path, check: bool = True, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command, e.g. ("docker", "compose", "run", ...), with this engine and the given variables. Its output is captured."""
        done = subprocess.run(command, cwd=folder, env=os.environ | self.variables | variables, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done

    def docker(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("docker", *arguments, check=check)

    def fake_gpu(self, name: str, *lines: str) -> None:
        """From now on a container that asks for an NVIDIA GPU finds this board; `lines` as in tests/fakes/fake_nvml.c."""
        ask(self.folder, "fake-gpu", name, *lines)

    def remove_gpu(self) -> None:
        """No GPU, and no GPU runtime. Running containers end."""
        ask(self.folder, "fake-gpu", "--remove")

    def relabel(self, tag: str, folder: Path) -> str:
        """Gives this tag to an image that is assay:cpu but for a label, so that its digest is another one; returns the digest."""
        (folder / "Dockerfile").write_text(f"FROM assay:cpu\nLABEL assay.again={tag}\n")
        self.docker("build", "--quiet", "--provenance=false", "--tag", tag, folder)
        return self.docker("image", "inspect", "--format", "{{.Id}}", tag).stdout.strip()

    def build(self, *options: str | Path) -> str:
        """Builds assay:cpu offline, from the base and the downloaded wheels; returns what docker/build.py prints: the digest."""
        return self.run(sys.executable, "docker/build.py", "cpu", "--base", BASE, "--wheels", find_wheels(), *options).stdout.strip()


def ask(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, SCRIPT, "--dir", folder, *arguments], capture_output=True, text=True)
    if arguments == ("start",) and done.returncode == UNFIT_HERE:
        skip(f"no Docker engine can run here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip(reason: str) -> NoReturn:
    """Skips the test, but where .ci/run has found this machine fit for an engine: there nothing may be missing."""
    if os.environ.get("ASSAY_ENGINE") == "required":
        pytest.fail(f"ASSAY_ENGINE=required, but {reason}")
    pytest.skip(reason)


def find_wheels() -> Path:
    """Every wheel of the cpu image, kept between runs beside the engine's packages."""
    cache = os.environ.get("ASSAY_ENGINE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / "engine"
    folder = Path(cache) / "wheels-cpu"
    done = subprocess.run([sys.executable, ROOT / "docker" / "build.py", "cpu", "--save-wheels", folder], capture_output=True, text=True)
    if done.returncode and not NO_INDEX.search(done.stderr):
        pytest.fail(f"the wheels of the cpu image cannot be downloaded: {done.stderr.strip()[-2000:]}")  # e.g. another hash than the lock's
    if done.returncode:
        skip(f"the wheels of the cpu image cannot be downloaded here: {done.stderr.strip()[-500:]}")
    return folder


@pytest.fixture(scope="session")
def bare_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine with its base image and nothing else. $ASSAY_TEST_ENGINE names one that runs already and is left running."""
    running = os.environ.get("ASSAY_TEST_ENGINE")
    folder = Path(running) if running else tmp_path_factory.mktemp("engine")
    try:
        ask(folder, "start")
        lines = [line.removeprefix("export ").split("=", 1) for line in ask(folder, "env").splitlines()]
        ask(folder, "base")
        yield Engine(folder, {name: value.strip("'") for name, value in lines})
    finally:
        if not running:
            ask(folder, "stop")


@pytest.fixture(scope="session")
def engine(bare_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """The engine with assay:cpu built."""
    settings = tmp_path_factory.mktemp("pip") / "pip.conf"
    settings.write_text(f"# {PIP_MARKER}\n[global]\nno-color = true\n")
    bare_engine.build("--quick", "--pip-config", settings)
    return bare_engine
