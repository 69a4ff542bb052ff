"""The gate's end of a worker: asks, waits, and believes nothing that cannot be true."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from bench.case import Outcome
from bench.gate.protocol import MAX_LINE_BYTES, PROTOCOL, Alive, Answer, Bye, Failed, Hello, Open, Opened, Request, Round, Timed, Welcome, encode, read_answer

A = TypeVar("A", bound=Answer)
CLOCK_SLACK = 0.05  # s by which a round may be longer on the worker's clock than on the gate's, which starts earlier and stops later


class FaultKind(StrEnum):
    """How a worker let the gate down."""

    HUNG = "hung"
    DIED = "died"
    CHEATED = "cheated"  # said what cannot be true
    FAILED = "failed"  # and said so in order
    FOREIGN = "foreign"  # speaks another protocol, or none


class WorkerFault(Exception):
    """A worker that cannot be measured any further. `outcome` is the case's own where the worker could still tell it."""

    def __init__(self, kind: FaultKind, reason: str, outcome: Outcome | None = None) -> None:
        super().__init__(reason)
        self.kind, self.reason, self.outcome = kind, reason, outcome


class Pipe(Protocol):
    """Bytes to and from a worker, wherever it runs."""

    def write(self, data: bytes) -> None:
        """Raises OSError when the worker is gone."""

    def read(self, timeout: float) -> bytes | None:
        """What has come, b"" at the end, None when nothing came yet; it waits `timeout` seconds at most."""

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

    def explain_end(self) -> str:
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return "closed its line and went on"
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}{last}"

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.close()


class Line:
    """One worker. Every method raises WorkerFault for a worker that hangs, dies, fails or cannot be believed.

    silence: seconds without an answer or a sign of life after which it counts as hung. Use it in a `with` block.
    """

    def __init__(self, pipe: Pipe, silence: float, report: Callable[[str], None] | None = None) -> None:
        self._pipe, self._silence, self._report = pipe, silence, report
        self._pending = b""
        self._last_end = -math.inf

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.write(encode(Bye()))
        self._pipe.close()

    def post(self, request: Request) -> None:
        """Sends a request; `collect` gets its answer."""
        try:
            self._pipe.write(encode(request))
        except OSError:
            raise WorkerFault(FaultKind.DIED, self._pipe.explain_end()) from None

    def collect(self, expected: type[A]) -> A:
        """The answer to the request that was posted last."""
        while True:
            answer = self._parse(self._read_line())
            if isinstance(answer, Alive):
                if self._report is not None:
                    self._report(answer.note)
            elif isinstance(answer, Failed):
                raise WorkerFault(FaultKind.FAILED, answer.reason, answer.outcome)
            elif isinstance(answer, expected):
                return answer
            else:
                raise WorkerFault(FaultKind.CHEATED, f"answered {answer.kind!r} where {expected.__name__.lower()!r} was due")

    def ask(self, request: Request, expected: type[A]) -> A:
        """Request and answer."""
        self.post(request)
        return self.collect(expected)

    def greet(self) -> Welcome:
        """Posts nothing before: the worker may still be starting."""
        try:
            welcome = self.ask(Hello(), Welcome)
        except WorkerFault as fault:
            if fault.kind is FaultKind.DIED:
                raise WorkerFault(FaultKind.FOREIGN, f"did not start as a worker of the gate ({fault.reason}); is it older than the gate?") from None
            raise
        if welcome.protocol != PROTOCOL:
            raise WorkerFault(FaultKind.FOREIGN, f"speaks protocol {welcome.protocol} of the gate, this is {PROTOCOL}; compare with a nearer commit")
        return welcome

    def collect_opened(self, request: Open) -> Opened:
        """The answer to an Open. Refuses a worker that opened something else."""
        opened = self.collect(Opened)
        for name, asked, got in (
            ("case", request.case, opened.case),
            ("case in its key", request.case, opened.comparability.case),
            ("seed", request.seed, opened.comparability.seed),
        ):
            if asked != got:
                raise WorkerFault(FaultKind.CHEATED, f"was asked for {name} {asked} and opened {got}")
        return opened

    def time_round(self, steps: int) -> Timed:
        """One round. Refuses times that run backwards, and more time than has passed here."""
        asked = time.monotonic()
        timed = self.ask(Round(steps=steps), Timed)
        passed, seconds = time.monotonic() - asked, timed.ended - timed.began
        if seconds <= 0 or timed.began < self._last_end:
            raise WorkerFault(FaultKind.CHEATED, f"its clock runs backwards: round from {timed.began:g} to {timed.ended:g} after {self._last_end:g} s")
        if timed.queued >= seconds:
            raise WorkerFault(FaultKind.CHEATED, f"says that it waited {timed.queued:g} s for a core in a round of {seconds:g} s")
        if seconds > passed + CLOCK_SLACK:
            raise WorkerFault(FaultKind.CHEATED, f"says that a round took {seconds:g} s of which only {passed:g} s passed here; does its clock count seconds?")
        self._last_end = timed.ended
        return timed

    def _read_line(self) -> bytes:
        deadline = time.monotonic() + self._silence
        while b"\n" not in self._pending:
            received = self._pipe.read(max(0.0, deadline - time.monotonic()))
            if received is None:
                if time.monotonic() < deadline:
                    continue
                raise WorkerFault(FaultKind.HUNG, f"gave no answer and no sign of life for {self._silence:g} s")
            if not received:
                raise WorkerFault(FaultKind.DIED, self._pipe.explain_end())
            self._pending += received
            if len(self._pending) > MAX_LINE_BYTES:
                raise WorkerFault(FaultKind.CHEATED, f"sent more than {MAX_LINE_BYTES >> 20} MiB in one line")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _parse(self, line: bytes) -> Answer:
        try:
            return read_answer(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            said = line[:120].decode(errors="replace")
            raise WorkerFault(FaultKind.CHEATED, f"sent what is no answer of the protocol: {where}: {first['msg']}: {said}") from None
