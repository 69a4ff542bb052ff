"""The reference moves on purpose only, and the history shows every later edit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from assay.bench.case import Quantity, UsageError
from assay.bench.cli.main import app
from assay.bench.gate.history import AcceptEntry, History, RunEntry
from assay.bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict, Side
from assay.bench.records.record import Machine

CASE = "fake/one/train/smoke/closed/fp32"
FIRST, SECOND, THIRD = ("1" * 40, "2" * 40, "3" * 40)
START = datetime(2026, 1, 1, tzinfo=UTC)


def make_report(reference, candidate, ratio=1.0, *, day=0, **changes):
    verdict = GateVerdict.REGRESSED if ratio > 1.05 else GateVerdict.EQUIVALENT
    estimate = Quantity(ratio, "candidate / reference", 10, ratio * 0.99, ratio * 1.01)
    fields = {
        "reference": Side(name="pinned", identity=reference),
        "candidate": Side(name="topic", identity=candidate),
        "machine": Machine(cpu="a CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux"),
        "seed": 7,
        "started": START + timedelta(days=day),
        "ended": START + timedelta(days=day, minutes=2),
        "findings": (Finding(case_id=CASE, kind=FindingKind.SPEED, verdict=verdict, reason="because", estimate=estimate),),
    }
    return GateReport(**(fields | changes))


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "gate")


def test_nothing_is_pinned_at_first(history, tmp_path) -> None:
    with pytest.raises(UsageError, match="no reference is pinned"):
        history.pinned()
    assert history.append(make_report(FIRST, SECOND)) is False
    assert not (tmp_path / "gate").exists()


def test_the_reference_moves_with_a_reason(history) -> None:
    history.accept(FIRST, "release 1.0")
    assert history.append(make_report(FIRST, SECOND, 1.01)) is True
    entry = history.accept(None, "release 1.1")
    assert (entry.identity, entry.reason, entry.judged) == (SECOND, "release 1.1", "no regression")
    assert history.pinned() == entry
    assert [entry.kind for entry in history.read()] == ["accept", "run", "accept"]


def test_a_regression_becomes_the_reference_only_by_force(history) -> None:
    history.accept(FIRST, "release 1.0")
    history.append(make_report(FIRST, SECOND, 1.2))
    with pytest.raises(UsageError, match="regressed against the reference in force"):
        history.accept(None, "whatever")
    assert history.pinned().identity == FIRST
    assert history.accept(None, "slower, but right: the loss was wrong", force=True).judged == "regressed"


def find(case, verdict, kind=FindingKind.SPEED, pairs=10):
    return Finding(case_id=case, kind=kind, verdict=verdict, reason="because", estimate=Quantity.missing("", "no"), pairs=pairs)


OTHER = "fake/two/train/smoke/closed/fp32"
ELSEWHERE = Machine(cpu="another CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux")
E, R, UNKNOWN = GateVerdict.EQUIVALENT, GateVerdict.REGRESSED, GateVerdict.INCONCLUSIVE
MEMORY, PRESENCE = FindingKind.MEMORY, FindingKind.PRESENCE


@pytest.mark.parametrize(
    ("first", "later", "machine", "settled"),
    [
        (find(CASE, R), find(CASE, E), None, True),
        (find(CASE, R), find(OTHER, E), None, False),
        (find(CASE, R), find(CASE, UNKNOWN), None, False),
        (find(CASE, R), find(CASE, E), ELSEWHERE, False),
        (find(CASE, R, MEMORY), find(CASE, E), None, False),
        (find(CASE, R, MEMORY), find(CASE, GateVerdict.IMPROVED, MEMORY), None, True),
        (find(CASE, R, PRESENCE, 0), find(CASE, UNKNOWN), None, True),
        (find(CASE, R, PRESENCE, 0), find(CASE, UNKNOWN, pairs=0), None, False),
        (find("every case", R, PRESENCE, 0), find(OTHER, E), None, True),
        (find("every case", R, PRESENCE, 0), find("every case", GateVerdict.NOT_COMPARABLE, PRESENCE, 0), None, False),
    ],
)
def test_a_regression_is_settled_by_the_same_case_on_the_same_machine(history, first, later, machine, settled) -> None:
    history.accept(FIRST, "release 1.0")
    history.append(make_report(FIRST, SECOND, findings=(first,)))
    history.append(make_report(FIRST, SECOND, day=1, findings=(later,), **({"machine": machine} if machine else {})))
    if settled:
        assert history.accept(SECOND, "fine").identity == SECOND
    else:
        with pytest.raises(UsageError, match=rf"regressed against the reference in force \({first.case_id} \({first.kind}\) on a CPU\)"):
            history.accept(SECOND, "whatever")
        assert history.accept(SECOND, "wanted", force=True).identity == SECOND


def test_a_stored_report_that_was_changed_cannot_vouch(history, tmp_path) -> None:
    history.accept(FIRST, "release 1.0")
    history.append(make_report(FIRST, SECOND))
    (report,) = (tmp_path / "gate" / "reports").iterdir()
    report.write_text(report.read_text() + "\n")
    with pytest.raises(UsageError, match="was changed since it was stored"):
        history.accept(SECOND, "fine")


@pytest.mark.parametrize(
    ("identity", "reason", "fault"),
    [(THIRD, "why not", "never judged"), ("1" * 40 + "+dirty:0123456789abcdef", "why not", "cannot be pinned"), (SECOND, "  ", "--reason is empty")],
)
def test_what_cannot_become_the_reference(history, identity, reason, fault) -> None:
    history.accept(FIRST, "release 1.0")
    history.append(make_report(FIRST, SECOND))
    with pytest.raises(UsageError, match=fault):
        history.accept(identity, reason)


def test_only_sessions_with_the_pinned_reference_on_a_fit_machine_are_kept(history) -> None:
    history.accept(FIRST, "release 1.0")
    assert history.append(make_report(SECOND, THIRD)) is False
    assert history.append(make_report(FIRST, THIRD, faults=("clocks: held by heat",))) is False
    assert history.append(make_report(FIRST, THIRD)) is True


def test_the_report_lies_beside_its_entry(history, tmp_path) -> None:
    history.accept(FIRST, "release 1.0")
    report = make_report(FIRST, SECOND, 1.01)
    history.append(report)
    entry = history.read()[-1]
    assert isinstance(entry, RunEntry)
    assert GateReport.model_validate_json((tmp_path / "gate" / "reports" / entry.report).read_bytes()) == report
    assert entry.ratios == {CASE: report.findings[0].estimate}


def test_a_later_edit_shows(history, tmp_path) -> None:
    history.accept(FIRST, "release 1.0")
    history.append(make_report(FIRST, SECOND, 1.2))
    history.accept(SECOND, "forced", force=True)
    path = tmp_path / "gate" / "history.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("1.2,", "1.0,", 1), lines[2]]) + "\n")
    with pytest.raises(UsageError, match=r"history.jsonl, line 3: does not follow from the line before"):
        history.read()
    path.write_text("\n".join([lines[0], "{}", lines[2]]) + "\n")
    with pytest.raises(UsageError, match=r"history.jsonl, line 2"):
        history.read()


def test_accept_on_the_command_line(history, tmp_path) -> None:
    image = "sha256:" + "a" * 64
    done = CliRunner().invoke(app, ["gate", "accept", "--candidate", image, "--reason", "the released image", "--results", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["judged"] == "the first reference"
    entry = history.pinned()
    assert isinstance(entry, AcceptEntry)
    assert entry.identity == image


def test_an_image_of_a_registry_is_pinned_by_the_id_that_sessions_know(history, tmp_path, monkeypatch) -> None:
    name, known = "ghcr.io/lab/assay@sha256:" + "b" * 64, "sha256:" + "c" * 64
    monkeypatch.setattr("assay.bench.gate.container.open_image", lambda name, *, gpu: SimpleNamespace(side=Side(name=name, identity=known)))
    done = CliRunner().invoke(app, ["gate", "accept", "--candidate", name, "--reason", "the released image", "--results", str(tmp_path)])
    assert done.exit_code == 0, done.output
    entry = history.pinned()
    assert (entry.identity, entry.name, entry.source) == (known, name, name)
    assert history.append(make_report(known, SECOND)) is True
