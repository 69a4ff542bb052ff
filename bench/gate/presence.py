"""Verdicts on what could not be measured: a case that only one side has, a worker that hangs, dies, fails or cannot be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assay.bench.case import Outcome, Quantity
from assay.bench.gate.line import FaultKind, WorkerFault
from assay.bench.gate.pair import A, B, SideName
from assay.bench.gate.verdict import Finding, FindingKind, GateVerdict

OWN_HARNESS = (
    "the candidate's bench/ differs from the reference's, which ran it, so that its models may want what only its own has; merge the change of"
    " bench/ first, or trust it: --own-harness"
)
BROKEN = (FaultKind.HUNG, FaultKind.DIED, FaultKind.NEVER_STARTED, FaultKind.FAILED)  # about the code; the other kinds are about what is around it


def judge_presence(reference: Sequence[str], candidate: Sequence[str]) -> list[Finding]:
    """A finding for each case that only one side has."""
    gone = [_find(case, GateVerdict.REGRESSED, "the candidate has no such case any more") for case in reference if case not in candidate]
    new = [_find(case, GateVerdict.IMPROVED, "new: the reference has no such case yet") for case in candidate if case not in reference]
    return gone + new


def judge_faults(case: str, faults: Mapping[SideName, WorkerFault], *, borrowed: bool = False) -> Finding:
    """What it means that these sides could not be measured. A case that breaks on the candidate alone is a regression.

    faults: the last fault of every side that had one at all. A reference that failed once does not show that it runs. borrowed: the
    candidate was run by a bench/ that is not its own, and may be broken by that alone.
    """
    reason = "; ".join(f"{side} {_describe(fault)}" for side, fault in faults.items())
    if all(fault.outcome is Outcome.UNSUPPORTED for fault in faults.values()) and len(faults) == 2:
        return _find(case, GateVerdict.EQUIVALENT, f"unsupported on both sides: {faults[B].reason}")
    if A not in faults and borrowed and _may_miss_its_harness(faults[B]):
        return _find(case, GateVerdict.NOT_COMPARABLE, f"{reason}; {OWN_HARNESS}", refused=True)
    if A not in faults and faults[B].kind in BROKEN:
        return _find(case, GateVerdict.REGRESSED, f"{reason}; the reference runs")
    return _find(case, GateVerdict.NOT_COMPARABLE, reason, refused=any(fault.kind is FaultKind.CHEATED for fault in faults.values()))


def judge_mismatch(case: str, reason: str, *, refused: bool = False) -> Finding:
    """Two sides that do not do the same."""
    return _find(case, GateVerdict.NOT_COMPARABLE, reason, refused=refused)


def _may_miss_its_harness(fault: WorkerFault) -> bool:
    return fault.kind is FaultKind.NEVER_STARTED or (fault.kind is FaultKind.FAILED and fault.outcome is Outcome.CRASH)


def _describe(fault: WorkerFault) -> str:
    what = f"{fault.kind} ({fault.outcome})" if fault.outcome is not None else str(fault.kind)
    return f"{what}: {fault.reason}"


def _find(case: str, verdict: GateVerdict, reason: str, *, refused: bool = False) -> Finding:
    absent = Quantity.missing("", reason[:500])
    return Finding(case_id=case, kind=FindingKind.PRESENCE, verdict=verdict, reason=reason[:2000], estimate=absent, refused=refused)
