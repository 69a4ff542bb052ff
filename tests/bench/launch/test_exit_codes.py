"""What a run's exit code says of the outcomes of its cases."""

from types import SimpleNamespace
from typing import Any

import pytest

from bench.case import Outcome
from bench.launch.campaign import judge_run
from bench.plugin import BAD_INPUT


def ended(outcome: str, reason: str = "told") -> Any:
    return SimpleNamespace(outcome=Outcome(outcome), reason=reason)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["ok", "ok"], 0),
        (["ok", "skipped", "unsupported"], 0),
        (["skipped"], 3),
        (["unsupported", "skipped"], 3),
        (["ok", "invalid"], 4),
        (["ok", "interrupted", "invalid"], 130),
        (["crash", "interrupted"], 1),
        (["timeout", "invalid"], 1),
        (["oom", "ok"], 1),
    ],
)
def test_the_worst_outcome_decides(outcomes, code):
    assert judge_run([ended(outcome) for outcome in outcomes]) == code


def test_unusable_input_comes_first():
    assert judge_run([ended("skipped", BAD_INPUT + "line.csv"), ended("crash")]) == 2
