"""What tests of every room share: real data, one thread for small networks, a copy of the project to run and change."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

os.environ.pop("PYTEST_XDIST_WORKER", None)  # the cases that tests start are measured one by one, and pytest-benchmark must not think otherwise


def heed_interrupts() -> None:
    """For preexec_fn: what a background shell starts ignores Ctrl-C, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Side by side, a file's tests share a process and its fixtures, and all tests of containers share one engine.

    Not by pytest-xdist's own groups: version 3.8 does not find them under pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "docker" if Path(path).parent.name == "docker" else path

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of containers go first: they take longest."""
    items.sort(key=lambda item: item.path.parent.name != "docker")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests of a GPU's own are skipped, visibly, where torch sees none."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")


@pytest.fixture
def checkout() -> Path:
    """The checkout with its history, records and CI; the images hold less of it, and no git."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not in a git checkout: records, CI files and history are not part of an image")
    return ROOT


@pytest.fixture
def real_data() -> Path:
    """Folder of real public data beside the checkout; tests that need it skip, visibly, without it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: fetch it with `python -m bench data fetch` and link it there")
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small networks on one thread: on a busy machine, threads that wait for each other take twenty times as long."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one more family, tests/fakes/misbehaving.py, added as CONTRIBUTING says: one folder in models/."""
    copy = tmp_path_factory.mktemp("project")
    ignore = shutil.ignore_patterns("__pycache__")
    for room in ("assay", "bench", "models", "datasets", "results/baselines"):
        shutil.copytree(ROOT / room, copy / room, symlinks=True, ignore=ignore)
    shutil.copy(ROOT / "results" / "record.schema.json", copy / "results")
    for name in ("pytest.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    family = copy / "models" / "misbehaving"
    family.mkdir()
    shutil.copy(ROOT / "tests" / "fakes" / "misbehaving.py", family / "__init__.py")
    return copy
