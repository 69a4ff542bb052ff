import time
from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.stats import binom

from assay.bench.measure.clock import median_interval, plan_rounds, run_round, summarise_rounds

CPU = torch.device("cpu")


class ScriptedSteps:
    """Steps of known duration, and the clock that they move. Sixteenths of a second add up without rounding."""

    def __init__(self, durations: Iterator[float]) -> None:
        self.now = 0.0
        self._durations = durations

    def step(self) -> int:
        self.now += next(self._durations)
        return 32

    def clock(self) -> float:
        return self.now


def repeat(*first: float, then: Callable[[int], float]) -> Iterator[float]:
    yield from first
    count = 0
    while True:
        yield then(count)
        count += 1


def plan(durations, **options):
    scripted = ScriptedSteps(durations)
    return plan_rounds(scripted.step, CPU, clock=scripted.clock, round_seconds=0.25, **options)


def test_steady_steps_settle_after_two_equal_halves():
    # 1 step is too short for a half of 0.125 s; then two halves of 2 steps agree
    found = plan(repeat(then=lambda _: 0.0625))
    assert (found.warmup_steps, found.steps_per_round, found.rounds, found.settled) == (5, 4, 10, True)


def test_a_slow_first_step_does_not_count():
    found = plan(repeat(5.0, then=lambda _: 0.0625))
    assert (found.warmup_steps, found.steps_per_round, found.settled) == (6, 4, True)


def test_slow_steps_are_taken_three_times_however_long_that_takes():
    found = plan(repeat(then=lambda _: 32.0), max_warmup_seconds=20.0)
    assert (found.warmup_steps, found.steps_per_round, found.settled) == (3, 1, True)


def test_drifting_steps_are_not_called_settled():
    found = plan(repeat(then=lambda n: 0.25 * 1.5**n), max_warmup_seconds=20.0)
    assert not found.settled
    assert found.warmup_steps == 10  # 0.25 * (1.5^n - 1) / 0.5 reaches 20 s at n = 10
    assert found.steps_per_round == 1


def test_steps_per_round_follow_from_the_faster_half():
    # two halves that agree within 10 %: 0.25 s and 0.234375 s a step
    found = plan(repeat(1.0, 0.25, then=lambda _: 0.234375))
    assert found.settled
    assert found.steps_per_round == 2  # ceil(0.25 / 0.234375)


def test_a_round_returns_its_samples_and_waits_for_the_device_once(monkeypatch):
    waits: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    device = torch.device("cuda", 1)
    samples = iter([32, 32, 7])
    assert run_round(lambda: next(samples), device, steps=3) == 71
    assert waits == [device]


def test_a_known_busy_wait_is_measured_right():
    # on the thread's own processor time, so that other work on the machine does not count
    def spin() -> int:
        until = time.thread_time() + 2e-3
        while time.thread_time() < until:
            pass
        return 5

    found = plan_rounds(spin, CPU, round_seconds=0.02, rounds=8, clock=time.thread_time)
    seconds, samples = [], []
    for _ in range(found.rounds):
        began = time.thread_time()
        samples.append(run_round(spin, CPU, found.steps_per_round))
        seconds.append(time.thread_time() - began)
    summary = summarise_rounds(seconds, samples, found.steps_per_round)
    assert found.settled
    assert found.steps_per_round in (10, 11)
    assert summary["step_ms"].value == pytest.approx(2.0, rel=0.05)
    assert min(seconds) / found.steps_per_round >= 2e-3
    assert summary["samples_per_s"].value == pytest.approx(2500, rel=0.05)


def interval_of(values):
    return median_interval(values)


def test_interval_of_ten_rounds_is_second_and_ninth():
    interval = interval_of([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])
    assert (interval.low, interval.high, interval.ranks) == (2, 9, (2, 9))
    assert interval.coverage == 1 - 2 * (1 + 10) / 1024


def test_interval_takes_six_rounds():
    assert interval_of([1, 2, 3, 4, 5]) is None
    interval = interval_of([1, 2, 3, 4, 5, 6])
    assert (interval.low, interval.high, interval.coverage) == (1, 6, 1 - 2 / 64)


@pytest.mark.parametrize("n", [*range(6, 40), 101])
def test_interval_is_the_narrowest_that_reaches_the_confidence(n):
    interval = interval_of(list(range(1, n + 1)))
    rank = interval.ranks[0]
    assert interval.coverage == pytest.approx(1 - 2 * binom.cdf(rank - 1, n, 0.5), abs=1e-12)
    assert interval.coverage >= 0.95 > 1 - 2 * binom.cdf(rank, n, 0.5)


def test_summary_by_hand():
    summary = summarise_rounds([0.5, 1.0, 2.0], [10, 10, 10], steps_per_round=5)
    assert (summary["samples_per_s"].value, summary["samples_per_s"].n) == (10.0, 3)
    assert summary["step_ms"].value == 200.0
    assert summary["step_ms"].low is None
    assert "no interval: 95 % takes at least 6 rounds" in summary["step_ms"].how
    assert summary["step_ms_iqr"].value == 300.0 - 150.0  # quartiles of 100, 200, 400
    assert {q.unit for q in summary.values()} == {"samples/s", "ms"}


def test_summary_has_the_exact_interval():
    seconds = [1.0 + i / 8 for i in range(10)]
    step = summarise_rounds(seconds, [16] * 10, steps_per_round=1)["step_ms"]
    assert (step.value, step.low, step.high) == (1562.5, 1125.0, 2000.0)
    assert "order statistics 2 and 9, coverage 97.9 %" in step.how


def test_one_round_has_no_quartiles():
    summary = summarise_rounds([2.0], [10], steps_per_round=1)
    assert summary["samples_per_s"].value == 5.0
    assert summary["step_ms_iqr"].reason == "one round has no quartiles"


@pytest.mark.parametrize(("seconds", "samples"), [([], []), ([1.0], [1, 2]), ([1.0, 0.0], [1, 1])])
def test_rounds_that_make_no_sense_are_refused(seconds, samples):
    with pytest.raises(ValueError, match="one positive duration and one sample count each"):
        summarise_rounds(seconds, samples, steps_per_round=1)
