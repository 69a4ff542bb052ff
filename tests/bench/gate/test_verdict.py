import json
import math
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from assay.bench.case import Quantity, UsageError
from assay.bench.gate.statistics import CONFIRM, SCREEN
from assay.bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict, Side, Values, decide, looks_slower, read_report
from assay.bench.records.record import Machine

SPREAD = (np.arange(20) - 9.5) / 1000  # 20 values about zero, robust sd well under 2 %


def spread(change, pairs):
    return (math.log(change) + SPREAD[:pairs] - SPREAD[:pairs].mean()).tolist()


def judge(values):
    (finding,) = decide({"a/b": values})
    return finding


def make_report(*verdicts, **changes):
    findings = [
        Finding(case_id=f"case-{i}", kind=FindingKind.SPEED, verdict=verdict, reason="because", estimate=Quantity(1.1, "candidate / reference", 30, 1.05, 1.2))
        for i, verdict in enumerate(verdicts)
    ]
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    fields = {
        "reference": Side(name="main", identity="0" * 40),
        "candidate": Side(name="pull", identity="1" * 40),
        "machine": Machine(cpu="a CPU", cores=2, threads=1, memory_bytes=1 << 34, system="Linux"),
        "seed": 7,
        "started": now,
        "ended": now,
        "findings": tuple(findings),
    }
    return GateReport(**(fields | changes))


def test_only_fresh_pairs_accuse():
    slow = spread(1.10, SCREEN.pairs)
    assert looks_slower(slow)
    alone = judge(Values(slow))
    assert alone.verdict is GateVerdict.INCONCLUSIVE
    assert "looked slower in the screen and was not measured again" in alone.reason
    confirmed = judge(Values(slow, spread(1.10, CONFIRM.pairs)))
    assert (confirmed.verdict, confirmed.pairs) == (GateVerdict.REGRESSED, 20)
    assert confirmed.estimate.value == pytest.approx(1.10)
    assert confirmed.reason == "time +10.0 %, bounds +9.6 % to +10.4 %, from 20 fresh launch pairs"
    # a screen that was bad luck is overruled, whatever it showed
    assert judge(Values(slow, spread(1.0, CONFIRM.pairs))).verdict is GateVerdict.EQUIVALENT


@pytest.mark.parametrize(
    ("change", "verdict"),
    [(1.0, GateVerdict.EQUIVALENT), (1.01, GateVerdict.EQUIVALENT), (0.9, GateVerdict.IMPROVED), (1 / 1.01, GateVerdict.EQUIVALENT)],
)
def test_verdict_of_a_quiet_screen(change, verdict):
    d = spread(change, SCREEN.pairs)
    assert not looks_slower(d)
    assert judge(Values(d)).verdict is verdict


def test_a_change_below_the_floor_is_no_regression_however_certain():
    assert judge(Values(spread(1.10, 10), spread(1.019, 20))).verdict is GateVerdict.EQUIVALENT


def test_noise_is_inconclusive_and_names_what_could_have_been_seen():
    noisy = (np.tile([-0.3, 0.31], 5) + SPREAD[:10]).tolist()
    finding = judge(Values(noisy))
    assert finding.verdict is GateVerdict.INCONCLUSIVE
    assert finding.smallest_detectable.value > 1.2
    assert f"{100 * (finding.smallest_detectable.value - 1):+.1f} %" in finding.reason


def test_swapped_sides_turn_a_regression_into_an_improvement():
    slow = Values(spread(1.1, 10), spread(1.1, 20))
    assert judge(slow).verdict is GateVerdict.REGRESSED
    assert judge(Values([-d for d in slow.screen])).verdict is GateVerdict.IMPROVED


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        (Values([]), GateVerdict.INCONCLUSIVE, "0 launch pairs are too few"),
        (Values([0.1] * 4), GateVerdict.INCONCLUSIVE, "4 launch pairs are too few: at alpha 5 % nothing can be significant with fewer than 5"),
        (Values([0.1] * 10, [0.1] * 5), GateVerdict.INCONCLUSIVE, "5 launch pairs are too few: at alpha 1 % nothing can be significant with fewer than 7"),
        (Values([0.0] * 9 + [math.nan]), GateVerdict.NOT_COMPARABLE, "not a number"),
        (Values([0.1] * 10, [0.1] * 19 + [math.inf]), GateVerdict.NOT_COMPARABLE, "not a number"),
    ],
)
def test_values_that_cannot_be_judged_have_a_named_verdict(values, verdict, words):
    finding = judge(values)
    assert (finding.verdict, finding.estimate.value) == (verdict, None)
    assert words in finding.reason


def test_equal_arrays_are_equivalent():
    assert judge(Values([0.0] * 10)).verdict is GateVerdict.EQUIVALENT


def test_holm_makes_each_of_many_confirmations_harder():
    # all signs but the smallest rank's point to slower: p = 2/2^8 = .0078, enough alone at 1 %, not beside another
    d = [0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, -0.01]
    screen = spread(1.1, 10)
    assert judge(Values(screen, d)).verdict is GateVerdict.REGRESSED
    findings = decide({"one": Values(screen, d), "two": Values(screen, [-x for x in d])})
    assert [finding.verdict for finding in findings] == [GateVerdict.INCONCLUSIVE, GateVerdict.IMPROVED]
    # nine more confirmed cases: eight pairs cannot reach 1 % / 10 at all, and that is said
    many = decide({str(i): Values(screen, d) for i in range(10)})
    assert {finding.reason for finding in many} == {"8 launch pairs are too few: at alpha 0.1 % nothing can be significant with fewer than 10"}


def test_ten_thousand_cases_are_judged_in_under_five_seconds():
    random = np.random.default_rng(3)
    cases = {f"case-{i}": Values(random.normal(0, 0.01, 10).tolist(), random.normal(0, 0.01, 20).tolist() if i % 10 == 0 else ()) for i in range(10_000)}
    began = time.process_time()
    findings = decide(cases)
    assert time.process_time() - began < 5
    assert [finding.case_id for finding in findings] == list(cases)
    assert not any(finding.verdict is GateVerdict.REGRESSED for finding in findings)


R, UNKNOWN, E, N, M = GateVerdict.REGRESSED, GateVerdict.INCONCLUSIVE, GateVerdict.EQUIVALENT, GateVerdict.NOT_COMPARABLE, GateVerdict.INVALID_MACHINE


@pytest.mark.parametrize(
    ("verdicts", "changes", "code"),
    [
        ((E, GateVerdict.IMPROVED), {}, 0),
        ((E, UNKNOWN, R, N), {}, 1),
        ((R,), {"allow_inconclusive": True}, 1),
        ((E, UNKNOWN), {}, 3),
        ((E, N), {}, 3),
        ((E, UNKNOWN, N), {"allow_inconclusive": True}, 0),
        ((E, M), {"allow_inconclusive": True}, 4),
        ((E,), {"faults": ("power brake",)}, 4),
        ((), {}, 3),
        ((), {"allow_inconclusive": True}, 3),
    ],
)
def test_exit_code(verdicts, changes, code):
    assert make_report(*verdicts, **changes).exit_code == code


def test_a_report_survives_its_file(tmp_path):
    report = make_report(R, E)
    path = tmp_path / "verdict.json"
    path.write_text(report.model_dump_json())
    assert read_report(path) == report


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "x"}, "seed"),
        ({"extra": 1}, "extra"),
        ({"schema_version": "9"}, "schema_version"),
        ({"findings": [{"verdict": "fine"}]}, "findings.0"),
        ({"\x1b[31m": 1}, r"\\x1b"),
    ],
)
def test_a_stranger_s_file_is_refused_with_its_fault(tmp_path, change, words):
    path = tmp_path / "verdict.json"
    path.write_text(json.dumps(json.loads(make_report(E).model_dump_json()) | change))
    with pytest.raises(UsageError, match=words) as refusal:
        read_report(path)
    assert "\x1b" not in str(refusal.value)
    with pytest.raises(UsageError, match="cannot be read"):
        read_report(tmp_path / "missing.json")
