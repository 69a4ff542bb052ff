"""What every side-by-side script shares: lanes that alternate in one process, ratios within a round, and what a lane must keep.

A lane does the same work as its peer from the same seed. Lanes alternate in random order within each round, so that a busy machine slows
them alike; a ratio is taken within a round, and results are medians over rounds with a distribution-free interval.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import nn

from assay.bench.case import Precision, Quantity
from assay.bench.measure.clock import median_interval, synchronise
from assay.bench.profiles import Profile, load_profile
from benchmarks.footprint import count_flops, measure_growth, use_of_peak

CPU = torch.device("cpu")
LOSS_TOLERANCE = 0.01


class Lane(StrEnum):
    """Who does the work. The divisions mean what they mean in the suite: closed follows the recipe, open may change what keeps the quality."""

    PEER = "peer"
    PUBLISHED = "published"  # where the published way is neither the peer's nor ours
    CLOSED = "assay closed"
    OPEN = "assay open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A lane made ready: `run` does the whole work from a seed and returns what it is judged by."""

    run: Callable[[int], nn.Module]
    precision: Precision = Precision.FP32
    how: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """One piece of work for several lanes, the peer among them."""

    name: str
    unit: str
    samples: int  # per run
    lanes: Mapping[Lane, Entry]
    measure_loss: Callable[[nn.Module], float] | None = None  # on the test rows; None: outputs were compared beforehand
    agreement: str = ""  # what was compared beforehand, and how closely
    aim: float | None = None  # times the peer's throughput that the last lane is to reach on `aim_device`
    aim_device: str = "cpu"
    mfu_aim: float | None = None  # share of the device's peak that the last lane is to reach
    device: torch.device = CPU
    profile: Profile = field(default_factory=lambda: load_profile("cpu"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one lane did over the rounds; ratios are to the peer of the same round, above 1 is faster, or a larger loss."""

    workload: str
    lane: Lane
    how: str
    precision: Precision
    samples_per_s: Quantity
    speed_ratio: Quantity
    test_loss: Quantity
    loss_ratio: Quantity
    peak_memory: Quantity
    mfu: Quantity
    aim: float | None = None
    mfu_aim: float | None = None

    @property
    def aim_met(self) -> bool | None:
        """Whether the median reaches the aim; None without one."""
        return None if self.aim is None or self.speed_ratio.value is None else self.speed_ratio.value >= self.aim


def compete(contest: Contest, rounds: int, seed: int = 0) -> list[Result]:
    """Every lane once a round, in random order; round r runs from seed r in each lane. Memory and FLOPs are taken in runs of their own."""
    order, lanes = random.Random(seed), list(contest.lanes)
    seconds: dict[Lane, list[float]] = {lane: [] for lane in lanes}
    losses: dict[Lane, list[float]] = {lane: [] for lane in lanes}
    for lane in lanes:
        contest.lanes[lane].run(seed)  # allocators and kernels warm up outside the clock
    footprints = {lane: _measure_footprint(contest, entry, seed) for lane, entry in contest.lanes.items()}
    for number in range(rounds):
        for lane in order.sample(lanes, len(lanes)):
            began = time.perf_counter()
            model = contest.lanes[lane].run(number)
            synchronise(contest.device)
            seconds[lane].append(time.perf_counter() - began)
            if contest.measure_loss is not None:
                losses[lane].append(contest.measure_loss(model))
    return [_summarise(contest, lane, seconds, losses, *footprints[lane]) for lane in lanes]


def _measure_footprint(contest: Contest, entry: Entry, seed: int) -> tuple[Quantity, Quantity]:
    """Memory growth [bytes] and FLOP of one run."""
    growth = measure_growth(lambda: entry.run(seed), contest.device)
    if entry.precision in contest.profile.peak_flops:
        return growth, count_flops(lambda: entry.run(seed))
    return growth, Quantity.missing("FLOP", f"profile {contest.profile.name} has no peak for {entry.precision}")


def _summarise(
    contest: Contest, lane: Lane, seconds: Mapping[Lane, list[float]], losses: Mapping[Lane, list[float]], growth: Quantity, flops: Quantity
) -> Result:
    entry, speed = contest.lanes[lane], take_median([contest.samples / s for s in seconds[lane]], f"{contest.unit}/s")
    if contest.measure_loss is None:
        loss = ratio = Quantity.missing("loss", contest.agreement)
    else:
        loss = take_median(losses[lane], "loss")
        ratio = take_median([own / peer for own, peer in zip(losses[lane], losses[Lane.PEER], strict=True)], "x peer")
    return Result(
        workload=contest.name,
        lane=lane,
        how=entry.how,
        precision=entry.precision,
        samples_per_s=speed,
        speed_ratio=take_median([peer / own for peer, own in zip(seconds[Lane.PEER], seconds[lane], strict=True)], "x peer"),
        test_loss=loss,
        loss_ratio=ratio,
        peak_memory=growth,
        mfu=use_of_peak(flops, contest.samples, speed, contest.profile, entry.precision),
        aim=contest.aim if lane is list(contest.lanes)[-1] and contest.device.type == contest.aim_device else None,
        mfu_aim=contest.mfu_aim if lane is list(contest.lanes)[-1] else None,
    )


def take_median(values: list[float], unit: str) -> Quantity:
    """Median over rounds with a distribution-free 95 % interval, which takes six rounds."""
    interval = median_interval(values)
    how = f"median of {len(values)} rounds"
    if interval is None:
        return Quantity(statistics.median(values), unit, len(values), how=f"{how}; no interval: 95 % takes at least 6 rounds")
    return Quantity(statistics.median(values), unit, len(values), interval.low, interval.high, f"{how}, order statistics")


def judge(result: Result) -> list[str]:
    """What the lane surely does not keep of its promise; empty when all is well, or when there are too few rounds to say.

    A closed lane is no slower than the peer and reaches its loss to within 1 %; an open lane is faster, unless the peer does less work and
    the aim allows for it, reaches its aims where it has some, and its loss is not larger by more than that.
    """
    speed, loss, failures = result.speed_ratio, result.loss_ratio, []
    if result.lane in (Lane.PEER, Lane.PUBLISHED):
        return []
    if result.lane is Lane.CLOSED and speed.high is not None and speed.high < 1:
        failures.append("slower than the peer")
    if result.lane is Lane.OPEN and (result.aim is None or result.aim >= 1) and speed.low is not None and speed.low <= 1:
        failures.append("not faster than the peer")
    if result.aim is not None and speed.high is not None and speed.high < result.aim:
        failures.append(f"below the aim of {result.aim:.3g} times the peer")
    if result.mfu_aim is not None and result.mfu.value is not None and result.mfu.value < result.mfu_aim:
        failures.append(f"MFU of {result.mfu.value:.1%}, below {result.mfu_aim:.0%}")
    if loss.low is not None and loss.low > 1 + LOSS_TOLERANCE:
        failures.append("test loss larger than the peer's")
    if result.lane is Lane.CLOSED and loss.high is not None and loss.high < 1 - LOSS_TOLERANCE:
        failures.append("test loss differs from the peer's")
    return failures
