"""Whole sessions between fake workers whose speed, memory and quality are known, and every way in which a worker can let the gate down."""

import time
from typing import Any

import pytest

from assay.bench.case import UsageError
from assay.bench.gate.verdict import FindingKind, GateVerdict
from assay.bench.records.record import Machine
from tests.fakes.gate_worker import CASES, STEP, FakeWorker

CASE = CASES[0]
SPEED, MEMORY, QUALITY, PRESENCE, TIME = FindingKind.SPEED, FindingKind.MEMORY, FindingKind.QUALITY, FindingKind.PRESENCE, FindingKind.TIME_TO_QUALITY


def verdicts(report):
    return {finding.kind: finding.verdict for finding in report.findings}


def find(report, kind):
    (finding,) = [finding for finding in report.findings if finding.kind is kind]
    return finding


def failing(kind, **fields):
    """Answers one kind of request with Failed, in every launch."""
    return FakeWorker(answer=lambda request, launch: {"kind": "failed", **fields} if request["kind"] == kind else None)


def test_equal_sides_are_equivalent_in_everything(compare, notes) -> None:
    report = compare(FakeWorker(), FakeWorker())
    assert verdicts(report) == dict.fromkeys((SPEED, MEMORY, QUALITY, TIME), GateVerdict.EQUIVALENT)
    assert report.exit_code == 0
    assert notes.pairs == 10
    assert notes.stages == ["screen", "quality, 1 seed"]


def test_a_slowdown_is_confirmed_by_fresh_pairs(compare, notes) -> None:
    report = compare(FakeWorker(), FakeWorker(factor=1.1), seeds=0)
    finding = find(report, SPEED)
    assert finding.verdict is GateVerdict.REGRESSED
    assert finding.estimate.value == pytest.approx(1.1, rel=1e-3)
    assert (len(finding.screen), len(finding.confirm)) == (10, 20)
    assert report.exit_code == 1
    assert notes.stages == ["screen", "confirm"]


def test_swapped_sides_are_an_improvement(compare, notes) -> None:
    report = compare(FakeWorker(factor=1.1), FakeWorker(), seeds=0)
    assert find(report, SPEED).verdict is GateVerdict.IMPROVED
    assert notes.stages == ["screen"]


def test_the_order_of_rounds_follows_from_the_seed(compare) -> None:
    """Fair coins, not a pattern: each side goes first in about half of 50 rounds, and the same seed gives the same order."""
    orders: list[list[str]] = []
    for _ in range(2):
        order: list[str] = []

        def watch(name, order=order):
            return FakeWorker(answer=lambda request, launch: order.append(name) if request["kind"] == "round" else None)

        compare(watch("A"), watch("B"), seeds=0)
        orders.append(order)
    first = orders[0][::2]
    assert orders[0] == orders[1]
    assert len(first) == 50
    assert 15 <= first.count("A") <= 35
    assert orders[0][1::2] == ["B" if side == "A" else "A" for side in first]


def test_speed_is_time_per_sample(compare) -> None:
    half = FakeWorker(changes={"timed": {"samples": 40}})  # 5 steps' worth in the time of 10, as at the end of an epoch
    assert find(compare(FakeWorker(), half, seeds=0), SPEED).estimate.value == pytest.approx(2.0, rel=1e-3)


def test_time_in_which_others_had_the_core_does_not_count(compare) -> None:
    disturbed = FakeWorker(factor=2, queued=STEP)
    assert find(compare(FakeWorker(), disturbed, seeds=0), SPEED).estimate.value == pytest.approx(1.0, rel=2e-3)


def test_where_the_kernel_does_not_tell_nothing_is_subtracted_and_the_verdict_says_so(compare) -> None:
    report = compare(FakeWorker(told=False), FakeWorker(factor=2, queued=STEP), seeds=0)
    assert find(report, SPEED).estimate.value == pytest.approx(2.0, rel=1e-3)
    (note,) = report.notes
    assert note.startswith("the kernel does not tell of the reference how long others kept its worker from a core")


def test_a_device_works_on_while_its_process_waits(compare, monkeypatch) -> None:
    monkeypatch.setattr("assay.bench.gate.session.identify_machine", lambda device: Machine(cpu="a CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux"))
    report = compare(FakeWorker(), FakeWorker(factor=2, queued=STEP), seeds=0, profile="a40")
    assert find(report, SPEED).estimate.value == pytest.approx(2.0, rel=1e-3)


def test_a_machine_that_is_not_fit_compares_nothing(compare, notes) -> None:
    report = compare(FakeWorker(), FakeWorker(factor=2), faults=["clocks: held by: sw_thermal_slowdown."])
    assert (report.exit_code, report.findings, notes.pairs) == (4, (), 0)


def test_a_spent_budget_is_inconclusive_and_says_so(compare) -> None:
    finding = find(compare(FakeWorker(), FakeWorker(), budget=0), SPEED)
    assert finding.verdict is GateVerdict.INCONCLUSIVE
    assert "the budget of 0 minutes ended first" in finding.reason


def test_cases_that_only_one_side_has(compare) -> None:
    other = "fake/two/train/smoke/closed/fp32"
    gone = compare(FakeWorker(cases=(CASE, other)), FakeWorker(), seeds=0)
    assert [(f.case_id, f.verdict) for f in gone.findings if f.kind is PRESENCE] == [(other, GateVerdict.REGRESSED)]
    new = compare(FakeWorker(), FakeWorker(cases=(CASE, other)), seeds=0)
    assert [(f.case_id, f.verdict) for f in new.findings if f.kind is PRESENCE] == [(other, GateVerdict.IMPROVED)]


def test_a_selection_without_cases_is_wrong_use(compare) -> None:
    nothing = failing("list", outcome="skipped", reason="no case matches select='nothing'")
    with pytest.raises(UsageError, match="no case matches"):
        compare(nothing, nothing)


@pytest.mark.parametrize("request_kind", ["open", "warm", "round", "memory"])
@pytest.mark.parametrize("outcome", ["crash", "oom"])
def test_what_fails_on_the_candidate_alone_has_regressed(compare, notes, request_kind, outcome) -> None:
    report = compare(FakeWorker(), failing(request_kind, outcome=outcome, reason="no room"))
    assert verdicts(report) == {PRESENCE: GateVerdict.REGRESSED}
    assert report.findings[0].reason == f"candidate failed ({outcome}): no room; the reference runs"
    assert len([note for note in notes.notes if "repeating a launch" in note]) == 1


def test_what_fails_on_the_reference_cannot_be_compared(compare) -> None:
    broken = failing("open", outcome="crash", reason="no room")
    assert verdicts(compare(broken, FakeWorker())) == {PRESENCE: GateVerdict.NOT_COMPARABLE}
    assert verdicts(compare(broken, broken)) == {PRESENCE: GateVerdict.NOT_COMPARABLE}


def test_what_neither_side_supports_has_not_changed(compare) -> None:
    unsupported = failing("open", outcome="unsupported", reason="fp16 needs a GPU")
    assert verdicts(compare(unsupported, unsupported)) == {PRESENCE: GateVerdict.EQUIVALENT}
    assert verdicts(compare(FakeWorker(), unsupported)) == {PRESENCE: GateVerdict.REGRESSED}


def test_one_failed_launch_is_repeated_and_told(compare) -> None:
    flaky = FakeWorker(answer=lambda request, launch: {"kind": "failed", "outcome": "crash", "reason": "a fluke"} if (request["kind"], launch) == ("warm", 4) else None)
    finding = find(compare(FakeWorker(), flaky, seeds=0), SPEED)
    assert (finding.verdict, finding.pairs) == (GateVerdict.EQUIVALENT, 10)
    assert finding.reason.endswith("a launch of the candidate was repeated: a fluke")


@pytest.mark.parametrize(
    ("behaviour", "verdict", "reason"),
    [
        ("hangs", GateVerdict.REGRESSED, "candidate hung: gave no answer and no sign of life for 0.5 s"),
        ("dies", GateVerdict.REGRESSED, "candidate died: killed by SIGABRT"),
    ],
)
def test_processes_that_hang_or_die(compare, behaviour, verdict, reason) -> None:
    report = compare(FakeWorker(), behaviour, silence=0.5)
    assert verdicts(report) == {PRESENCE: verdict}
    assert reason in report.findings[0].reason


def test_a_process_that_prints_into_its_answers(compare) -> None:
    finding = compare(FakeWorker(), "babbles").findings[0]
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    assert "sent what is no answer of the protocol" in finding.reason
    assert "importing ..." in finding.reason


def test_a_checkout_without_a_worker_is_older_than_the_gate(compare) -> None:
    finding = compare("absent", FakeWorker()).findings[0]
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    assert "No module named assay.bench.gate.worker" in finding.reason
    assert "older than the gate" in finding.reason


CHEATS: dict[str, tuple[dict[str, dict[str, Any]], str]] = {
    "another case": ({"opened": {"case": "fake/easier/train/smoke/closed/fp32"}}, "was asked for case"),
    "a time of its own": ({"timed": {"began": 1.0, "ended": 1.1}}, "no answer of the protocol"),
    "a wait of its own": ({"timed": {"queued": 1.0}}, "no answer of the protocol"),
    "no samples": ({"timed": {"samples": 0}}, "no answer of the protocol"),
    "foreign gpu": ({"opened": {"gpu_uuid_sha256": "5" * 64}}, "the sides run on different GPUs"),
    "other recipe": ({"opened": {"recipe": {"batch": 4}}}, "recipe batch: 8 -> 4"),
    "other packages": ({"welcome": {"lock_sha256": "6" * 64}}, "ask for different packages"),
    "another protocol": ({"welcome": {"protocol": 1}}, "speaks protocol 1"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_what_cannot_be_true_is_not_compared(compare, cheat) -> None:
    changes, reason = CHEATS[cheat]
    report = compare(FakeWorker(), FakeWorker(changes=changes))
    assert set(verdicts(report).values()) == {GateVerdict.NOT_COMPARABLE}
    assert reason in report.findings[0].reason
    assert report.exit_code == 3


def test_clocks_of_different_units_are_not_compared(compare) -> None:
    report = compare(FakeWorker(), FakeWorker(factor=1e-3))
    assert verdicts(report) == {PRESENCE: GateVerdict.NOT_COMPARABLE}
    assert "count in different units" in report.findings[0].reason


def test_different_packages_are_compared_on_demand(compare) -> None:
    report = compare(FakeWorker(), FakeWorker(changes={"welcome": {"lock_sha256": "6" * 64}}), across_environments=True)
    assert report.exit_code == 0


def test_sides_that_do_not_fit_together_are_launched_one_after_the_other(compare, notes) -> None:
    report = compare(FakeWorker(held=900, free=1000), FakeWorker(held=900, free=1000, factor=1.1), seeds=0)
    assert find(report, SPEED).verdict is GateVerdict.REGRESSED
    assert find(report, SPEED).estimate.value == pytest.approx(1.1, rel=1e-3)
    assert [note for note in notes.notes if "one launch at a time" in note] == [
        f"{CASE}: one launch at a time, because one worker holds 0.0 GB and 0.0 GB are free"
    ]


def test_memory_is_gated_exactly(compare) -> None:
    def holding(mib):
        peaks = {name: {"value": mib * 2**20, "unit": "bytes"} for name in ("allocated_peak", "reserved_peak", "rss_peak")}
        return FakeWorker(changes={"peaks": {"peaks": peaks}})

    assert find(compare(holding(1000), holding(1032), seeds=0), MEMORY).verdict is GateVerdict.EQUIVALENT
    assert find(compare(holding(1000), holding(1033), seeds=0), MEMORY).verdict is GateVerdict.REGRESSED
    assert find(compare(holding(10_000), holding(10_100), seeds=0), MEMORY).verdict is GateVerdict.EQUIVALENT
    assert find(compare(holding(10_000), holding(10_101), seeds=0), MEMORY).verdict is GateVerdict.REGRESSED
    assert find(compare(holding(1033), holding(1000), seeds=0), MEMORY).verdict is GateVerdict.IMPROVED


def test_a_drop_in_quality_is_confirmed_by_seeds(compare, notes) -> None:
    draws = tuple(0.001 * (i % 21 - 10) for i in range(200))
    report = compare(FakeWorker(draws=draws, quality=lambda seed: 0.5 + 0.001 * (seed % 3)), FakeWorker(draws=draws, quality=lambda seed: 0.45))
    finding = find(report, QUALITY)
    assert finding.verdict is GateVerdict.REGRESSED
    assert finding.pairs == 10
    assert finding.estimate.value == pytest.approx(-0.051, abs=1e-3)
    assert notes.stages[-1] == "quality, 10 seeds"


def test_the_luck_of_one_seed_accuses_nobody(compare) -> None:
    unlucky = FakeWorker(quality=lambda seed: 0.4 if seed == 7 else 0.5)
    assert find(compare(FakeWorker(), unlucky), QUALITY).verdict is GateVerdict.EQUIVALENT


@pytest.mark.parametrize("seeds", [1, 6])

def test_seeds_that_can_never_decide_are_refused(compare, seeds) -> None:
    with pytest.raises(UsageError, match=f"--seeds {seeds}: fewer than 7 trainings can never decide"):
        compare(FakeWorker(), FakeWorker(), seeds=seeds)


def test_quality_within_the_margin_is_not_inferior(compare, notes) -> None:
    draws = tuple(0.001 * (i % 21 - 10) for i in range(200))
    report = compare(FakeWorker(draws=draws), FakeWorker(draws=draws, quality=lambda seed: 0.499))
    assert find(report, QUALITY).verdict is GateVerdict.EQUIVALENT
    assert notes.stages[-1] == "quality, 1 seed"


def test_a_metric_that_vanished_has_regressed(compare) -> None:
    gone = FakeWorker(changes={"scored": {"quality": {}}})
    assert find(compare(FakeWorker(), gone), QUALITY).verdict is GateVerdict.REGRESSED


def test_more_epochs_to_the_same_loss_are_a_longer_time_to_quality(compare) -> None:
    slow = {"watched": [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 1 / 3], "seconds": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]}
    finding = find(compare(FakeWorker(), FakeWorker(changes={"scored": slow})), TIME)
    assert finding.verdict is GateVerdict.REGRESSED
    assert finding.estimate.value == pytest.approx(8 / 3)


def training_for(seconds, only_with_seed=None):
    """The same losses, after these seconds; with every seed or with one."""
    scored = {"kind": "scored", "quality": {"auc": {"value": 0.5, "unit": ""}}, "watched": [1, 1 / 2, 1 / 3], "seconds": seconds}
    return FakeWorker(answer=lambda request, launch: scored if request["kind"] == "score" and request["seed"] in (only_with_seed or request["seed"],) else None)


@pytest.mark.parametrize(
    ("seconds", "only", "verdict", "ratio", "stages"),
    [
        ([1.0, 2.0, 3.12], None, GateVerdict.EQUIVALENT, 1.04, 1),
        ([0.5, 1.0, 1.5], None, GateVerdict.EQUIVALENT, 0.5, 1),
        ([1.0, 2.0, 3.6], None, GateVerdict.REGRESSED, 1.2, 2),
        ([1.0, 2.0, 3.6], 7, GateVerdict.EQUIVALENT, 1.0, 2),  # a neighbour's visit
    ],
)
def test_a_training_that_takes_longer_for_the_same_losses(compare, notes, seconds, only, verdict, ratio, stages) -> None:
    finding = find(compare(FakeWorker(), training_for(seconds, only)), TIME)
    assert finding.verdict is verdict
    assert finding.estimate.value == pytest.approx(ratio)
    assert [stage for stage in notes.stages if "quality" in stage] == ["quality, 1 seed", "quality, 10 seeds"][:stages]


def test_a_session_without_work_is_quick(compare) -> None:
    """What the gate itself costs beside launches and rounds: ten pairs with all their messages."""
    began = time.process_time()
    compare(FakeWorker(), FakeWorker())
    assert time.process_time() - began < 2
