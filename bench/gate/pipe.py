"""How the gate reaches a worker, wherever it runs: bytes both ways, what the kernel says about it, and its end."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from assay.bench.gate.kernel import Standing, Usage, find_tree, read_standing, read_usage


class Pipe(Protocol):
    """Bytes to and from a worker, wherever it runs."""

    def write(self, data: bytes) -> None:
        """Raises OSError when the worker is gone."""

    def read(self, timeout: float) -> bytes | None:
        """What has come, b"" at the end, None when nothing came yet; it waits `timeout` seconds at most."""

    def read_usage(self) -> Usage | None:
        """What the kernel says that the worker has used up; None where it does not say."""

    def read_standing(self) -> Standing | None:
        """Which cores the kernel lets it have, and how soon; None where it does not say."""

    def explain_end(self) -> str:
        """How the worker ended."""

    def close(self) -> None:
        """Ends the worker, whatever it is doing; nothing of it is left."""


class ProcessPipe:
    """A worker in a process group of its own on this machine."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                command, cwd=folder, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, bufsize=0, start_new_session=True
            )
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._to, self._from = self._process.stdin, self._process.stdout
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._from, selectors.EVENT_READ)

    def write(self, data: bytes) -> None:
        self._to.write(data)

    def read(self, timeout: float) -> bytes | None:
        return os.read(self._from.fileno(), 1 << 16) if self._selector.select(timeout) else None

    def read_usage(self) -> Usage | None:
        return read_usage(self._process.pid)

    def read_standing(self) -> Standing | None:
        return read_standing(self._process.pid)

    def explain_end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its line and went on"
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}{last}"

    def close(self) -> None:
        for process in [*find_tree(self._process.pid)][1:]:  # a child in a session of its own outlives the group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.close()
