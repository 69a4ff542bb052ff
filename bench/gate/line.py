"""The gate's end of a worker: asks, waits, and believes nothing that cannot be true."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TypeVar

from pydantic import ValidationError

from assay.bench.case import Outcome
from assay.bench.formatting.markdown import clean_text
from assay.bench.gate.kernel import Standing, Usage, count_wait, read_own_wait
from assay.bench.gate.pipe import Pipe
from assay.bench.gate.protocol import (
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
    Trained,
    Warm,
    Warmed,
    Welcome,
    encode,
    read_answer,
)

A = TypeVar("A", bound=Answer)
SHORTEST = 1e-8  # s; no epoch ends sooner
REST = 0.002  # s of CPU time that a worker may take between its rounds; an honest one takes less than 0.0001, to write and to read a line
SPIN = 0.02  # s more for each thread beside the first: OpenMP's spin before they sleep, of which 0.012 was measured
SPARE = 1.1  # times as many cores as a case has threads: what an interpreter's own threads may take beside them
TICK = 0.01  # s; ended children, and on some kernels all processes, are accounted for in such steps
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


@dataclass(frozen=True, slots=True)
class TimedRound:
    """A round as the gate saw it."""

    seconds: float  # from the request to the answer
    waited: float | None  # of these, how long others had the core; None where the kernel does not say
    samples: int  # the worker's own word, which `assay.bench.gate.samples` checks
    standing: Standing | None  # of the worker, when it had answered


class Line:
    """One worker. Every method raises WorkerFault for a worker that hangs, dies, fails or cannot be believed.

    silence: seconds without an answer or a sign of life after which it counts as hung. deadline: on the monotonic clock; signs of life
    keep no request going for longer than `silence` after it. on_cpu: a case's work is its process's own, and not a device's. Use it in a
    `with` block.

    A round lasts from its request to its answer on the gate's clock. The worker is not asked how long it took, so there is nothing to
    check against anything; what the pipe costs is part of the rounds of both sides alike, and nothing that a worker could influence is
    taken off for it.
    """

    def __init__(
        self, pipe: Pipe, silence: float, report: Callable[[str], None] | None = None, deadline: float = math.inf, *, on_cpu: bool = True
    ) -> None:
        self._pipe, self._silence, self._report, self._deadline, self._on_cpu = pipe, silence, report, deadline, on_cpu
        self._until = math.inf  # for the answer to the request that was posted last
        self._pending = b""
        self._read = 0.0  # when the last piece of an answer was read, on the monotonic clock
        self._queued = 0.0  # s of the wait for it in which this process, ready to run, had no core
        self._threads = 1
        self._resting: Usage | None = None  # what the worker had used up when it last answered
        self._rests = 0
        self._rested = 0.0  # s of CPU time that it took in all of them

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._pipe.write(encode(Bye()))
        with contextlib.suppress(OSError):  # an engine that does not answer any more must not cost the verdicts that are already there
            self._pipe.close()

    def post(self, request: Request) -> None:
        """Sends a request; `collect` gets its answer. Refuses an answer that is there already."""
        if self._pending or self._receive(0.0):
            raise WorkerFault(FaultKind.CHEATED, "spoke before it was asked")
        self._until = max(self._deadline, time.monotonic()) + self._silence
        try:
            self._pipe.write(encode(request))
        except OSError:
            raise WorkerFault(FaultKind.DIED, self._explain_end()) from None

    def collect(self, expected: type[A], *, silent: bool = False) -> A:
        """The answer to the request that was posted last. `silent`: no sign of life may come before it."""
        while True:
            answer = self._parse(self._read_line())
            if isinstance(answer, Alive) and not silent:
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
        self._threads = opened.comparability.threads or 1
        return opened

    def open(self, request: Open) -> Opened:
        """Posts and collects an Open."""
        self.post(request)
        return self.collect_opened(request)

    def warm(self, request: Warm) -> Warmed:
        """Rests from then on: what it computes outside a round is not its turn."""
        warmed = self.ask(request, Warmed)
        self._resting = self._pipe.read_usage()
        return warmed

    def time_round(self, steps: int) -> TimedRound:
        """One round, timed here. Refuses a worker that computed out of turn, on more cores than its case has threads, or unseen."""
        before = self._end_rest()
        asked = time.monotonic()
        self.post(Round(steps=steps))
        # a line that wakes the gate while the worker computes would count as the gate's own wait for a core
        samples = self.collect(Timed, silent=True).samples
        after = self._resting = self._pipe.read_usage()
        seconds = self._take_time(asked, before, after)
        waited: float | None = None
        if before is not None and after is not None:
            waited = count_wait(before, after, seconds) if self._on_cpu else 0.0  # a device works on while its process waits
            ran = after.ran - before.ran
            if self._on_cpu and ran > SPARE * self._threads * seconds + TICK:
                cores = f"{ran / seconds:.2g} cores" if seconds > TICK else f"{ran:.2g} s of CPU time in {seconds:.2g} s"
                raise WorkerFault(FaultKind.CHEATED, f"took {cores} in a round of a case with {self._threads} thread{'s' * (self._threads > 1)}")
        elif before is not None:
            raise WorkerFault(FaultKind.CHEATED, "has hidden itself from the kernel's accounts")
        return TimedRound(seconds, waited, samples, self._pipe.read_standing())

    def _take_time(self, asked: float, before: Usage | None, after: Usage | None) -> float:
        """Seconds from a request to its answer.

        On a busy machine the answer may have been there before the gate had a core to look at it: that wait is not the worker's. But while the
        gate waited the worker may have been at work, so no more is taken off than leaves what its main thread ran and waited in that time.
        """
        seconds = self._read - asked
        if before is None or after is None:
            return seconds
        least = after.main - before.main + after.waited - before.waited
        return min(seconds, max(seconds - self._queued, least))

    def _end_rest(self) -> Usage | None:
        """A tick may fall into any one rest, but not into each."""
        now = self._pipe.read_usage()
        if now is not None and self._resting is not None:
            worked, allowed = now.ran - self._resting.ran, REST + SPIN * (self._threads - 1)
            self._rests, self._rested = self._rests + 1, self._rested + worked
            if worked > allowed + TICK or self._rested > allowed * self._rests + TICK:
                raise WorkerFault(FaultKind.CHEATED, f"computed for {max(worked, self._rested):.2g} s of CPU time after its answer, in the other side's turn")
        return now

    def read_peaks(self) -> Peaks:
        """Its peaks of memory [bytes] over the rounds. Refuses sizes that no memory has, and a worker that leaves its resident memory out."""
        self._end_rest()
        found = self.ask(Memory(), Peaks)
        peaks = found.peaks
        if "rss_peak" not in peaks:
            raise WorkerFault(FaultKind.CHEATED, "gave no rss_peak, nor why it could not")
        for name, peak in peaks.items():
            if peak.value is not None and not 0 <= peak.value <= MAX_BYTES:
                raise WorkerFault(FaultKind.CHEATED, f"says that its {clean_text(name, 50)} was {peak.value:g} bytes")
        return found

    def score(self) -> Scored:
        """One training, scored; its seconds are the gate's. Refuses numbers too large to subtract, and losses whose times are missing or run
        backwards."""
        before, asked = self._pipe.read_usage(), time.monotonic()
        self.ask(Score(), Trained)
        after = self._pipe.read_usage()
        took = self._take_time(asked, before, after)
        scored = self.collect(Scored)
        values = [q.value for q in scored.quality.values()] + [draw for draws in scored.draws.values() for draw in draws] + list(scored.watched)
        if any(value is not None and abs(value) > LARGEST for value in values):
            raise WorkerFault(FaultKind.CHEATED, f"gives a metric or a loss beyond {LARGEST:g}")
        if len(scored.watched) != len(scored.seconds):
            raise WorkerFault(FaultKind.CHEATED, f"gives {len(scored.watched)} losses and {len(scored.seconds)} times for them")
        if any(later <= earlier for earlier, later in pairwise((SHORTEST, *scored.seconds))) or (scored.seconds and scored.seconds[-1] > LARGEST):
            raise WorkerFault(FaultKind.CHEATED, "gives times of epochs that do not increase from zero")
        if not scored.seconds:
            return scored
        if self._on_cpu and before is not None and after is not None:
            took -= count_wait(before, after, took)
        # how the time of a training is spread over its epochs is the worker's word; how long all of it took is not
        return scored.model_copy(update={"seconds": [each * took / scored.seconds[-1] for each in scored.seconds]})

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
        waited = read_own_wait()
        try:
            return self._pipe.read(timeout)
        except OSError:
            return b""
        finally:
            self._read, self._queued = time.monotonic(), read_own_wait() - waited

    def _parse(self, line: bytes) -> Answer:
        try:
            return read_answer(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            said = line[:120].decode(errors="replace")
            raise WorkerFault(FaultKind.CHEATED, clean_text(f"sent what is no answer of the protocol: {where}: {first['msg']}: {said}", MAX_REASON)) from None
