"""The line that moves while the gate measures."""

import io

import pytest
from rich.console import Console

from assay.bench.cli import gate_progress as progress
from assay.bench.cli.gate_progress import GateDisplay, describe_values


@pytest.fixture
def screen(monkeypatch) -> io.StringIO:
    written = io.StringIO()
    monkeypatch.setattr(progress, "errors", Console(file=written, force_terminal=True, width=80, color_system=None))
    return written


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.0], "+0.0 %"),
        ([0.01, 0.03], "+2.0 %"),
        ([0.02] * 4, "+2.0 %"),
        ([0.0] * 5, "+0.0 % [+0.0, +0.0]"),
        ([-0.02, -0.01, 0.0, 0.01, 0.02], "+0.0 % [-2.0, +2.0]"),
    ],
)
def test_an_estimate_has_bounds_as_soon_as_there_can_be_some(values, text) -> None:
    assert describe_values(values) == text


def test_the_line_names_case_stage_and_estimate(screen) -> None:
    with GateDisplay(quiet=False) as display:
        display.start("affinity-v2/documented/train/smoke/closed/fp32", "screen", 10)
        display.note("warming up")
        display.advance([0.01])
        display.note("a worker lives")
    text = screen.getvalue()
    assert "affinity-v2/documented/train screen +1.0 %" in text
    assert "1/10" in text
    assert "a worker lives" not in text, "an estimate says more than that a worker lives"


def test_a_long_variant_is_left_out_and_a_repeated_launch_stays(screen) -> None:
    with GateDisplay(quiet=False) as display:
        display.start("splice-validated/hidden128-layers6/train/smoke/closed/fp32", "confirm", 20)
        display.note("splice-validated: repeating a launch: [oops]")
    lines = screen.getvalue().splitlines()
    assert any("splice-validated/train confirm" in line for line in lines)
    assert any("repeating a launch: [oops]" in line for line in lines)


def test_a_quiet_display_is_quiet(screen) -> None:
    with GateDisplay(quiet=True) as display:
        display.start("a/b/train/smoke/closed/fp32", "screen", 10)
        display.advance([0.01])
    assert screen.getvalue() == ""
