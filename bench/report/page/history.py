"""What the gate said over time, as the page draws it: the speed findings of the verdict files that the gate keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from assay.bench.case import Quantity

REPORTS = Path("gate") / "reports"


@dataclass(frozen=True, slots=True)
class Passage:
    """One case in one session of the gate. ratio: the candidate's time per step over the reference's, with its interval."""

    when: datetime
    case_id: str
    candidate: str
    ratio: Quantity
    verdict: str


def read_history(results: Path) -> Sequence[Passage]:
    """Every speed finding below results/gate/reports, oldest first. Raises UsageError for a file that is no verdict of the gate."""
    paths = sorted((results / REPORTS).glob("*.json"))
    if not paths:
        return []
    from assay.bench.gate.verdict import FindingKind, read_report  # scipy: half a second that a store without a gate need not wait

    passages = [
        Passage(report.ended, finding.case_id, report.candidate.name, finding.estimate, finding.verdict)
        for report in map(read_report, paths)
        for finding in report.findings
        if finding.kind is FindingKind.SPEED
    ]
    return sorted(passages, key=lambda passage: (passage.when, passage.case_id))
