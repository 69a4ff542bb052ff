"""One owner for each run's folder, and runs on one machine that know of each other, whatever becomes of any of them."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.bench.case import UsageError
from assay.bench.records.store import RunStore
from assay.bench.running.neighbours import Neighbours, announce_run, own_run
from tests.bench.records.test_record import draft

HOLD = """
import os, sys
from pathlib import Path
from assay.bench.running.neighbours import announce_run, own_run
with own_run(Path(sys.argv[1])), announce_run("nightly"):
    print(os.getpid(), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the run folder `tmp_path` until its standard input ends."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{process.pid}\n"
    yield process
    process.kill()
    process.communicate()


def find(neighbours: Neighbours) -> frozenset[str]:
    """Without the second that lies between two looks."""
    return Neighbours(neighbours._entry, neighbours._fault).find()


def test_the_second_owner_is_refused_and_told_who_is_the_first(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    with pytest.raises(UsageError, match=rf"run {tmp_path.name} is under way: process {other.pid} on .* choose another --name"), own_run(tmp_path):
        pass


@pytest.mark.parametrize("end", ["ends", "is killed"])
def test_an_owner_that_is_gone_leaves_the_folder_and_no_neighbour(tmp_path: Path, cache: Path, other: subprocess.Popen[str], end: str) -> None:
    with announce_run("mine") as neighbours:
        assert find(neighbours) == {f"nightly (pid {other.pid})"}
        if end == "is killed":
            other.kill()
        other.communicate()
        assert find(neighbours) == frozenset()
        with own_run(tmp_path):
            assert (tmp_path / ".owner").read_text().startswith(f"process {os.getpid()} on ")
    assert list((cache / "assay" / "under-way").iterdir()) == []


def test_a_run_does_not_look_twice_within_a_second(other: subprocess.Popen[str]) -> None:
    with announce_run("mine") as neighbours:
        seen = neighbours.find()
        other.communicate()
        assert neighbours.find() is seen


def test_a_cache_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("a file where a folder should be")
    with announce_run("mine") as neighbours:
        (told,) = neighbours.find()
    assert told.startswith("whether other runs were under way is not known: ")


def test_a_file_system_without_locks_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", refuse)
    with own_run(tmp_path) as fault, announce_run("mine") as neighbours:
        assert fault == f"{tmp_path}: the file system has no locks (Function not implemented); see to it that no second run writes there"
        (told,) = neighbours.find()
        RunStore(tmp_path).append(draft())
    assert told.endswith("cannot be written and locked: Function not implemented")
    assert [*neighbours._entry.parent.iterdir()] == []
