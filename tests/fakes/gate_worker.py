"""A worker that speaks the gate's protocol without computing anything, and misbehaves as told.

In a test's own process: FakeSource(FakeWorker(...)). As a process: `python gate_worker.py hangs|lives on|dies|babbles|absent`.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bench.gate.kernel import Standing, Usage

STEP = 10.0  # s that a round of the reference takes on CLOCK: so long that what the test itself takes does not count
Message = dict[str, Any]
CASES = ("fake/one/train/smoke/closed/fp32",)


class Clock:
    """The monotonic clock, which a fake worker moves on instead of working."""

    def __init__(self) -> None:
        self._skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._skipped

    def skip(self, seconds: float) -> None:
        self._skipped += seconds


CLOCK = Clock()


@dataclass
class FakeWorker:
    """One side. `factor` scales its time; `spread` is the share by which launches differ, in a fixed pattern.

    In each round its main thread works but for the seconds that it `queued`; `others` are the CPU seconds of its other threads and its
    children, `resting` the CPU seconds that it takes after each round. `told`: whether the kernel tells of these.
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
    resting: float = 0.0
    told: bool = True
    cores: frozenset[int] = frozenset({0, 1})
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
        self._worker, self._number, self._seed = worker, number, 0
        self.used = [0.0, 0.0, 0.0]  # as in bench.gate.kernel.Usage

    def __call__(self, request: Message) -> list[Message]:
        """request -> answers."""
        worker, kind = self._worker, request["kind"]
        self._seed = request.get("seed", self._seed)
        request = request | {"seed": self._seed}
        own = worker.answer(request, self._number) if worker.answer else None
        said = getattr(worker, f"_{kind}")(request) if own is None else own
        said |= worker.changes.get(said["kind"], {}) if own is None else {}
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
        self.used[0] += self._worker.resting  # before it is looked at again
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
        return taken or None

    def read_usage(self) -> Usage | None:
        return self._reply.read_usage() if isinstance(self._reply, FakeLaunch) else None

    def read_standing(self) -> Standing | None:
        return Standing(self._reply._worker.cores, 0, 0) if isinstance(self._reply, FakeLaunch) else None

    def explain_end(self) -> str:
        return "said nothing"

    def close(self) -> None:
        pass


def main(behaviour: str) -> None:
    if behaviour == "absent":
        sys.exit("No module named bench.gate.worker")
    reply = FakeWorker().launch()
    for line in sys.stdin:
        request = json.loads(line)
        if request["kind"] == "bye":
            return
        if request["kind"] == "round" and behaviour == "hangs":
            time.sleep(3600)
        while request["kind"] == "warm" and behaviour == "lives on":
            print(json.dumps({"kind": "alive", "note": "soon"}), flush=True)
            time.sleep(0.01)
        if request["kind"] == "round" and behaviour == "dies":
            os.abort()
        if behaviour == "babbles":
            print("importing ...", flush=True)
        for answer in reply(request):
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
