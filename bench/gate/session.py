"""A session of the gate: machine, cases, launch pairs in two stages, and what they say."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import torch

from assay.bench.case import Outcome, Phase, Preset, UsageError
from assay.bench.gate.footprint import Peaks, judge_memory
from assay.bench.gate.line import FaultKind, WorkerFault
from assay.bench.gate.pair import A, B, DoNotFit, Mismatch, Pair, PairFault, PairPlan, SideName, TreatedUnlike, measure_pair, score_pair
from assay.bench.gate.preflight import find_machine_faults, note_load
from assay.bench.gate.presence import judge_faults, judge_mismatch
from assay.bench.gate.protocol import Opened, Scored
from assay.bench.gate.quality import Metric, judge_groups, judge_omission, judge_seeds, judge_time_to_quality
from assay.bench.gate.roster import call_roster
from assay.bench.gate.statistics import CONFIRM, SCREEN, NotARatio, Stage, TooFewPairs, needed_pairs
from assay.bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict, Values, decide, distrust, looks_slower, refuse_all
from assay.bench.measure.machine import identify_machine
from assay.bench.profiles import Profile

FAULTS_ALLOWED = 1  # of each side and case: a launch that fails once is repeated, one that fails twice is a finding
MIN_SEEDS = needed_pairs(CONFIRM.alpha)


class Display(Protocol):
    """What a session tells while it goes on."""

    def start(self, case: str, stage: str, total: int) -> None:
        """A stage of a case begins; total: its launch pairs."""

    def advance(self, values: Sequence[float]) -> None:
        """Another launch pair is done; values: d of all pairs of this stage."""

    def note(self, text: str) -> None:
        """A worker lives, or a launch is repeated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may choose for a session."""

    profile: Profile
    select: str
    preset: Preset
    budget_minutes: float | None
    seeds: int  # trainings that decide about a quality that looks worse; 0: quality is not compared
    allow_inconclusive: bool
    results: Path

    def __post_init__(self) -> None:
        if 0 < self.seeds < MIN_SEEDS:
            raise UsageError(f"--seeds {self.seeds}: fewer than {MIN_SEEDS} trainings can never decide; give {MIN_SEEDS} or more, or 0 to leave quality out")


@dataclass(slots=True)
class _CaseState:
    id: str
    screen: list[float] = field(default_factory=list)
    confirm: list[float] = field(default_factory=list)
    peaks: list[Peaks] = field(default_factory=list)
    faults: dict[SideName, list[WorkerFault]] = field(default_factory=lambda: {A: [], B: []})
    findings: list[Finding] = field(default_factory=list)
    opened: Opened | None = None
    scored: bool = False  # quality has all the findings that it is going to have
    doubted: bool = False  # the reference failed, and not for want of memory beside the candidate
    unlike: bool = False  # a launch was repeated because the system had not treated the workers alike
    alone: bool = False
    closed: bool = False  # nothing more can be measured

    def close(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.closed = True


class GateSession:
    """Compares what `plan.sources` name, case by case."""

    def __init__(
        self,
        options: Options,
        plan: PairPlan,
        display: Display,
        find_faults: Callable[[Profile, Path], list[str]] = find_machine_faults,
        note_load: Callable[[Profile], list[str]] = note_load,
    ) -> None:
        self._options, self._plan, self._display, self._find_faults, self._note_load = options, plan, display, find_faults, note_load
        self._coin = random.Random(plan.seed)
        self.pairs: list[Pair] = []  # every launch pair that was measured, in order, for those who want its rounds

    def run(self) -> GateReport:
        """Measures until every case has its findings or the budget is spent. Raises UsageError where nothing can be selected."""
        started = datetime.now(UTC)
        self._display.note("looking whether this machine is fit")
        faults = self._find_faults(self._options.profile, self._options.results)
        notes = self._note_load(self._options.profile)
        findings: list[Finding] = []
        if not faults:
            contents = self._hash_sides()
            self._start_budget()
            self._display.note("asking both sides for their cases")
            roster = call_roster(self._plan, self._options.preset, self._options.select)
            self._start_budget()  # anew: imports on a cold disk are not the user's minutes
            states = [_CaseState(case) for case in roster.common]
            self._measure(states)
            if self._options.profile.device == "cuda":  # before anything is judged: heat comes with the work
                faults = self._find_faults(self._options.profile, self._options.results)
            findings = [*roster.findings, *distrust(self._judge(states), faults)]
            changed = [side for side, found in self._hash_sides().items() if found != contents[side]]
            if changed:
                findings = refuse_all(findings, f"files of the {' and the '.join(changed)} were changed while they were compared")
        reference, candidate = (self._plan.sources[side].side for side in (A, B))
        return GateReport(
            reference=reference,
            candidate=candidate,
            machine=identify_machine(torch.device(self._options.profile.device)),
            faults=tuple(faults),
            notes=(*notes, *self._note_untold()),
            seed=self._plan.seed,
            started=started,
            ended=datetime.now(UTC),
            allow_inconclusive=self._options.allow_inconclusive,
            findings=tuple(findings),
        )

    def _hash_sides(self) -> dict[SideName, str]:
        return {side: source.hash_contents() for side, source in self._plan.sources.items()}

    def _note_untold(self) -> list[str]:
        untold = sorted({side for pair in self.pairs for side in pair.untold})
        what = "how long others kept its worker from a core, nor what it did out of turn: nothing is subtracted, and work between rounds goes unseen"
        return [f"the kernel does not tell of the {side} {what}" for side in untold]

    def _start_budget(self) -> None:
        if self._options.budget_minutes is not None:
            self._plan = replace(self._plan, deadline=time.monotonic() + 60 * self._options.budget_minutes)

    def _measure(self, states: Sequence[_CaseState]) -> None:
        for state in states:
            self._take_pairs(state, "screen", SCREEN, state.screen)
        for state in states:
            if self._is_suspect(state):
                self._take_pairs(state, "confirm", CONFIRM, state.confirm)
        for state in states:
            if self._owes_quality(state) and state.opened is not None:
                self._compare_quality(state, state.opened)

    def _take_pairs(self, state: _CaseState, name: str, stage: Stage, values: list[float]) -> None:
        self._display.start(state.id, name, stage.pairs)
        while len(values) < stage.pairs and not state.closed and not self._is_late():
            try:
                pair = measure_pair(state.id, self._plan, self._coin, alone=state.alone)
                state.opened = pair.opened[A]
                if not state.opened.timed:
                    return
                values.append(pair.value)
                self.pairs.append(pair)
                state.peaks.append(pair.peaks)
                self._display.advance(values)
            except DoNotFit as reason:
                state.alone = True
                self._display.note(f"{state.id}: one launch at a time, because {reason}")
            except (Mismatch, NotARatio) as reason:
                if isinstance(reason, TreatedUnlike) and not state.unlike:
                    state.unlike = True
                    self._display.note(f"{state.id}: repeating a launch: {reason}")
                    continue
                state.close(judge_mismatch(state.id, str(reason), refused=isinstance(reason, Mismatch) and reason.refused))
            except PairFault as fault:
                self._count(state, fault)

    def _count(self, state: _CaseState, fault: PairFault) -> None:
        if any(found.kind is FaultKind.LATE for found in fault.faults.values()):
            return  # the budget ended, which is nobody's fault
        crowded = {side for side, found in fault.faults.items() if not state.alone and _ran_out_of_memory(found)}
        state.alone = state.alone or bool(crowded)  # the other side's memory may have been to blame
        state.doubted = state.doubted or (A in fault.faults and A not in crowded)
        for side, found in fault.faults.items():
            state.faults[side].append(found)
        blamed = {side for side, found in state.faults.items() if len(found) > FAULTS_ALLOWED} or (set(fault.faults) if fault.final else set())
        if blamed:
            blamed |= {A} if state.doubted else set()
            state.close(judge_faults(state.id, {side: state.faults[side][-1] for side in (A, B) if side in blamed}, borrowed=self._plan.borrowed))
        else:
            self._display.note(f"{state.id}: repeating a launch: {fault}")

    def _is_suspect(self, state: _CaseState) -> bool:
        try:
            return not state.closed and looks_slower(state.screen)
        except (TooFewPairs, NotARatio):
            return False

    def _is_late(self) -> bool:
        return time.monotonic() >= self._plan.deadline

    def _owes_quality(self, state: _CaseState) -> bool:
        return bool(self._options.seeds) and not state.closed and not state.scored and state.id.split("/")[2] != Phase.EVAL

    def _compare_quality(self, state: _CaseState, opened: Opened) -> None:
        metric = Metric(opened.metric, opened.higher_is_better)
        first = self._score(state, [self._plan.seed])
        if first is None:
            return
        findings = [judge_groups(state.id, metric, first[A][0], first[B][0]), judge_time_to_quality(state.id, first[A], first[B])]
        if any(finding is not None and finding.verdict is GateVerdict.INCONCLUSIVE for finding in findings):
            fresh = self._score(state, [self._plan.seed + 1 + n for n in range(self._options.seeds)])
            if fresh is not None:
                findings = [judge_seeds(state.id, metric, fresh[A], fresh[B]), judge_time_to_quality(state.id, fresh[A], fresh[B])]
            elif not state.closed:
                findings = [finding and self._remark(finding, [self._lateness]) for finding in findings]
        state.scored = True
        state.findings += [finding for finding in findings if finding is not None]

    def _score(self, state: _CaseState, seeds: Sequence[int]) -> dict[SideName, list[Scored]] | None:
        """None when a side failed for good or the budget is spent."""
        self._display.start(state.id, f"quality, {len(seeds)} seed{'s' * (len(seeds) > 1)}", 0)
        while not state.closed and not self._is_late():
            try:
                return score_pair(state.id, self._plan, seeds, self._coin, alone=state.alone)
            except Mismatch as reason:
                state.close(judge_mismatch(state.id, str(reason)))
            except PairFault as fault:
                self._count(state, fault)
        return None

    def _judge(self, states: Sequence[_CaseState]) -> list[Finding]:
        timed = [state for state in states if state.opened is None or state.opened.timed]
        # a case that broke before its screen was complete has a finding that says so
        judged = {s.id: Values(s.screen, s.confirm) for s in timed if not s.closed or len(s.screen) == SCREEN.pairs}
        speeds = {finding.case_id: finding for finding in decide(judged)}
        findings: list[Finding] = []
        for state in states:
            if state.id in speeds:
                findings.append(self._annotate(state, speeds[state.id]))
            if state.peaks:
                findings.append(judge_memory(state.id, state.peaks))
            findings += state.findings
            if self._owes_quality(state):
                findings.append(judge_omission(state.id, f"{self._lateness}: quality was not compared"))
        return findings

    def _annotate(self, state: _CaseState, finding: Finding) -> Finding:
        """Says what else happened: a budget that ended, a launch that was repeated."""
        remarks = [f"a launch of the {side} was repeated: {found[0].reason}" for side, found in state.faults.items() if found]
        wanted = CONFIRM.pairs if state.confirm or self._is_suspect(state) else SCREEN.pairs
        if len(state.confirm if wanted == CONFIRM.pairs else state.screen) < wanted and self._is_late():
            remarks.append(self._lateness)
        return self._remark(finding, remarks)

    @property
    def _lateness(self) -> str:
        return f"the budget of {self._options.budget_minutes:g} minutes ended first"

    def _remark(self, finding: Finding, remarks: Sequence[str]) -> Finding:
        settled = finding.verdict is not GateVerdict.INCONCLUSIVE and finding.kind is not FindingKind.SPEED
        return finding if settled else finding.model_copy(update={"reason": "; ".join([finding.reason, *remarks])[:2000]})


def _ran_out_of_memory(fault: WorkerFault) -> bool:
    """SIGKILL is how the system ends who takes too much."""
    return fault.outcome is Outcome.OOM or (fault.kind is FaultKind.DIED and "SIGKILL" in fault.reason)
