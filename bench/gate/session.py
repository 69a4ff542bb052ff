"""A session of the gate: machine, cases, launch pairs in two stages, and what they say."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import torch

from bench.case import Case, Outcome, Phase, Preset, UsageError
from bench.gate.footprint import Peaks, judge_memory
from bench.gate.line import FaultKind, WorkerFault
from bench.gate.pair import A, B, DoNotFit, Mismatch, Pair, PairFault, PairPlan, SideName, measure_pair, score_pair, start_line
from bench.gate.preflight import find_machine_faults
from bench.gate.presence import judge_faults, judge_mismatch, judge_presence
from bench.gate.protocol import Cases, ListCases, Opened, Scored
from bench.gate.quality import Metric, judge_groups, judge_seeds, judge_time_to_quality
from bench.gate.statistics import CONFIRM, SCREEN, NotARatio, Stage, TooFewPairs
from bench.gate.verdict import Finding, GateReport, GateVerdict, Values, decide, looks_slower
from bench.measure.machine import identify_machine
from bench.profiles import Profile

FAULTS_ALLOWED = 1  # of each side and case: a launch that fails once is repeated, one that fails twice is a finding
MIN_SEEDS = 7  # fewer cannot reach 1 % in a signed-rank test


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


@dataclass(slots=True)
class _CaseState:
    id: str
    screen: list[float] = field(default_factory=list)
    confirm: list[float] = field(default_factory=list)
    peaks: list[Peaks] = field(default_factory=list)
    faults: dict[SideName, list[WorkerFault]] = field(default_factory=lambda: {A: [], B: []})
    findings: list[Finding] = field(default_factory=list)
    opened: Opened | None = None
    alone: bool = False
    closed: bool = False  # nothing more can be measured

    def close(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.closed = True


class GateSession:
    """Compares what `plan.sources` name, case by case."""

    def __init__(self, options: Options, plan: PairPlan, display: Display, find_faults: Callable[[Profile, Path], list[str]] = find_machine_faults) -> None:
        self._options, self._plan, self._display, self._find_faults = options, plan, display, find_faults
        self._coin = random.Random(plan.seed)
        self.pairs: list[Pair] = []  # every launch pair that was measured, in order, for those who want its rounds
        self._deadline = math.inf

    def run(self) -> GateReport:
        """Measures until every case has its findings or the budget is spent. Raises UsageError where nothing can be selected."""
        started = datetime.now(UTC)
        self._display.note("looking whether this machine is fit")
        faults = self._find_faults(self._options.profile, self._options.results)
        findings: list[Finding] = []
        if not faults:
            states, findings = self._plan_cases()
            if self._options.budget_minutes is not None:
                self._deadline = time.monotonic() + 60 * self._options.budget_minutes
            self._measure(states)
            findings += self._judge(states)
            if self._options.profile.device == "cuda":
                faults = self._find_faults(self._options.profile, self._options.results)
        reference, candidate = (self._plan.sources[side].side for side in (A, B))
        return GateReport(
            reference=reference,
            candidate=candidate,
            machine=identify_machine(torch.device(self._options.profile.device)),
            faults=tuple(faults),
            seed=self._plan.seed,
            started=started,
            ended=datetime.now(UTC),
            allow_inconclusive=self._options.allow_inconclusive,
            findings=tuple(findings),
        )

    def _plan_cases(self) -> tuple[list[_CaseState], list[Finding]]:
        self._display.note("asking both sides for their cases")
        ids: dict[SideName, tuple[str, ...]] = {}
        with ExitStack() as stack:
            lines = {side: stack.enter_context(start_line(self._plan, side, "list")) for side in (A, B)}
            for side, line in lines.items():
                try:
                    line.greet()
                    ids[side] = line.ask(ListCases(preset=self._options.preset, select=self._options.select), Cases).ids
                except WorkerFault as fault:
                    if fault.outcome is not Outcome.SKIPPED:
                        return [], [judge_faults("every case", {side: fault})]
                    ids[side], refusal = (), fault.reason
        if not ids[A] and not ids[B]:
            raise UsageError(refusal)
        return [_CaseState(case) for case in ids[A] if case in ids[B]], judge_presence(ids[A], ids[B])

    def _measure(self, states: Sequence[_CaseState]) -> None:
        for state in states:
            self._take_pairs(state, "screen", SCREEN, state.screen)
        for state in states:
            if self._is_suspect(state):
                self._take_pairs(state, "confirm", CONFIRM, state.confirm)
        for state in states:
            if self._options.seeds and not state.closed and state.opened is not None and Case.parse(state.id).phase is not Phase.EVAL:
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
                state.close(judge_mismatch(state.id, str(reason)))
            except PairFault as fault:
                self._count(state, fault)

    def _count(self, state: _CaseState, fault: PairFault) -> None:
        for side, found in fault.faults.items():
            state.faults[side].append(found)
            # the other side's memory may have been to blame; SIGKILL is how the system ends who takes too much
            state.alone = state.alone or found.outcome is Outcome.OOM or (found.kind is FaultKind.DIED and "SIGKILL" in found.reason)
        blamed = {side: found[-1] for side, found in state.faults.items() if len(found) > FAULTS_ALLOWED} or (fault.faults if fault.final else {})
        if blamed:
            state.close(judge_faults(state.id, blamed))
        else:
            self._display.note(f"{state.id}: repeating a launch: {fault}")

    def _is_suspect(self, state: _CaseState) -> bool:
        try:
            return not state.closed and looks_slower(state.screen)
        except (TooFewPairs, NotARatio):
            return False

    def _is_late(self) -> bool:
        return time.monotonic() >= self._deadline

    def _compare_quality(self, state: _CaseState, opened: Opened) -> None:
        metric = Metric(opened.metric, opened.higher_is_better)
        first = self._score(state, [self._plan.seed])
        if first is None:
            return
        findings = [judge_groups(state.id, metric, first[A][0], first[B][0]), judge_time_to_quality(state.id, first[A], first[B])]
        unsure = any(finding is not None and finding.verdict is GateVerdict.INCONCLUSIVE for finding in findings)
        if unsure and self._options.seeds >= MIN_SEEDS:
            fresh = self._score(state, [self._plan.seed + 1 + n for n in range(self._options.seeds)])
            if fresh is None:
                return
            findings = [judge_seeds(state.id, metric, fresh[A], fresh[B]), judge_time_to_quality(state.id, fresh[A], fresh[B])]
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
        return findings

    def _annotate(self, state: _CaseState, finding: Finding) -> Finding:
        """Says what else happened: a budget that ended, a launch that was repeated."""
        remarks = [f"a launch of the {side} was repeated: {found[0].reason}" for side, found in state.faults.items() if found]
        wanted = CONFIRM.pairs if state.confirm or self._is_suspect(state) else SCREEN.pairs
        if len(state.confirm if wanted == CONFIRM.pairs else state.screen) < wanted and self._is_late():
            remarks.append(f"the budget of {self._options.budget_minutes:g} minutes ended first")
        return finding.model_copy(update={"reason": "; ".join([finding.reason, *remarks])[:2000]})
