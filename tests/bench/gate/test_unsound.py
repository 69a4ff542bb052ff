"""Workers that break, lie or never end, and machines that turn out to be unfit: each has its verdict, and none brings the gate down."""

from typing import Any

import pytest

from assay.bench.case import UsageError
from assay.bench.gate.verdict import GateVerdict
from assay.bench.records.record import Machine
from tests.bench.gate.test_session import CASE, MEMORY, PRESENCE, QUALITY, SPEED, failing, find, verdicts
from tests.fakes.gate_worker import FakeWorker

OPENED = FakeWorker()._open({"case": CASE, "seed": 7})
MACHINE = Machine(cpu="a CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux", gpu="a GPU")
WATCHED = [1.0, 0.5, 1 / 3]


def saying(kind, **fields):
    return FakeWorker(changes={kind: fields})


@pytest.mark.parametrize(
    ("field", "value"), [("case", "fake/easier/train/smoke/closed/fp32"), ("dataset", "other"), ("dataset_sha256", "9" * 64), ("batch", 4), ("threads", 2), ("seed", 8)]
)
def test_another_key_is_not_compared(compare, field, value) -> None:
    other = OPENED["comparability"] | {field: value}
    finding = compare(FakeWorker(), saying("opened", comparability=other)).findings[0]
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    words = {"case": "was asked for case in its key", "seed": "was asked for seed 7 and opened 8"}
    assert words.get(field, f"the sides differ in {field}: {OPENED['comparability'].get(field)} -> {value}") in finding.reason


LIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "no resident memory": ("peaks", {"peaks": {}}, "gave no rss_peak"),
    "less than no memory": ("peaks", {"peaks": {"rss_peak": {"value": -1.0, "unit": "bytes"}}}, "says that its rss_peak was -1 bytes"),
    "endless memory": ("peaks", {"peaks": {"rss_peak": {"value": 1e308, "unit": "bytes"}}}, "says that its rss_peak was 1e+308 bytes"),
    "losses without times": ("scored", {"watched": WATCHED, "seconds": [1.0]}, "gives 3 losses and 1 times for them"),
    "times that stand": ("scored", {"watched": WATCHED, "seconds": [1.0, 1.0, 2.0]}, "do not increase from zero"),
    "times from zero": ("scored", {"watched": WATCHED, "seconds": [0.0, 1.0, 2.0]}, "do not increase from zero"),
    "a metric beyond numbers": ("scored", {"quality": {"auc": {"value": -1e308, "unit": ""}}}, "a metric or a loss beyond 1e+15"),
    "endless steps": ("warmed", {"steps": 10**30}, "no answer of the protocol"),
    "endless size": ("warmed", {"held_bytes": 10**400}, "no answer of the protocol"),
    "endless samples": ("timed", {"samples": 10**400}, "no answer of the protocol"),
    "a long metric": ("opened", {"metric": "m" * 5000}, "no answer of the protocol"),
    "no case id": ("cases", {"ids": (CASE, "nonsense")}, "names a case 'nonsense', which is no case id"),
    "a case twice": ("cases", {"ids": (CASE, CASE)}, "names 2 cases, of which 1 differ"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_no_worker_can_mean_is_not_compared(compare, lie) -> None:
    kind, fields, reason = LIES[lie]
    report = compare(FakeWorker(), saying(kind, **fields))
    finding = find(report, PRESENCE)
    assert (finding.verdict, report.exit_code) == (GateVerdict.NOT_COMPARABLE, 3)
    assert reason in finding.reason


@pytest.mark.parametrize("kind", ["list", "open", "score"])
def test_a_long_complaint_is_cut(compare, kind) -> None:
    finding = find(compare(FakeWorker(), failing(kind, outcome="crash", reason="no \x1b[31m" + "x" * 100_000)), PRESENCE)
    assert finding.verdict is GateVerdict.REGRESSED
    assert 1000 < len(finding.reason) < 1200
    assert "\x1b" not in finding.reason


def test_memory_that_cannot_be_told_is_inconclusive(compare) -> None:
    unknown = saying("peaks", peaks={"rss_peak": {"value": None, "unit": "bytes", "reason": "no /proc"}})
    finding = find(compare(FakeWorker(), unknown, seeds=0), MEMORY)
    assert (finding.verdict, finding.reason) == (GateVerdict.INCONCLUSIVE, "no peak of memory that both sides have: candidate: no /proc")


def test_memory_of_the_pairs_that_have_it(compare) -> None:
    missing = {"kind": "peaks", "peaks": {"rss_peak": {"value": None, "unit": "bytes", "reason": "busy"}}, "changed": True}
    sometimes = FakeWorker(answer=lambda request, launch: missing if (request["kind"], launch) == ("memory", 3) else None)
    finding = find(compare(FakeWorker(), sometimes, seeds=0), MEMORY)
    assert (finding.verdict, finding.pairs) == (GateVerdict.EQUIVALENT, 9)


def test_two_sides_without_a_case_are_wrong_use(compare) -> None:
    with pytest.raises(UsageError, match="neither side has a case of preset smoke"):
        compare(saying("cases", ids=()), saying("cases", ids=()))


def test_a_candidate_that_dies_at_import_has_regressed(compare) -> None:
    report = compare(FakeWorker(), "absent")
    assert verdicts(report) == {PRESENCE: GateVerdict.REGRESSED}
    assert report.exit_code == 1
    assert "candidate never started: did not start as a worker of the gate" in report.findings[0].reason
    assert "the reference runs" in report.findings[0].reason
    assert compare("absent", "absent").findings[0].verdict is GateVerdict.NOT_COMPARABLE


def test_a_start_that_fails_once_is_repeated(compare) -> None:
    shy = FakeWorker(answer=lambda request, launch: {"kind": "failed", "outcome": "crash", "reason": "a fluke"} if (request["kind"], launch) == ("list", 0) else None)
    assert compare(FakeWorker(), shy, seeds=0).exit_code == 0


def test_a_reference_that_failed_too_does_not_run(compare) -> None:
    crash = {"kind": "failed", "outcome": "crash", "reason": "a fluke"}
    flaky = FakeWorker(answer=lambda request, launch: crash if (request["kind"], launch) == ("warm", 1) else None)
    finding = find(compare(flaky, failing("warm", outcome="crash", reason="always")), PRESENCE)
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    assert finding.reason == "reference failed (crash): a fluke; candidate failed (crash): always"


def test_a_reference_without_room_beside_the_candidate_runs(compare) -> None:
    oom = {"kind": "failed", "outcome": "oom", "reason": "full"}
    crowded = FakeWorker(answer=lambda request, launch: oom if (request["kind"], launch) == ("warm", 1) else None)
    finding = find(compare(crowded, failing("warm", outcome="oom", reason="full")), PRESENCE)
    assert finding.verdict is GateVerdict.REGRESSED
    assert finding.reason.endswith("the reference runs")


class Unstartable:
    """A source whose engine answers with an error, as docker's errors are."""

    def launch(self):
        raise OSError("500 Server Error: no space left on device")


class Breaking(FakeWorker):
    """A worker whose line breaks with an error of its engine."""

    def launch(self):
        reply = super().launch()

        def answer(request):
            if request["kind"] == "warm":
                raise TimeoutError("the engine timed out")
            return reply(request)

        return answer


def test_an_engine_that_fails_accuses_nobody(compare) -> None:
    finding = compare(FakeWorker(), Unstartable()).findings[0]
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    assert finding.reason == "candidate unreachable: cannot be started: 500 Server Error: no space left on device"


def test_a_line_that_breaks_is_a_fault_of_that_side(compare) -> None:
    finding = find(compare(FakeWorker(), Breaking()), PRESENCE)
    assert finding.verdict is GateVerdict.REGRESSED
    assert "candidate died: said nothing" in finding.reason


def test_a_budget_that_ends_before_quality_says_so(compare) -> None:
    report = compare(FakeWorker(), FakeWorker(), budget=0)
    assert verdicts(report) == dict.fromkeys((SPEED, QUALITY), GateVerdict.INCONCLUSIVE)
    assert find(report, QUALITY).reason == "the budget of 0 minutes ended first: quality was not compared"
    assert [f.kind for f in compare(FakeWorker(), FakeWorker(), budget=0, seeds=0).findings] == [SPEED]


def test_a_budget_that_ends_between_seeds_keeps_what_was_found(compare, monkeypatch) -> None:
    late = [False]
    monkeypatch.setattr("assay.bench.gate.session.GateSession._is_late", lambda session: late[0])

    def worse(seed):
        late[0] = True
        return 0.4

    finding = find(compare(FakeWorker(), FakeWorker(quality=worse), budget=99), QUALITY)
    assert finding.verdict is GateVerdict.INCONCLUSIVE
    assert finding.reason.startswith("auc differs (0.5 -> 0.4)")
    assert finding.reason.endswith("the budget of 99 minutes ended first")


def test_signs_of_life_do_not_outlive_the_budget(compare) -> None:
    report = compare(FakeWorker(), "lives on", budget=0.01, silence=0.2, seeds=0)
    assert verdicts(report) == {SPEED: GateVerdict.INCONCLUSIVE}
    assert "the budget of 0.01 minutes ended first" in find(report, SPEED).reason


def test_a_gpu_that_was_unfit_in_the_end_accuses_nobody_of_slowness(compare, monkeypatch) -> None:
    monkeypatch.setattr("assay.bench.gate.session.identify_machine", lambda device: MACHINE)
    peaks = {"rss_peak": {"value": 9e8, "unit": "bytes"}}
    slow = FakeWorker(factor=1.2, changes={"peaks": {"peaks": peaks}})
    report = compare(FakeWorker(), slow, profile="a40", later=["clocks: held by: sw_thermal_slowdown."], seeds=0)
    assert verdicts(report) == {SPEED: GateVerdict.INVALID_MACHINE, MEMORY: GateVerdict.REGRESSED}
    assert find(report, SPEED).reason.startswith("the machine was not fit when the work had ended: clocks: held by: sw_thermal_slowdown.; withdrawn: regressed: time +20.0 %")
    alone = compare(FakeWorker(), FakeWorker(factor=1.2), profile="a40", later=["clocks: held"], seeds=0)
    assert alone.exit_code == 4


def test_load_is_told_and_not_refused(compare) -> None:
    report = compare(FakeWorker(), FakeWorker(), notes_of_load=["other work takes 60 % of 2 cores"], seeds=0)
    assert (report.notes, report.exit_code) == (("other work takes 60 % of 2 cores",), 0)
