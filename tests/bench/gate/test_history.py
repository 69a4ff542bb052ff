"""The reference moves on purpose only, and the history shows every later edit."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.case import Quantity, UsageError
from bench.cli import app
from bench.gate.history import AcceptEntry, History, RunEntry
from bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict, Side
from bench.record import Machine

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
