"""Which cases each side has, asked before anything is measured."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from assay.bench.case import Outcome, Preset, UsageError
from assay.bench.gate.line import Line, WorkerFault
from assay.bench.gate.pair import A, B, PairFault, PairPlan, SideName, start_line
from assay.bench.gate.presence import judge_faults, judge_presence
from assay.bench.gate.protocol import ListCases
from assay.bench.gate.verdict import EVERY_CASE, Finding


@dataclass(slots=True)
class Roster:
    """Cases to compare, in the reference's order, and what is to be said about the others."""

    common: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def call_roster(plan: PairPlan, preset: Preset, select: str) -> Roster:
    """Asks both sides before it judges either; a side that breaks is asked once more. Raises UsageError where nothing is selected on both."""
    request = ListCases(preset=preset, select=select)
    ids, faults = _ask(plan, request, (A, B))
    if faults and not PairFault(faults).final:
        again, faults = _ask(plan, request, tuple(faults))
        ids |= again
    empty = {side: fault.reason for side, fault in faults.items() if fault.outcome is Outcome.SKIPPED}  # has no such case, and says so
    broken = {side: fault for side, fault in faults.items() if side not in empty}
    if broken:
        return Roster(findings=[judge_faults(EVERY_CASE, broken, borrowed=plan.borrowed)])
    ids |= dict.fromkeys(empty, ())
    if not ids[A] and not ids[B]:
        reason = next(iter(empty.values()), f"neither side has a case of preset {preset} that matches select={select!r}")
        raise UsageError(reason)
    return Roster([case for case in ids[A] if case in ids[B]], judge_presence(ids[A], ids[B]))


def _ask(plan: PairPlan, request: ListCases, sides: tuple[SideName, ...]) -> tuple[dict[SideName, tuple[str, ...]], dict[SideName, WorkerFault]]:
    ids: dict[SideName, tuple[str, ...]] = {}
    faults: dict[SideName, WorkerFault] = {}
    lines: dict[SideName, Line] = {}
    with ExitStack() as stack:
        for side in sides:
            try:
                lines[side] = stack.enter_context(start_line(plan, side, "list"))
            except WorkerFault as fault:
                faults[side] = fault
        for side, line in lines.items():
            try:
                line.greet()
                ids[side] = line.list_cases(request)
            except WorkerFault as fault:
                faults[side] = fault
    return ids, faults
