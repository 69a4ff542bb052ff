"""One launch pair: both workers alive and warmed, one round at a time in an order that a coin decides."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from assay.bench.case import Outcome, Quantity
from assay.bench.formatting.markdown import clean_text
from assay.bench.gate.line import MAX_REASON, FaultKind, Line, TimedRound, WorkerFault
from assay.bench.gate.protocol import Open, Opened, Scored, Warm, Warmed
from assay.bench.gate.reference import Source
from assay.bench.gate.samples import check_samples, check_weights
from assay.bench.gate.statistics import value_pair
from assay.bench.profiles import Profile
from assay.bench.records.record import Comparability

S = TypeVar("S")
T = TypeVar("T")

HEADROOM = 1.25  # of what one worker holds must be free for the other; what is left is the system's


class SideName(StrEnum):
    """A is the reference, B the candidate."""

    REFERENCE = "reference"
    CANDIDATE = "candidate"


A, B = SideName.REFERENCE, SideName.CANDIDATE


class PairFault(Exception):
    """At least one of the two workers could not be measured; what became of each."""

    def __init__(self, faults: Mapping[SideName, WorkerFault]) -> None:
        super().__init__("; ".join(f"{side}: {fault.reason}" for side, fault in faults.items()))
        self.faults = faults

    @property
    def final(self) -> bool:
        """Whether a second launch would end the same way: what was said in order, or by a worker that does not speak as we do."""
        settled = (Outcome.UNSUPPORTED, Outcome.SKIPPED)
        return all(fault.kind is FaultKind.FOREIGN or fault.outcome in settled for fault in self.faults.values())


class Mismatch(Exception):
    """The two sides are not the same case under the same conditions. The message names what differs.

    refused: somebody must have done that on purpose.
    """

    def __init__(self, reason: str, *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class TreatedUnlike(Mismatch):
    """Cores or priorities of the workers differed. Once it may be the system's own doing, e.g. a container engine that moves processes."""


class DoNotFit(Exception):
    """Both workers at a time would need more memory than there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """What every launch pair of a session shares."""

    sources: Mapping[SideName, Source]
    profile: Profile
    data: Path | None
    seed: int
    logs: Path
    rounds: int
    round_seconds: float
    warm_up_seconds: float
    silence: float
    across_environments: bool
    report: Callable[[str], None]
    borrowed: bool = False  # the candidate is run by a bench/ that is not its own
    deadline: float = math.inf  # on the monotonic clock: when the budget ends


@dataclass(slots=True)
class Pair:
    """What one launch pair showed."""

    rounds: dict[SideName, list[TimedRound]] = field(default_factory=lambda: {A: [], B: []})
    steps: dict[SideName, int] = field(default_factory=dict)  # of a round
    peaks: dict[SideName, Mapping[str, Quantity]] = field(default_factory=dict)
    trained: dict[SideName, bool] = field(default_factory=dict)  # whether the rounds changed any weight
    opened: dict[SideName, Opened] = field(default_factory=dict)

    @property
    def untold(self) -> list[SideName]:
        """The sides of which the kernel did not say how long their worker waited for a core."""
        return [side for side in (A, B) if any(each.waited is None for each in self.rounds[side])]

    @property
    def seconds(self) -> dict[SideName, list[float]]:
        """Per sample, round by round, less what others took of the core; nothing less where that is not known of both sides."""
        told = not self.untold
        return {side: [(each.seconds - (each.waited or 0.0) * told) / each.samples for each in self.rounds[side]] for side in (A, B)}

    @property
    def value(self) -> float:
        """d of this pair. Raises NotARatio for rounds that cannot be divided."""
        return value_pair(self.seconds[A], self.seconds[B])


def measure_pair(case: str, plan: PairPlan, coin: random.Random, *, alone: bool) -> Pair:
    """Launches both sides afresh and measures them. `alone`: one whole launch after the other, for what does not fit side by side.

    Raises PairFault, Mismatch and DoNotFit.
    """
    return _measure_alone(case, plan, coin) if alone else _measure_together(case, plan, coin)


def _measure_together(case: str, plan: PairPlan, coin: random.Random) -> Pair:
    with ExitStack() as stack:
        lines = start_lines(plan, case, stack)
        pair = Pair(opened=open_case(case, plan, lines))
        if not pair.opened[A].timed:
            return pair
        warmed = _warm(plan, lines, _toss(coin))
        steps = max(side.steps for side in warmed.values())
        pair.steps = dict.fromkeys((A, B), steps)
        for _ in range(plan.rounds):
            _on_each({side: lines[side] for side in _toss(coin)}, lambda side, line: pair.rounds[side].append(line.time_round(steps)))
        _read_peaks(pair, lines)
        _check_work(pair)
        return pair


def _measure_alone(case: str, plan: PairPlan, coin: random.Random) -> Pair:
    pair = Pair()
    faults: dict[SideName, WorkerFault] = {}
    for side in _toss(coin):
        try:
            with start_line(plan, side, case) as line:
                pair.opened |= open_case(case, plan, {side: line})
                if pair.opened[side].timed:
                    pair.steps[side] = line.warm(Warm(round_seconds=plan.round_seconds, max_seconds=plan.warm_up_seconds)).steps
                    pair.rounds[side] = [line.time_round(pair.steps[side]) for _ in range(plan.rounds)]
                    _read_peaks(pair, {side: line})
        except WorkerFault as fault:
            faults[side] = fault
        except PairFault as fault:
            faults |= fault.faults
    if faults:
        raise PairFault(faults)
    check_alike(pair.opened[A], pair.opened[B], across_environments=plan.across_environments)
    if pair.steps:
        _check_work(pair)
    return pair


def _read_peaks(pair: Pair, lines: Mapping[SideName, Line]) -> None:
    for side, found in _on_each(lines, lambda _, line: line.read_peaks()).items():
        pair.peaks[side], pair.trained[side] = found.peaks, found.changed


def _check_work(pair: Pair) -> None:
    """Raises PairFault for a candidate that did less in its rounds than it says, and Mismatch where the sides did not run alike."""
    try:
        check_samples((pair.opened[A], pair.opened[B]), (pair.steps[A], pair.steps[B]), (pair.rounds[A], pair.rounds[B]))
        check_weights(pair.trained[A], pair.trained[B])
    except WorkerFault as fault:
        raise PairFault({B: fault}) from None
    standings = {side: {each.standing for each in pair.rounds[side] if each.standing} for side in (A, B)}
    if all(standings.values()) and standings[A] != standings[B]:
        shown = "; ".join(f"{side}: {' or '.join(sorted(map(str, found)))}" for side, found in standings.items())
        raise TreatedUnlike(f"the system did not treat the workers alike: {shown}", refused=True)


def score_pair(case: str, plan: PairPlan, seeds: Sequence[int], coin: random.Random, *, alone: bool) -> dict[SideName, list[Scored]]:
    """Both sides trained and scored with each seed, one side after the other, in an order that the coin decides. Raises as measure_pair."""
    scores: dict[SideName, list[Scored]] = {A: [], B: []}
    if alone:
        for side in (A, B):
            with ExitStack() as stack:
                one = start_lines(plan, case, stack, (side,))
                open_case(case, plan, one)
                scores[side] = [_on_each(one, lambda side, line: _score(case, plan, side, line, seed))[side] for seed in seeds]  # noqa: B023
        return scores
    with ExitStack() as stack:
        lines = start_lines(plan, case, stack)
        open_case(case, plan, lines)
        for seed in seeds:
            found = _on_each({side: lines[side] for side in _toss(coin)}, lambda side, line: _score(case, plan, side, line, seed))  # noqa: B023
            for side, scored in found.items():
                scores[side].append(scored)
    return scores


def _score(case: str, plan: PairPlan, side: SideName, line: Line, seed: int) -> Scored:
    if seed != plan.seed:  # with which the case is open
        line.open(_ask_for(case, plan, side, seed))
    return line.score()


def _ask_for(case: str, plan: PairPlan, side: SideName, seed: int) -> Open:
    return Open(case=case, profile=plan.profile.name, data=plan.sources[side].locate(plan.data), seed=seed)


def start_line(plan: PairPlan, side: SideName, case: str) -> Line:
    """A fresh worker of that side. Raises WorkerFault where this system or its container engine starts none."""
    log = plan.logs / f"{case.replace('/', '.')}.{side}.log"
    try:
        pipe = plan.sources[side].start(log, plan.data)
    except OSError as error:  # as the errors of requests, and so of an engine's answers, are too
        raise WorkerFault(FaultKind.UNREACHABLE, clean_text(f"cannot be started: {error}", MAX_REASON)) from None
    return Line(pipe, plan.silence, plan.report, plan.deadline, on_cpu=plan.profile.device == "cpu")


def start_lines(plan: PairPlan, case: str, stack: ExitStack, sides: Sequence[SideName] = (A, B)) -> dict[SideName, Line]:
    """Fresh workers, which end with `stack`. All start at once: imports of the one do not wait for those of the other. Raises PairFault."""
    return _on_each(dict.fromkeys(sides), lambda side, _: stack.enter_context(start_line(plan, side, case)))


def open_case(case: str, plan: PairPlan, lines: Mapping[SideName, Line]) -> dict[SideName, Opened]:
    """Greets the workers and opens the case in all of them at once. Raises PairFault, and Mismatch where two sides differ."""
    welcomes = _on_each(lines, lambda _, line: line.greet())
    locks = {welcome.lock_sha256 for welcome in welcomes.values()}
    if len(locks) > 1 and not plan.across_environments:
        raise Mismatch("the sides ask for different packages (docker/cpu/requirements.txt differs); --across-environments judges code and packages together")
    requests = {side: _ask_for(case, plan, side, plan.seed) for side in lines}
    _on_each(lines, lambda side, line: line.post(requests[side]))
    opened = _on_each(lines, lambda side, line: line.collect_opened(requests[side]))
    if len(opened) == 2:
        check_alike(opened[A], opened[B], across_environments=plan.across_environments)
    return opened


def check_alike(reference: Opened, candidate: Opened, *, across_environments: bool) -> None:
    """Raises Mismatch unless both do the same work on the same device. Their source may differ: that is what is judged."""
    if reference.gpu_uuid_sha256 != candidate.gpu_uuid_sha256:
        raise Mismatch("the sides run on different GPUs")
    free = {"declaration_sha256"} | ({"environment", "torch", "cuda"} if across_environments else set())
    differences = _differ(reference.comparability, candidate.comparability, free)
    if reference.comparability.case.split("/")[4] == "closed":
        values = [(name, reference.recipe.get(name), candidate.recipe.get(name)) for name in sorted({*reference.recipe, *candidate.recipe})]
        differences += [f"recipe {name}: {mine} -> {theirs}" for name, mine, theirs in values if mine != theirs]
    if differences:
        raise Mismatch("the sides differ in " + "; ".join(differences))


def _differ(reference: Comparability, candidate: Comparability, free: set[str]) -> list[str]:
    return [difference for difference in reference.differences(candidate) if difference.split(":")[0] not in free]


def _warm(plan: PairPlan, lines: Mapping[SideName, Line], order: Sequence[SideName]) -> dict[SideName, Warmed]:
    request = Warm(round_seconds=plan.round_seconds, max_seconds=plan.warm_up_seconds)

    def warm(side: SideName, line: Line) -> Warmed:
        warmed = line.warm(request)
        if side is order[0] and warmed.free_bytes < HEADROOM * warmed.held_bytes:
            raise DoNotFit(f"one worker holds {warmed.held_bytes / 1e9:.1f} GB and {warmed.free_bytes / 1e9:.1f} GB are free")
        return warmed

    return _on_each({side: lines[side] for side in order}, warm)


def _toss(coin: random.Random) -> tuple[SideName, SideName]:
    return (A, B) if coin.random() < 0.5 else (B, A)


def _on_each(sides: Mapping[SideName, S], do: Callable[[SideName, S], T]) -> dict[SideName, T]:
    """Every side gets its turn, so that a fault names all sides that have it."""
    done: dict[SideName, T] = {}
    faults: dict[SideName, WorkerFault] = {}
    for side, each in sides.items():
        try:
            done[side] = do(side, each)
        except WorkerFault as fault:
            faults[side] = fault
    if faults:
        raise PairFault(faults)
    return done

