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

STEP = 1e-4  # s; short, so that a fabricated round never claims more time than has passed and a little
Message = dict[str, Any]
CASES = ("fake/one/train/smoke/closed/fp32",)


@dataclass
class FakeWorker:
    """One side. `factor` scales its time; `spread` is the share by which launches differ, in a fixed pattern."""

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
    launches: Iterator[int] = field(default_factory=count)

    def launch(self) -> Callable[[Message], list[Message]]:
        """A fresh launch: request -> answers."""
        number, clock = next(self.launches), 0.0

        def reply(request: Message) -> list[Message]:
            nonlocal clock
            own = self.answer(request, number) if self.answer else None
            if own is not None:
                return [own]
            kind = request["kind"]
            said = getattr(self, f"_{kind}")(request)
            if kind == "round":
                pattern = 1 + self.spread * ((number * 7) % 10 - 4.5) / 4.5
                said["began"] = max(time.monotonic(), clock)
                said["ended"] = clock = said["began"] + STEP * self.factor * pattern
            return [{"kind": "alive", "note": "here"}, said | self.changes.get(said["kind"], {})]

        return reply

    def _hello(self, request):
        return {"kind": "welcome", "protocol": 1, "lock_sha256": "1" * 64, "later": "unknown fields are no offence"}

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
        return {"kind": "peaks", "peaks": {"rss_peak": {"value": 3e8, "unit": "bytes"}}}

    def _score(self, request):
        value = self.quality(request["seed"])
        draws = {"auc": [value + d for d in self.draws]} if self.draws else {}
        watched = [1 / (1 + epoch) for epoch in range(self.epochs)]
        return {"kind": "scored", "quality": {"auc": {"value": value, "unit": ""}}, "draws": draws, "watched": watched, "seconds": [1.0 + e for e in range(self.epochs)]}


class FakePipe:
    """Answers at once, without a process."""

    def __init__(self, reply: Callable[[Message], list[Message]]) -> None:
        self._reply, self._out = reply, b""

    def write(self, data: bytes) -> None:
        request = json.loads(data)
        if request["kind"] != "bye":
            self._out += b"".join(json.dumps(answer).encode() + b"\n" for answer in self._reply(request))

    def read(self, timeout: float) -> bytes | None:
        taken, self._out = self._out, b""
        return taken

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
        while request["kind"] == "round" and behaviour == "lives on":
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
