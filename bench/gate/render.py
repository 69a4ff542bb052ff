"""A gate report as one pull-request comment, as JUnit, and as annotations. Everything in a report is a stranger's text and is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from assay.bench.case import Quantity
from assay.bench.formatting.markdown import clean_text, escape_text, format_table
from assay.bench.formatting.numbers import format_interval
from assay.bench.gate.verdict import Finding, GateReport, GateVerdict

MARKER = "<!-- assay-gate -->"
"""First line of the comment; whoever posts it looks for the comment that starts with it and replaces that one."""
MAX_COMMENT = 60_000  # GitHub takes 65,536 characters
MAX_ANNOTATIONS = 10  # GitHub shows ten of each level for a step
MAX_JUNIT_CASES = 10_000
SIGNS = {
    GateVerdict.REGRESSED: "\N{CROSS MARK}",
    GateVerdict.INVALID_MACHINE: "\N{WARNING SIGN}",
    GateVerdict.NOT_COMPARABLE: "\N{WARNING SIGN}",
    GateVerdict.INCONCLUSIVE: "\N{WHITE QUESTION MARK ORNAMENT}",
    GateVerdict.IMPROVED: "\N{ROCKET}",
    GateVerdict.EQUIVALENT: "\N{WHITE HEAVY CHECK MARK}",
}
ORDER = list(SIGNS)
SETTLED = (GateVerdict.IMPROVED, GateVerdict.EQUIVALENT)
HEADLINES = {
    0: "no regression",
    1: "regressed",
    3: "not settled: something could not be judged",
    4: "the machine was not fit to compare",
}


def to_markdown(report: GateReport, limit: int = MAX_COMMENT) -> str:
    """One comment for a pull request, of at most `limit` characters: what is wrong first, what is well folded away."""
    findings = _sort(report.findings)
    unsettled = [finding for finding in findings if finding.verdict not in SETTLED]
    settled = [finding for finding in findings if finding.verdict in SETTLED]
    head = [MARKER, f"### Assay gate: {headline(report)}", "", _count(report), ""]
    head += [f"Machine: {escape_text(fault, 400)}" for fault in (*report.faults, *report.notes)[:10]]
    tail = ["", _explain(report), ""]
    room = limit - sum(len(line) + 1 for line in (*head, *tail)) - 400
    shown = _fit(unsettled, room)
    body = [_tabulate(shown), ""] if shown else []
    body += [f"{len(unsettled) - len(shown)} more of these are left out here; the verdict JSON has all of them.", ""] if len(shown) < len(unsettled) else []
    folded = _fit(settled, room - sum(len(line) + 1 for line in body))
    if folded:
        left_out = f", {len(folded)} shown" if len(folded) < len(settled) else ""
        body += [f"<details><summary>{len(settled)} without a regression{left_out}</summary>", "", _tabulate(folded), "", "</details>"]
    return "\n".join([*head, *body, *tail])


def to_junit(report: GateReport) -> str:
    """JUnit XML: a regression is a failure; what could not be judged is an error, or skipped where the report allows that."""
    findings = _sort(report.findings)[:MAX_JUNIT_CASES]
    suite = ET.Element("testsuite", name="assay gate", timestamp=report.started.isoformat(), time=f"{(report.ended - report.started).total_seconds():.3f}")
    counts = {"failure": 0, "error": 0, "skipped": 0}
    for finding in findings:
        case = ET.SubElement(suite, "testcase", classname=clean_text(f"gate.{finding.kind}"), name=clean_text(finding.case_id, 500))
        tag = _junit_tag(finding.verdict, allow=report.allow_inconclusive)
        reason = clean_text(f"{finding.verdict}: {finding.reason}", 2000)
        if tag is None:
            ET.SubElement(case, "system-out").text = reason
        else:
            counts[tag] += 1
            ET.SubElement(case, tag, message=reason)
    for index, fault in enumerate(report.faults):
        counts["error"] += 1
        ET.SubElement(ET.SubElement(suite, "testcase", classname="gate.machine", name=f"fitness {index + 1}"), "error", message=clean_text(fault, 2000))
    totals = {"tests": str(len(suite)), "failures": str(counts["failure"]), "errors": str(counts["error"]), "skipped": str(counts["skipped"])}
    suite.attrib |= totals
    suites = ET.Element("testsuites", totals)
    suites.append(suite)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def to_annotations(report: GateReport) -> str:
    """GitHub workflow commands, one line each, ten of each level at most."""
    levels: dict[str, list[str]] = {"error": [], "warning": [], "notice": []}
    for fault in report.faults:
        levels["error"].append(_command("error", "machine not fit", fault))
    for finding in _sort(report.findings):
        level = _level(finding.verdict, allow=report.allow_inconclusive)
        if level is not None:
            levels[level].append(_command(level, f"{finding.verdict}: {finding.case_id}", f"{finding.kind}: {finding.reason}"))
    lines = [line for level in levels.values() for line in level[:MAX_ANNOTATIONS]]
    return "".join(f"{line}\n" for line in [*lines, _command("notice", "Assay gate", headline(report))])


def headline(report: GateReport) -> str:
    """The exit code in words."""
    return HEADLINES[report.exit_code] if report.findings or report.faults else "nothing was compared"


def _sort(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (ORDER.index(finding.verdict), finding.case_id, finding.kind))


def _count(report: GateReport) -> str:
    counts = report.count()
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in ORDER if counts[verdict]) or "no case was compared"


def _explain(report: GateReport) -> str:
    reference, candidate = (f"{escape_text(side.name)} ({escape_text(side.identity, 80)})" for side in (report.reference, report.candidate))
    device = escape_text(report.machine.gpu or report.machine.cpu)
    same = " Both are the same: every difference is chance." if report.reference.identity == report.candidate.identity else ""
    return f"Candidate {candidate} against reference {reference} on {device}, seed {report.seed}. A change below 1 is faster or smaller.{same}"


def _tabulate(findings: Sequence[Finding]) -> str:
    rows = [
        (f"{SIGNS[f.verdict]} {f.verdict}", escape_text(f.case_id), str(f.kind), _show(f.estimate), str(f.pairs or ""), escape_text(f.reason, 400))
        for f in findings
    ]
    return format_table(("verdict", "case", "what", "change", "pairs", "why"), rows)


def _fit(findings: Sequence[Finding], room: int) -> list[Finding]:
    """As many as a table of at most this many characters holds; its columns are padded to the longest cell."""
    low, high = 0, len(findings)
    if not findings or room <= 0:
        return []
    high = min(high, room // 40)  # a row is never shorter, and no table need be tried that cannot fit
    while low < high:
        middle = (low + high + 1) // 2
        if len(_tabulate(findings[:middle])) <= room:
            low = middle
        else:
            high = middle - 1
    return list(findings[:low])


def _show(quantity: Quantity) -> str:
    unit = "" if "/" in quantity.unit else f" {escape_text(quantity.unit, 40)}"  # a ratio needs none
    return "" if quantity.value is None else format_interval(quantity).replace("[", r"\[").replace("]", r"\]") + unit


def _junit_tag(verdict: GateVerdict, *, allow: bool) -> str | None:
    if verdict is GateVerdict.REGRESSED:
        return "failure"
    if verdict in SETTLED:
        return None
    return "skipped" if allow and verdict is not GateVerdict.INVALID_MACHINE else "error"


def _level(verdict: GateVerdict, *, allow: bool) -> str | None:
    tag = _junit_tag(verdict, allow=allow)
    return None if tag is None else "warning" if tag == "skipped" else "error"


def _command(level: str, title: str, message: str) -> str:
    """`::level title=...::message` with the escapes of the runner's own toolkit."""
    body = clean_text(message, 1000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    name = clean_text(title, 200).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{body}"
