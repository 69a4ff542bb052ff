"""What the kernel says about a worker and about the gate itself: figures that no code in the worker could have made up.

Sources: Linux, Documentation/scheduler/sched-stats.rst (/proc/<pid>/schedstat), proc(5), clock_getcpuclockid(3), prctl(2).
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWN = Path("/proc/thread-self/schedstat")
ALONE = 0.02  # share of CPU time that others of the worker may take before its wait for a core is no longer only other people's doing
SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Usage:
    """What a worker had used up at a moment [s]."""

    ran: float  # on cores: all its threads, and all processes that it has started
    main: float  # on cores: its main thread, which takes the steps
    waited: float  # its main thread: ready to run, while the kernel gave the core to somebody else


@dataclass(frozen=True, slots=True)
class Standing:
    """What decides which cores a process gets, and how soon."""

    cores: frozenset[int]
    niceness: int
    policy: int

    def __str__(self) -> str:
        return f"cores {','.join(map(str, sorted(self.cores)))}, niceness {self.niceness}, scheduling policy {self.policy}"


def read_usage(pid: int) -> Usage | None:
    """None where the kernel does not tell, and for a process that is gone."""
    try:
        main, waited = (int(each) / 1e9 for each in Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[:2])
        return Usage(sum(_read_cpu_time(each) for each in find_tree(pid)), main, waited)
    except (OSError, ValueError):
        return None


def read_standing(pid: int) -> Standing | None:
    """None where the system does not tell, and for a process that is gone."""
    try:
        return Standing(frozenset(os.sched_getaffinity(pid)), os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid))
    except (OSError, AttributeError):
        return None


def find_tree(pid: int) -> Iterator[int]:
    """The process and whatever it has started, those first that started others. Ends where the kernel does not tell of children."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # a thread that has just ended
        for child in children:
            yield from find_tree(int(child))


def _read_cpu_time(pid: int) -> float:
    """Of all threads, also those that have ended, and of those processes that it started and that have ended."""
    try:
        own = time.clock_gettime(~pid << 3 | 2)  # the clock of another process, as clock_getcpuclockid(3) makes it
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    except OSError:
        return 0.0  # a child that has just ended: its parent's account has it as soon as it is waited for
    return own + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")


def count_wait(before: Usage, after: Usage, seconds: float) -> float:
    """How long others kept the worker from running in a round of so many seconds.

    Sleep, input and output, locks and a device are no such wait: they stay part of the work. What a thread waits because of its own
    process's other threads or children is none either, so it is 0 where those ran too. And a wait cannot be longer than what the round
    leaves beside the time on a core.
    """
    ran, main = after.ran - before.ran, after.main - before.main
    if ran < 0 or ran - main > ALONE * ran:
        return 0.0
    return max(0.0, min(after.waited - before.waited, seconds - main))


def read_own_wait() -> float:
    """How long this very thread has waited for a core so far [s]; 0 where the kernel does not tell."""
    try:
        return int(OWN.read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def adopt_orphans() -> None:
    """What this process's children start stays below it even when they end: nothing that a worker starts gets out of its accounts."""
    library = ctypes.CDLL(None)
    if hasattr(library, "prctl"):  # on Linux
        library.prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
