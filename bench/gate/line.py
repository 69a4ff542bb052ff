"""The gate's end of a worker: asks, waits, and believes nothing that cannot be true."""

from __future__ import annotations

import contextlib
import math
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

from pydantic import ValidationError

from bench.case import Outcome, Quantity
from bench.gate.protocol import (
    MAX_BYTES,
    MAX_LINE_BYTES,
    PROTOCOL,
    Alive,
    Answer,
    Bye,
    Cases,
    Failed,
    Hello,
    ListCases,
    Memory,
    Open,
    Opened,
    Peaks,
    Request,
    Round,
    Score,
    Scored,
    Timed,
    Welcome,
    encode,
    read_answer,
)
from bench.report.markdown import clean_text

A = TypeVar("A", bound=Answer)
CLOCK_SLACK = 0.05  # s by which a round may be longer on the worker's clock than on the gate's, which starts earlier and stops later
SHORTEST = 1e-8  # s; no round and no epoch ends sooner
LARGEST = 1e15  # of a metric or a loss: differences and ratios of such numbers are still finite
MAX_CASES = 10_000
MAX_ID = 300  # characters of a case id
MAX_REASON = 1000  # characters of what a worker says about a failure
CASE_ID = re.compile(r"[^/\s]+(?:/[^/\s]+){5}")


class FaultKind(StrEnum):
    """How a worker let the gate down."""

    HUNG = "hung"
    DIED = "died"
    CHEATED = "cheated"  # said what cannot be true
    FAILED = "failed"  # and said so in order
    NEVER_STARTED = "never started"  # died before it said a word: an import that breaks, or a checkout older than the gate
    FOREIGN = "foreign"  # speaks another protocol
    UNREACHABLE = "unreachable"  # its engine or this system did not let the gate at it, which says nothing about its code
    LATE = "late"  # still at it when the budget had ended


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

    silence: seconds without an answer or a sign of life after which it counts as hung. deadline: on the monotonic clock; signs of life
    keep no request going for longer than `silence` after it. Use it in a `with` block.
    """

    def __init__(self, pipe: Pipe, silence: float, report: Callable[[str], None] | None = None, deadline: float = math.inf) -> None:
        self._pipe, self._silence, self._report, self._deadline = pipe, silence, report, deadline
        self._until = math.inf  # for the answer to the request that was posted last
        self._pending = b""
        self._last_end = -math.inf

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.write(encode(Bye()))
        with contextlib.suppress(OSError):  # an engine that does not answer any more must not cost the verdicts that are already there
            self._pipe.close()

    def post(self, request: Request) -> None:
        """Sends a request; `collect` gets its answer."""
        self._until = max(self._deadline, time.monotonic()) + self._silence
        try:
            self._pipe.write(encode(request))
        except OSError:
            raise WorkerFault(FaultKind.DIED, self._explain_end()) from None

    def collect(self, expected: type[A]) -> A:
        """The answer to the request that was posted last."""
        while True:
            answer = self._parse(self._read_line())
            if isinstance(answer, Alive):
                if self._report is not None:
                    self._report(clean_text(answer.note, 100))
            elif isinstance(answer, Failed):
                raise WorkerFault(FaultKind.FAILED, clean_text(answer.reason, MAX_REASON) or "it did not say why", answer.outcome)
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
                reason = f"did not start as a worker of the gate ({fault.reason}); is it older than the gate?"
                raise WorkerFault(FaultKind.NEVER_STARTED, reason) from None
            raise
        if welcome.protocol != PROTOCOL:
            raise WorkerFault(FaultKind.FOREIGN, f"speaks protocol {welcome.protocol} of the gate, this is {PROTOCOL}; compare with a nearer commit")
        return welcome

    def list_cases(self, request: ListCases) -> tuple[str, ...]:
        """The ids of its cases. Refuses what is no list of case ids."""
        ids = self.ask(request, Cases).ids
        strange = next((case for case in ids if len(case) > MAX_ID or not CASE_ID.fullmatch(case)), None)
        if strange is not None:
            raise WorkerFault(FaultKind.CHEATED, f"names a case {clean_text(strange, 100)!r}, which is no case id")
        if len(ids) > MAX_CASES or len(set(ids)) < len(ids):
            raise WorkerFault(FaultKind.CHEATED, f"names {len(ids)} cases, of which {len(set(ids))} differ; at most {MAX_CASES}, each once")
        return ids

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
        if timed.queued > seconds - SHORTEST:
            raise WorkerFault(FaultKind.CHEATED, f"says that it waited {timed.queued:g} s for a core in a round of {seconds:g} s")
        if seconds > passed + CLOCK_SLACK:
            raise WorkerFault(FaultKind.CHEATED, f"says that a round took {seconds:g} s of which only {passed:g} s passed here; does its clock count seconds?")
        self._last_end = timed.ended
        return timed

    def read_peaks(self) -> Mapping[str, Quantity]:
        """Its peaks of memory [bytes]. Refuses sizes that no memory has, and a worker that leaves its resident memory out."""
        peaks = self.ask(Memory(), Peaks).peaks
        if "rss_peak" not in peaks:
            raise WorkerFault(FaultKind.CHEATED, "gave no rss_peak, nor why it could not")
        for name, peak in peaks.items():
            if peak.value is not None and not 0 <= peak.value <= MAX_BYTES:
                raise WorkerFault(FaultKind.CHEATED, f"says that its {clean_text(name, 50)} was {peak.value:g} bytes")
        return peaks

    def score(self, seed: int) -> Scored:
        """One training, scored. Refuses numbers too large to subtract, and losses whose times are missing or run backwards."""
        scored = self.ask(Score(seed=seed), Scored)
        values = [q.value for q in scored.quality.values()] + [draw for draws in scored.draws.values() for draw in draws] + list(scored.watched)
        if any(value is not None and abs(value) > LARGEST for value in values):
            raise WorkerFault(FaultKind.CHEATED, f"gives a metric or a loss beyond {LARGEST:g}")
        if len(scored.watched) != len(scored.seconds):
            raise WorkerFault(FaultKind.CHEATED, f"gives {len(scored.watched)} losses and {len(scored.seconds)} times for them")
        if any(later <= earlier for earlier, later in pairwise((SHORTEST, *scored.seconds))) or (scored.seconds and scored.seconds[-1] > LARGEST):
            raise WorkerFault(FaultKind.CHEATED, "gives times of epochs that do not increase from zero")
        return scored

    def _explain_end(self) -> str:
        try:
            return clean_text(self._pipe.explain_end(), MAX_REASON)
        except OSError as error:
            return clean_text(f"gone, and its engine does not say how: {error}", MAX_REASON)

    def _read_line(self) -> bytes:
        silent = time.monotonic() + self._silence
        while b"\n" not in self._pending:
            until = min(silent, self._until)
            received = self._receive(max(0.0, until - time.monotonic()))
            if received is None:
                if time.monotonic() < until:
                    continue
                if until == self._until:
                    raise WorkerFault(FaultKind.LATE, f"was still at it {self._silence:g} s after the budget had ended")
                raise WorkerFault(FaultKind.HUNG, f"gave no answer and no sign of life for {self._silence:g} s")
            if not received:
                raise WorkerFault(FaultKind.DIED, self._explain_end())
            self._pending += received
            if len(self._pending) > MAX_LINE_BYTES:
                raise WorkerFault(FaultKind.CHEATED, f"sent more than {MAX_LINE_BYTES >> 20} MiB in one line")
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _receive(self, timeout: float) -> bytes | None:
        try:
            return self._pipe.read(timeout)
        except OSError:
            return b""

    def _parse(self, line: bytes) -> Answer:
        try:
            return read_answer(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            said = line[:120].decode(errors="replace")
            raise WorkerFault(FaultKind.CHEATED, clean_text(f"sent what is no answer of the protocol: {where}: {first['msg']}: {said}", MAX_REASON)) from None
