"""Which runs are under way: a run's folder has one owner at a time, and the runs of one machine know of each other.

Both rest on locks that the kernel takes back when their process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from assay.bench.case import UsageError

OWNER = ".owner"  # in the folder of a run
LOOK_SECONDS = 1.0


@contextmanager
def own_run(folder: Path) -> Iterator[str | None]:
    """Keeps every other launcher out of a run's folder. Raises UsageError that names the one that has it.

    Gives None, or what to tell the user where the file system has no locks, so that nobody is kept out.
    """
    with (folder / OWNER).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read() or "another process"
            raise UsageError(f"run {folder.name} is under way: {owner} writes to {folder}; wait for its end, end it, or choose another --name") from None
        except OSError as error:  # e.g. Lustre without its flock option
            yield f"{folder}: the file system has no locks ({error.strerror}); see to it that no second run writes there"
            return
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield None


class Neighbours:
    """The other runs of this user's cache folder that are under way, looked up once a second at most."""

    def __init__(self, entry: Path, fault: str | None = None) -> None:
        self._entry, self._fault = entry, fault
        self._found: frozenset[str] = frozenset()
        self._looked = float("-inf")

    def find(self) -> frozenset[str]:
        """`NAME (pid N)` of each, or in their place the reason why nobody can tell."""
        if self._fault:
            return frozenset({self._fault})
        now = time.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            self._found = frozenset(name for path in self._entry.parent.glob("[0-9]*") if path != self._entry and (name := _read_living(path)))
        return self._found


@contextmanager
def announce_run(name: str) -> Iterator[Neighbours]:
    """Makes a run known to the other runs on this machine until the end of the block or of the process."""
    folder = user_cache_path("assay") / "under-way"
    entry = folder / f"{os.getpid()}-{time.time_ns()}"
    draft = folder / f".{entry.name}"  # nobody looks at it before it is locked
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(draft.open("w"))
            held.callback(draft.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{name} (pid {os.getpid()})")
            file.flush()
            draft.rename(entry)
            held.callback(entry.unlink, missing_ok=True)
        except OSError as error:
            fault = f"whether other runs were under way is not known: {folder} cannot be written and locked: {error.strerror}"
            yield Neighbours(entry, fault)
            return
        yield Neighbours(entry)


def _read_living(path: Path) -> str | None:
    """What a run wrote that still holds its lock; the file of one that was killed is removed."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read()
            path.unlink()
    except OSError:
        pass  # it has just ended, another run has removed it, or it is another user's
    return None
