"""Verdicts on what could not be measured: a case that only one side has, a worker that hangs, dies, fails or cannot be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.case import Outcome, Quantity
from bench.gate.line import FaultKind, WorkerFault
from bench.gate.pair import A, B, SideName
from bench.gate.verdict import Finding, FindingKind, GateVerdict

BROKEN = (FaultKind.HUNG, FaultKind.DIED, FaultKind.NEVER_STARTED, FaultKind.FAILED)  # about the code; the other kinds are about what is around it


def judge_presence(reference: Sequence[str], candidate: Sequence[str]) -> list[Finding]:
    """A finding for each case that only one side has."""
    gone = [_find(case, GateVerdict.REGRESSED, "the candidate has no such case any more") for case in reference if case not in candidate]
    new = [_find(case, GateVerdict.IMPROVED, "new: the reference has no such case yet") for case in candidate if case not in reference]
    return gone + new


def judge_faults(case: str, faults: Mapping[SideName, WorkerFault]) -> Finding:
    """What it means that these sides could not be measured. A case that breaks on the candidate alone is a regression.

    faults: the last fault of every side that had one at all. A reference that failed once does not show that it runs.
    """
    reason = "; ".join(f"{side} {_describe(fault)}" for side, fault in faults.items())
    if all(fault.outcome is Outcome.UNSUPPORTED for fault in faults.values()) and len(faults) == 2:
        return _find(case, GateVerdict.EQUIVALENT, f"unsupported on both sides: {faults[B].reason}")
    if A not in faults and faults[B].kind in BROKEN:
        return _find(case, GateVerdict.REGRESSED, f"{reason}; the reference runs")
    return _find(case, GateVerdict.NOT_COMPARABLE, reason)


def judge_mismatch(case: str, reason: str) -> Finding:
    """Two sides that do not do the same."""
    return _find(case, GateVerdict.NOT_COMPARABLE, reason)


def _describe(fault: WorkerFault) -> str:
    what = f"{fault.kind} ({fault.outcome})" if fault.outcome is not None else str(fault.kind)
    return f"{what}: {fault.reason}"


def _find(case: str, verdict: GateVerdict, reason: str) -> Finding:
    return Finding(case_id=case, kind=FindingKind.PRESENCE, verdict=verdict, reason=reason[:2000], estimate=Quantity.missing("", reason[:500]))
