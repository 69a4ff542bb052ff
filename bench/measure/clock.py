"""How long a step takes: warm-up, rounds, and the median of the rounds with an interval that assumes no distribution."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from assay.bench.case import Quantity

Clock = Callable[[], float]
"""Monotonic seconds."""

MIN_WARMUP_STEPS = 3
AGREEMENT = 0.1  # two halves of the warm-up agree when their step times differ by at most this share


def synchronise(device: torch.device) -> None:
    """Returns when the device has done everything that was asked of it so far."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """How a case is timed. `settled` is False when the step time still drifted at the end of the warm-up."""

    warmup_steps: int
    steps_per_round: int
    rounds: int
    settled: bool


def plan_rounds(
    step: Callable[[], int],
    device: torch.device,
    *,
    round_seconds: float = 0.2,
    rounds: int = 10,
    max_warmup_seconds: float = 20.0,
    clock: Clock = time.perf_counter,
) -> RoundPlan:
    """Warms up until two successive halves agree, then chooses once how many steps a round has.

    A half lasts at least half a round, so that the clock and a single slow step do not decide; at least three steps are
    taken however slow they are. Steps per round follow from the faster of the last two halves: no round falls short of
    `round_seconds` because the warm-up was slower than the measurement.
    """
    began = clock()
    taken, size = 0, 1
    previous = fastest = math.inf
    while True:
        seconds = _time_steps(step, device, size, clock)
        taken += size
        each = seconds / size
        fastest = min(previous, each)
        long_enough = seconds >= round_seconds / 2
        settled = long_enough and taken >= MIN_WARMUP_STEPS and abs(each - previous) <= AGREEMENT * fastest
        if settled or (taken >= MIN_WARMUP_STEPS and clock() - began >= max_warmup_seconds):
            break
        if long_enough:
            previous = each
        else:
            size *= 2
    return RoundPlan(taken, max(1, math.ceil(round_seconds / fastest)), rounds, settled)


def _time_steps(step: Callable[[], int], device: torch.device, steps: int, clock: Clock) -> float:
    began = clock()
    run_round(step, device, steps)
    return clock() - began


def run_round(step: Callable[[], int], device: torch.device, steps: int) -> int:
    """Takes the steps, waits once for the device and returns the samples they saw.

    The device must be idle at the start, as it is after another round: the wait at the end then belongs to this round alone.
    """
    samples = 0
    for _ in range(steps):
        samples += step()
    synchronise(device)
    return samples


@dataclass(frozen=True, slots=True)
class MedianInterval:
    """An interval for the median that is right for every continuous distribution, and its exact coverage."""

    low: float
    high: float
    coverage: float
    ranks: tuple[int, int]  # 1-based ranks of the two observations that bound it


def median_interval(values: Sequence[float], confidence: float = 0.95) -> MedianInterval | None:
    """The narrowest symmetric pair of order statistics that covers the median with at least this confidence.

    The number of observations below the median is binomial with p = 1/2, hence the pair of ranks (r, n + 1 - r) covers it
    with probability 1 - 2 P(B < r), exactly. None when even the smallest and the largest value do not reach the
    confidence, which takes six values at 95 %. Source: W. J. Conover, Practical Nonparametric Statistics, section 3.2.
    """
    ordered, n = sorted(values), len(values)
    tail, best = 0.0, None
    for rank in range(1, n // 2 + 1):
        tail += math.comb(n, rank - 1) / 2**n
        coverage = 1 - 2 * tail
        if coverage < confidence:
            break
        best = MedianInterval(ordered[rank - 1], ordered[n - rank], coverage, (rank, n + 1 - rank))
    return best


def summarise_rounds(seconds: Sequence[float], samples_per_round: Sequence[int], steps_per_round: int) -> dict[str, Quantity]:
    """samples_per_s, step_ms and step_ms_iqr from the duration [s] and the samples of each round.

    Raises ValueError unless there is one positive duration and one sample count per round.
    """
    if not seconds or len(seconds) != len(samples_per_round) or min(seconds) <= 0:
        raise ValueError(f"rounds need one positive duration and one sample count each: {list(seconds)}, {list(samples_per_round)}")
    steps_ms = [1e3 * s / steps_per_round for s in seconds]
    return {
        "samples_per_s": _take_median([n / s for n, s in zip(samples_per_round, seconds, strict=True)], "samples/s", steps_per_round),
        "step_ms": _take_median(steps_ms, "ms", steps_per_round),
        "step_ms_iqr": _take_quartile_range(steps_ms),
    }


def _take_median(values: Sequence[float], unit: str, steps: int) -> Quantity:
    of = f"median of {len(values)} rounds of {steps} steps"
    interval = median_interval(values)
    if interval is None:
        return Quantity(statistics.median(values), unit, len(values), how=f"{of}; no interval: 95 % takes at least 6 rounds")
    low, high = interval.ranks
    how = f"{of}; interval from order statistics {low} and {high}, coverage {100 * interval.coverage:.1f} %"
    return Quantity(statistics.median(values), unit, len(values), interval.low, interval.high, how)


def _take_quartile_range(values: Sequence[float]) -> Quantity:
    if len(values) < 2:
        return Quantity.missing("ms", "one round has no quartiles")
    first, _, third = statistics.quantiles(values, n=4, method="inclusive")
    return Quantity(third - first, "ms", len(values), how="third minus first quartile over the rounds, linear interpolation")
