from dataclasses import replace

import pytest
import torch
from torch import nn

from assay.bench.case import Precision, Quantity
from assay.bench.profiles import load_profile
from benchmarks.contest import Contest, Entry, Lane, Result, compete, judge, take_median
from benchmarks.contest_command import format_table, format_verdict

OURS = (Lane.PEER, Lane.CLOSED, Lane.OPEN)
ABSENT = Quantity.missing("", "not looked at")


def test_ratios_are_taken_within_a_round(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.contest.time.perf_counter", lambda: now[0])
    cost = {Lane.PEER: 2.0, Lane.CLOSED: 1.0, Lane.OPEN: 0.5}
    seen = []

    def make(lane):
        def train(seed):
            seen.append((lane, seed))
            now[0] += cost[lane] * (1 + seed)  # the machine slows down for everyone
            return nn.Linear(1, 1)

        return Entry(run=train)

    contest = Contest(name="made", unit="rows", samples=100, lanes={lane: make(lane) for lane in OURS}, measure_loss=lambda model: 3.0, aim=5.0)
    results = compete(contest, rounds=7)
    assert [(r.lane, r.speed_ratio.value, r.speed_ratio.low, r.speed_ratio.high) for r in results] == [
        (Lane.PEER, 1, 1, 1),
        (Lane.CLOSED, 2, 2, 2),
        (Lane.OPEN, 4, 4, 4),
    ]
    assert [r.samples_per_s.value for r in results] == [100 / 2 / 4, 100 / 4, 100 / 0.5 / 4]
    assert [r.loss_ratio.value for r in results] == [1, 1, 1]
    assert [(r.aim, r.aim_met) for r in results] == [(None, None), (None, None), (5.0, False)]
    rounds = [[lane for lane, seed in seen[6:] if seed == number] for number in range(7)]  # warm-up and memory come first, from seed 0
    assert all(sorted(lanes) == sorted(OURS) for lanes in rounds)
    assert len({tuple(lanes) for lanes in rounds}) > 1


def test_mfu_counts_the_lanes_own_work_where_the_profile_has_a_peak():
    layer, batch = nn.Linear(64, 32, bias=False), torch.ones(8, 64)

    def infer(seed):
        with torch.inference_mode():
            layer(batch)
        return layer

    lanes = {Lane.PEER: Entry(run=infer), Lane.OPEN: Entry(run=infer, precision=Precision.FP16)}
    contest = Contest(name="made", unit="rows", samples=8, lanes=lanes, agreement="outputs are the same", profile=load_profile("a40"))
    peer, ours = compete(contest, rounds=1)
    peak = load_profile("a40").peak_flops[Precision.FP32].value
    speed = peer.samples_per_s.value
    assert speed is not None
    assert peer.mfu.value == pytest.approx(2 * 64 * 32 * speed / peak)
    assert ours.loss_ratio.reason == "outputs are the same"
    assert ours.aim is None


def test_median_has_an_interval_from_six_rounds_on():
    assert take_median([3.0, 1.0, 2.0], "x") == Quantity(2.0, "x", 3, how="median of 3 rounds; no interval: 95 % takes at least 6 rounds")
    nine = take_median([float(n) for n in range(1, 10)], "x")
    assert (nine.value, nine.low, nine.high) == (5.0, 2.0, 8.0)


def ratio(low, high):
    return Quantity((low + high) / 2, "x peer", 9, low, high)


def make_result(lane, speed, loss, aim=None):
    return Result(
        workload="w",
        lane=lane,
        how="",
        precision=Precision.FP32,
        samples_per_s=Quantity(1.0, "rows/s"),
        speed_ratio=speed,
        test_loss=Quantity(1.0, "loss"),
        loss_ratio=loss,
        peak_memory=Quantity(2e6, "bytes"),
        mfu=ABSENT,
        aim=aim,
    )


@pytest.mark.parametrize(
    ("lane", "speed", "loss", "aim", "expected"),
    [
        (Lane.PEER, (1, 1), (1, 1), None, []),
        (Lane.PUBLISHED, (0.5, 0.6), (2, 3), None, []),
        (Lane.CLOSED, (0.9, 1.1), (0.9, 1.1), None, []),
        (Lane.CLOSED, (0.8, 0.99), (0.9, 1.1), None, ["slower than the peer"]),
        (Lane.OPEN, (1.01, 1.5), (0.9, 1.1), None, []),
        (Lane.OPEN, (1.0, 1.5), (0.9, 1.1), None, ["not faster than the peer"]),
        (Lane.OPEN, (2.4, 2.6), (0.9, 1.1), 2.5, []),
        (Lane.OPEN, (2.1, 2.4), (0.9, 1.1), 2.5, ["below the aim of 2.5 times the peer"]),
        (Lane.OPEN, (0.8, 0.9), (0.9, 1.1), 0.77, []),  # the peer does less work
        (Lane.OPEN, (0.6, 0.7), (0.9, 1.1), 0.77, ["below the aim of 0.77 times the peer"]),
        (Lane.CLOSED, (1.1, 1.2), (1.005, 1.1), None, []),
        (Lane.CLOSED, (1.1, 1.2), (1.02, 1.1), None, ["test loss larger than the peer's"]),
        (Lane.CLOSED, (1.1, 1.2), (0.5, 0.9), None, ["test loss differs from the peer's"]),  # it does not do the same work
        (Lane.OPEN, (1.1, 1.2), (0.5, 0.9), None, []),  # it may learn more
    ],
)
def test_verdicts(lane, speed, loss, aim, expected):
    assert judge(make_result(lane, ratio(*speed), ratio(*loss), aim)) == expected


def test_an_mfu_below_its_aim_is_a_failure():
    fast = make_result(Lane.OPEN, ratio(3, 4), ratio(0.9, 1.1))
    assert judge(replace(fast, mfu=Quantity(0.412, "share"), mfu_aim=0.4)) == []
    assert judge(replace(fast, mfu=Quantity(0.388, "share"), mfu_aim=0.4)) == ["MFU of 38.8%, below 40%"]


def test_too_few_rounds_give_no_verdict():
    bare = Quantity(0.5, "x peer")
    assert judge(make_result(Lane.CLOSED, bare, bare)) == []
    assert format_verdict(make_result(Lane.CLOSED, bare, bare)) == "too few rounds"


def test_table_shows_aims_memory_and_why_a_figure_is_missing():
    met, missed = make_result(Lane.OPEN, ratio(3.1, 3.3), ratio(0.9, 1.1), 3.0), make_result(Lane.OPEN, ratio(2.7, 3.1), ratio(0.9, 1.1), 3.0)
    _, first, second, reason = format_table([met, missed]).splitlines()
    assert first.endswith("3.200 [3.100, 3.300]  1.000 [0.900, 1.100]      2.0 MB      -  ok; aim 3x met")
    assert second.endswith("ok; aim 3x missed")  # the median does not reach it, though the interval might
    assert reason == "-: not looked at"
