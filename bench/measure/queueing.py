"""How long others kept this thread from running: time in which it was ready and the kernel gave the core to somebody else."""

from __future__ import annotations

import time
from pathlib import Path

SCHEDSTAT = Path("/proc/thread-self/schedstat")
ALONE = 0.02  # share of CPU time that other threads of the process may take before the wait is no longer only other people's doing


class QueueClock:
    """Counts the calling thread's wait for a core over a stretch of work.

    Sleep, input and output, locks and a device are no such wait: they stay part of the work. Where the kernel does not tell, and where
    other threads of this process are busy too, so that it may have waited for itself, the answer is 0.
    Source: Linux, Documentation/scheduler/sched-stats.rst, /proc/<pid>/schedstat, second field.
    """

    def __init__(self, path: Path = SCHEDSTAT) -> None:
        self._path = path
        self._told = path.exists()
        self.start()

    def start(self) -> None:
        """Counts from now."""
        self._thread, self._process, self._began = time.thread_time(), time.process_time(), self._read()

    def stop(self) -> float:
        """Seconds since `start`."""
        waited = self._read() - self._began
        thread, process = time.thread_time() - self._thread, time.process_time() - self._process
        return waited if process - thread <= ALONE * process else 0.0

    def _read(self) -> float:
        return int(self._path.read_text().split()[1]) / 1e9 if self._told else 0.0
