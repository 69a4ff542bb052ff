"""A worker that speaks the gate's protocol without computing anything, and misbehaves as told.

In a test's own process: FakeSource(FakeWorker(...)). As a process: `python gate_worker.py BEHAVIOUR`, which `act` and `rest` list; any other
name is an honest worker.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from assay.bench.gate.kernel import Standing, Usage, adopt_orphans

STEP = 10.0  # s that a round of the reference takes on CLOCK: so long that beside it, what a test with real workers takes does not count
Message = dict[str, Any]
CASES = ("fake/one/train/smoke/closed/fp32",)


class Clock:
    """The monotonic clock, which a fake worker moves on instead of working. It stands still otherwise, unless it `runs` as real workers need."""

    def __init__(self) -> None:
        self._skipped, self.runs = 0.0, False

    def monotonic(self) -> float:
        return self._skipped + (time.monotonic() if self.runs else 0.0)

    def skip(self, seconds: float) -> None:
        self._skipped += seconds


CLOCK = Clock()
ORDINARY = Standing(frozenset({0, 1}), 0, 0)


@dataclass
class FakeWorker:
    """One side. `factor` scales its time; `spread` is the share by which launches differ, in a fixed pattern.

    In each round its main thread works but for the seconds that it `queued`; `others` are the CPU seconds of its other threads and its
    children, `resting` the CPU seconds that it takes after the gate has looked at its
    accounts for the n-th time (odd: after a round, even: in one). `told`: whether the kernel tells of these.
    """

    factor: float = 1.0
    spread: float = 0.001
    cases: tuple[str, ...] = CASES
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # fields of an answer, by its kind
    answer: Callable[[Message, int], Message | None] | None = None  # (request, launch) -> another answer, or None
    held: int = 1 << 20
    free: int = 1 << 30
    quality: Callable[[int], float] = lambda seed: 0.5
    draws: tuple[float, ...] | None = None
    epochs: int = 3
    queued: float = 0.0
    others: float = 0.0
    resting: Callable[[int], float] = lambda look: 0.0
    told: bool = True
    standing: Callable[[int], Standing | None] = lambda launch: ORDINARY
    launches: Iterator[int] = field(default_factory=count)

    def launch(self) -> "FakeLaunch":
        """A fresh launch."""
        return FakeLaunch(self, next(self.launches))

    def _hello(self, request):
        return {"kind": "welcome", "protocol": 2, "lock_sha256": "1" * 64, "later": "unknown fields are no offence"}

    def _list(self, request):
        return {"kind": "cases", "ids": self.cases}

    def _open(self, request):
        key = {"case": request["case"], "declaration_sha256": "2" * 64, "dataset": "twin", "dataset_sha256": "3" * 64, "environment": "4", "device": "a CPU"}
        key |= {"device_memory_gib": 8, "threads": 1, "seed": request["seed"], "torch": "2"}
        return {"kind": "opened", "case": request["case"], "comparability": key, "recipe": {"batch": 8}, "metric": "auc", "higher_is_better": True, "timed": True}

    def _warm(self, request):
        return {"kind": "warmed", "steps": 10, "settled": True, "held_bytes": self.held, "free_bytes": self.free}

    def _round(self, request):
        return {"kind": "timed", "samples": 8 * request["steps"]}

    def _memory(self, request):
        return {"kind": "peaks", "peaks": {"rss_peak": {"value": 3e8, "unit": "bytes"}}, "changed": True}

    def _score(self, request):
        value = self.quality(request["seed"])
        draws = {"auc": [value + d for d in self.draws]} if self.draws else {}
        watched = [1 / (1 + epoch) for epoch in range(self.epochs)]
        return {"kind": "scored", "quality": {"auc": {"value": value, "unit": ""}}, "draws": draws, "watched": watched, "seconds": [1.0 + e for e in range(self.epochs)]}


class FakeLaunch:
    """One launch of a fake worker, and what the kernel knows of it."""

    def __init__(self, worker: FakeWorker, number: int) -> None:
        self._worker, self._number, self._seed, self._looks = worker, number, 0, 0
        self.used = [0.0, 0.0, 0.0]  # as in assay.bench.gate.kernel.Usage

    def __call__(self, request: Message) -> list[Message]:
        """request -> answers."""
        worker, kind = self._worker, request["kind"]
        self._seed = request.get("seed", self._seed)
        request = request | {"seed": self._seed}
        own = worker.answer(request, self._number) if worker.answer else None
        said: Message = own or getattr(worker, f"_{kind}")(request)
        said = said | dict(worker.changes.get(said["kind"], {})) if own is None else said
        if said["kind"] == "timed":
            self._work()
            return [said]
        if said["kind"] == "scored":
            CLOCK.skip(max((each for each in said.get("seconds", ()) if each < 1e6), default=0.0))
            return [{"kind": "alive", "note": "here"}, {"kind": "trained"}, said]
        return [said] if own is not None else [{"kind": "alive", "note": "here"}, said]

    def _work(self) -> None:
        worker = self._worker
        seconds = STEP * worker.factor * (1 + worker.spread * ((self._number * 7) % 10 - 4.5) / 4.5)
        CLOCK.skip(seconds)
        worked = seconds - worker.queued
        self.used = [self.used[0] + worked + worker.others, self.used[1] + worked, self.used[2] + worker.queued]

    def read_usage(self) -> Usage | None:
        usage = Usage(*self.used) if self._worker.told else None
        self.used[0] += self._worker.resting(self._looks)  # before it is looked at again
        self._looks += 1
        return usage


class FakePipe:
    """Answers at once, without a process."""

    def __init__(self, launch: Any) -> None:
        self._reply, self._out = launch, b""

    def write(self, data: bytes) -> None:
        request = json.loads(data)
        if request["kind"] != "bye":
            self._out += b"".join(json.dumps(answer).encode() + b"\n" for answer in self._reply(request))

    def read(self, timeout: float) -> bytes | None:
        taken, self._out = self._out, b""
        if not taken and not CLOCK.runs:
            CLOCK.skip(timeout)
        return taken or None

    def read_usage(self) -> Usage | None:
        return self._reply.read_usage() if isinstance(self._reply, FakeLaunch) else None

    def read_standing(self) -> Standing | None:
        return self._reply._worker.standing(self._reply._number) if isinstance(self._reply, FakeLaunch) else None

    def explain_end(self) -> str:
        return "said nothing"

    def close(self) -> None:
        pass


def burn(seconds: float) -> None:
    """Takes so much CPU time."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def start_child(behaviour: str) -> None:
    """A process that computes until its worker is gone, on the worker's own core; with two parents less, if it is a daemon."""
    worker = os.getpid()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if os.fork() == 0:
        if "daemon" in behaviour:
            os.setsid()
            if os.fork():
                os._exit(0)
        while Path(f"/proc/{worker}").exists():
            burn(0.01)
        os._exit(0)
    if "daemon" in behaviour:
        os.wait()


def act(behaviour: str, kind: str) -> None:
    """Before the answer to a request of that kind."""
    match behaviour, kind:
        case "hangs", "round":
            time.sleep(3600)
        case "lives on", "warm":
            while True:
                print(json.dumps({"kind": "alive", "note": "soon"}), flush=True)
                time.sleep(0.01)
        case "dies", "round":
            os.abort()
        case "babbles", _:
            print("importing ...", flush=True)
        case "calls out", "round":
            print(json.dumps({"kind": "alive", "note": "computing"}), flush=True)
        case "pins itself", "round":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        case ("starts a child" | "starts a daemon"), "warm":
            start_child(behaviour)
    if kind == "round":
        burn(0.05)


def rest(behaviour: str, kind: str) -> None:
    """After the answer to a request of that kind."""
    match behaviour, kind:
        case "works after its answer", "round":
            burn(0.05)
        case "works after its warm-up", "warm":
            burn(0.05)
        case "works in a thread", "warm":
            threading.Thread(target=lambda: burn(3600), daemon=True).start()
        case "answers twice", "round":
            print(json.dumps({"kind": "timed", "samples": 80}), flush=True)


def main(behaviour: str) -> None:
    if behaviour == "absent":
        sys.exit("No module named assay.bench.gate.worker")
    adopt_orphans()
    reply = FakeWorker().launch()
    for line in sys.stdin:
        request = json.loads(line)
        if request["kind"] == "bye":
            return
        act(behaviour, request["kind"])
        for answer in reply(request):
            print(json.dumps(answer), flush=True)
        rest(behaviour, request["kind"])


if __name__ == "__main__":
    main(sys.argv[1])
