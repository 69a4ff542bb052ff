"""What measuring itself costs, on a step that does nothing.

    python benchmarks/harness_overhead.py [--json]

Inside the timed part of a round: the loop over the steps and one wait for the device. This is part of every published
step time. Outside of it: what pytest-benchmark and the sampling of a GPU add to a run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from assay.bench.case import Quantity  # noqa: E402
from assay.bench.measure.clock import run_round, summarise_rounds  # noqa: E402
from assay.bench.measure.meter import Meter  # noqa: E402
from assay.bench.measure.nvml import Sampler  # noqa: E402

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

STEPS = 1000
SHORTEST_ROUND_US = 20_000  # of a smoke case; others take ten times that


def empty_step() -> int:
    """A step without work."""
    return 0


class Overhead:
    """Measures from within a test, where pytest-benchmark's fixture is."""

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device, self.rounds = device, rounds
        self.found: dict[str, Quantity] = {}

    @pytest.fixture
    def overhead(self) -> Overhead:
        return self

    def measure(self, benchmark: BenchmarkFixture) -> None:
        """Empty rounds of one and of many steps, what lies around a round, and an empty window of the meter."""
        self.found["round_of_one_step"] = self._time_rounds(1)
        self.found["each_further_step"] = self._time_rounds(STEPS)
        began = time.perf_counter()
        benchmark.pedantic(run_round, args=(empty_step, self.device, 1), rounds=self.rounds, iterations=1)  # type: ignore[no-untyped-call]
        wall = time.perf_counter() - began
        if benchmark.stats is None:
            raise RuntimeError("pytest-benchmark is disabled: run without --benchmark-disable")
        around = wall - sum(benchmark.stats.stats.data)
        self.found["around_a_round"] = Quantity(1e6 * around / self.rounds, "us", self.rounds, how="benchmark.pedantic outside the timed part, mean")
        with Meter(self.device) as meter:
            began = time.perf_counter()
            with meter.window():
                pass
            self.found["window"] = Quantity(1e6 * (time.perf_counter() - began), "us", how="opening and closing an empty window of the meter")

    def _time_rounds(self, steps: int) -> Quantity:
        seconds = []
        for _ in range(self.rounds):
            began = time.perf_counter()
            run_round(empty_step, self.device, steps)
            seconds.append(time.perf_counter() - began)
        in_ms = summarise_rounds(seconds, [1] * self.rounds, steps)["step_ms"]
        value, low, high = (None if ms is None else 1e3 * ms for ms in (in_ms.value, in_ms.low, in_ms.high))
        return Quantity(value, "us", in_ms.n, low, high, in_ms.how)


def test_empty_step(benchmark: BenchmarkFixture, overhead: Overhead) -> None:
    """The one test that this file runs in itself."""
    overhead.measure(benchmark)


def measure_harness(device: torch.device, rounds: int) -> dict[str, Quantity]:
    """The cost of rounds and windows. Raises RuntimeError with pytest's words where it cannot run."""
    overhead, shown = Overhead(device, rounds), io.StringIO()
    with contextlib.redirect_stdout(shown):
        code = pytest.main([__file__, "-q", "--rootdir", str(ROOT), "-p", "no:cacheprovider"], plugins=[overhead])
    if code != 0:
        raise RuntimeError(f"pytest ended with {code!r}:\n{shown.getvalue()}")
    return overhead.found


def measure_sampler(seconds: float) -> dict[str, Quantity]:
    """What watching a GPU costs: the wait for the sampler at a case's start, and its load on one core while it watches."""
    began = time.perf_counter()
    with Sampler(idle_seconds=0.0) as sampler:
        start = Quantity(1e3 * (time.perf_counter() - began), "ms", how="from its start to its first answer")
        sampler.start()
        time.sleep(seconds)
        window = sampler.stop()
    if window.lost is not None or window.cpu_seconds is None or not window.seconds:
        units = {"sampler_start": "ms", "sampler_load": "share", "sampler_largest_gap": "ms"}
        return {name: Quantity.missing(unit, window.lost or "the window was empty") for name, unit in units.items()}
    how = f"one reading every {window.period_ms:g} ms for {window.seconds:.1f} s"
    load = Quantity(window.cpu_seconds / window.seconds, "share", window.samples, how=f"of one core, {how}")
    return {"sampler_start": start, "sampler_load": load, "sampler_largest_gap": Quantity(window.largest_gap_ms, "ms", window.samples, how=how)}


def relate_to_rounds(found: Mapping[str, Quantity]) -> Quantity:
    """What share of the suite's shortest round is the harness's own."""
    own = found["round_of_one_step"].value
    if own is None:
        return Quantity.missing("share", "no rounds were timed")
    return Quantity(own / SHORTEST_ROUND_US, "share", how=f"round_of_one_step over the suite's shortest round, {SHORTEST_ROUND_US / 1e3:g} ms")


def format_table(found: Mapping[str, Quantity]) -> str:
    """One line a number: name, value, unit, and how it was taken or why it is missing."""
    return "\n".join(f"{name:20} {'none' if q.value is None else format(q.value, '.4g'):>10} {q.unit:6} {q.reason or q.how}" for name, q in found.items())


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description="What measuring costs, on a step that does nothing.")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the sampler watches")
    options = parser.parse_args()
    found = measure_harness(torch.device(options.device), options.rounds)
    found |= {"share_of_a_round": relate_to_rounds(found)} | measure_sampler(options.seconds)
    print(json.dumps({name: asdict(quantity) for name, quantity in found.items()}, indent=1) if options.json else format_table(found))


if __name__ == "__main__":
    main()
