import html
import re
from xml.etree import ElementTree as ET

import pytest

from assay.bench.case import Quantity
from assay.bench.gate.render import MARKER, to_annotations, to_junit, to_markdown
from assay.bench.gate.verdict import Finding, FindingKind, GateVerdict, Side
from tests.bench.gate.test_verdict import make_report

R, UNKNOWN, E = GateVerdict.REGRESSED, GateVerdict.INCONCLUSIVE, GateVerdict.EQUIVALENT
HOSTILE = "a|b](http://x) <img src=x onerror=y> @team `c` $m$ \x1b[31m\n::error::no \u202e 100%,done:\n| forged | row |"


def parse(report):
    suite = ET.fromstring(to_junit(report)).find("testsuite")
    assert suite is not None
    return suite


def hostile_report(**changes):
    finding = Finding(case_id=HOSTILE, kind=FindingKind.SPEED, verdict=R, reason=HOSTILE, estimate=Quantity(1.1, HOSTILE, 30))
    side = Side(name=HOSTILE, identity=HOSTILE)
    return make_report(findings=(finding,), reference=side, candidate=side, faults=(HOSTILE,), **changes)


def test_comment_reads_well():
    assert to_markdown(make_report(E, R)).splitlines() == [
        "<!-- assay-gate -->",
        "### Assay gate: regressed",
        "",
        "1 regressed, 1 equivalent",
        "",
        "| verdict      | case   | what  | change              | why     |",
        "| ------------ | ------ | ----- | ------------------- | ------- |",
        "| ❌ regressed | case-1 | speed | 1.10 \\[1.05, 1.20\\] | because |",
        "",
        "<details><summary>1 without a regression</summary>",
        "",
        "| verdict       | case   | what  | change              | why     |",
        "| ------------- | ------ | ----- | ------------------- | ------- |",
        "| ✅ equivalent | case-0 | speed | 1.10 \\[1.05, 1.20\\] | because |",
        "",
        "</details>",
        "",
        f"Candidate pull ({'1' * 40}) against reference main ({'0' * 40}) on a CPU, seed 7. A change below 1 is faster or smaller.",
    ]


def test_a_comment_holds_a_stranger_s_text_as_text():
    text = to_markdown(hostile_report())
    assert text.startswith(MARKER + "\n")
    assert text.count("<") == 1, "only the marker's: no HTML of a stranger's"
    assert "@team" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "http://x" not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3, "no forged row"


@pytest.mark.parametrize("verdict", [R, E])
def test_a_comment_fits_whatever_the_report_holds(verdict):
    findings = tuple(
        Finding(case_id=f"{i:05d}" + "x<" * 200, kind=FindingKind.SPEED, verdict=verdict, reason="&" * 1000, estimate=Quantity.missing("", "no"))
        for i in range(600)
    )
    text = to_markdown(make_report(findings=findings))
    assert len(text) <= 65_536
    assert "00000" in text
    assert ("more of these are left out" in text) if verdict is R else ("600 without a regression, " in text)


def test_junit_is_red_exactly_where_the_exit_code_is():
    suite = parse(make_report(E, R, UNKNOWN))
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")} == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"}
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        ("case-1", ["failure"]),
        ("case-2", ["error"]),
        ("case-0", ["system-out"]),
    ]
    allowed = parse(make_report(E, UNKNOWN, allow_inconclusive=True))
    assert (allowed.get("errors"), allowed.get("skipped")) == ("0", "1")


def test_junit_of_hostile_text_parses_and_keeps_it():
    suite = parse(hostile_report())
    assert suite.get("errors") == "1"  # the machine's fault
    name = suite[0].get("name", "")
    assert "<img src=x onerror=y>" in name
    assert "\n" not in name
    assert "\ufffd[31m" in name


def test_annotations_are_one_command_a_line_and_hold_no_other():
    lines = to_annotations(hostile_report()).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::notice"]
    title = lines[1].removeprefix("::error title=").split("::")[0]
    assert "," not in title
    assert "100%25%2Cdone%3A" in title
    assert "100%25,done" in lines[1]
    assert html.unescape(lines[1]) == lines[1]


def test_annotations_stop_at_what_github_shows():
    lines = to_annotations(make_report(*[R] * 30)).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "::notice title=Assay gate::regressed"
    assert to_annotations(make_report(UNKNOWN, allow_inconclusive=True)).startswith("::warning title=inconclusive%3A case-0::speed")


def test_an_empty_report_says_that_nothing_was_compared():
    assert "### Assay gate: nothing was compared" in to_markdown(make_report())
