"""Curves through moved references, and marks whose false-alarm rate is what it says."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from assay.bench.cli.main import app
from assay.bench.gate.history import History
from assay.bench.gate.trend import ALPHA, find_changes, find_trends
from assay.bench.records.record import Machine
from tests.bench.gate.test_history import CASE, FIRST, SECOND, THIRD, make_report


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Twelve sessions against the first reference, the last six 8 % slower; then the reference moves to the last candidate."""
    kept = History(tmp_path / "gate")
    kept.accept(FIRST, "release 1.0")
    for day in range(12):
        kept.append(make_report(FIRST, SECOND, 1.0 + 0.002 * (day % 3) + 0.08 * (day >= 6), day=day))
    kept.accept(SECOND, "known and wanted", force=True)
    kept.append(make_report(SECOND, THIRD, 1.0, day=12))
    return kept


def test_ratios_are_chained_through_a_moved_reference(history) -> None:
    (trend,) = find_trends(history.read())
    assert trend.case_id == CASE
    assert trend.points[0].ratio == pytest.approx(1.0)
    assert trend.points[-1].ratio == pytest.approx(1.084)  # equal to a reference that was 8.4 % slower than the first
    assert trend.points[-1].high == pytest.approx(1.084 * 1.01)
    assert {point.segment for point in trend.points} == {0}


def test_a_reference_that_was_never_compared_begins_anew(history) -> None:
    history.accept("4" * 40, "new machine room", force=True)
    history.append(make_report("4" * 40, THIRD, 0.7, day=13))
    (trend,) = find_trends(history.read())
    assert [point.segment for point in trend.points[-2:]] == [0, 1]
    assert trend.points[-1].ratio == pytest.approx(0.7)


def test_a_step_is_marked_where_it_is(history) -> None:
    (trend,) = find_trends(history.read())
    (change,) = trend.changes
    assert change.at == trend.points[6].at
    assert change.ratio.value == pytest.approx(1.08, abs=0.005)
    assert change.p_value < 0.01


def test_two_steps_are_two_changes() -> None:
    levels = np.repeat([0.0, 0.05, -0.02], 20)
    noise = np.random.default_rng(1).normal(0, 0.005, 60)
    assert [at for at, _ in find_changes(levels + noise)] == [20, 40]


def test_constant_and_short_series_have_no_changes() -> None:
    assert find_changes(np.zeros(100)) == []
    assert find_changes(np.array([0.0] * 3 + [1.0] * 4)) == []


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "exponential"])
def test_marks_on_unchanging_series_are_as_rare_as_promised(draw) -> None:
    """120 series; with a true rate of ALPHA, more than 13 marked ones have a probability below 0.3 %."""
    generator = np.random.default_rng(3)
    marked = sum(bool(find_changes(getattr(generator, draw)(size=24))) for _ in range(120))
    assert ALPHA == 0.05
    assert marked <= 13


def test_history_on_the_command_line(history, tmp_path) -> None:
    for name, start in (("history.svg", b"<svg"), ("history.png", b"\x89PNG")):
        done = CliRunner().invoke(app, ["gate", "history", "--results", str(tmp_path), "--plot", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes().startswith(start)
    drawn = CliRunner().invoke(app, ["gate", "history", "--results", str(tmp_path)])
    assert drawn.exit_code == 0, drawn.output
    assert CASE in drawn.output
    assert "since 2026-01-07" in drawn.output
    assert max(len(line) for line in drawn.output.splitlines() if "\N{BOX DRAWINGS LIGHT VERTICAL}" in line) <= 80


def test_no_history_yet(tmp_path) -> None:
    done = CliRunner().invoke(app, ["gate", "history", "--results", str(tmp_path)])
    assert done.exit_code == 2


def test_each_machine_has_its_own_curve(history) -> None:
    elsewhere = Machine(cpu="another CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux")
    for day in range(4):
        history.append(make_report(SECOND, THIRD, 0.5, day=20 + day, machine=elsewhere))
    trends = find_trends(history.read())
    assert [(trend.case_id, trend.machine, len(trend.points)) for trend in trends] == [(CASE, "a CPU", 13), (CASE, "another CPU", 4)]
    assert [point.ratio for point in trends[1].points] == [0.5] * 4
    assert trends[1].changes == ()


@pytest.mark.parametrize(("select", "found"), [("fake and train", 1), ("FAKE", 1), ("fake and not train", 0), ("eval or smoke", 1)])
def test_cases_are_selected_as_everywhere(history, select, found) -> None:
    assert len(find_trends(history.read(), select)) == found


def test_a_malformed_selection_is_wrong_use(history, tmp_path) -> None:
    done = CliRunner().invoke(app, ["gate", "history", "--results", str(tmp_path), "--select", "fake and"])
    assert done.exit_code == 2
    assert "write it like pytest -k" in done.output
