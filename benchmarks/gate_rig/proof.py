"""Counts how often each rule calls a session slower, on simulated sessions and on recorded ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from assay.bench.gate.statistics import CONFIRM, SCREEN
from assay.bench.gate.verdict import GateVerdict, Values, decide, looks_slower
from benchmarks.gate_rig.noise import MODELS, Noise, Sessions, simulate
from benchmarks.gate_rig.rules import RULES

Floats = NDArray[np.float64]
SLOWDOWNS = (0.0, 0.03, 0.05, 0.10)
GATE = "gate"
Data = Literal["pairs", "saved"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Count(_Strict):
    """Of so many sessions with that slowdown, so many were called slower by the rule."""

    machine: str
    rule: str
    data: Data  # both sides live in one session, or a baseline that was saved in an earlier one
    slowdown: float
    alarms: int
    sessions: int

    @property
    def share(self) -> float:
        return self.alarms / self.sessions

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson, 95 %."""
        bounds = binomtest(self.alarms, self.sessions).proportion_ci(0.95, method="exact")
        return float(bounds.low), float(bounds.high)


class Machine(_Strict):
    """One source of sessions."""

    name: str
    summary: str
    spread: float  # robust standard deviation of d over all launch pairs
    simulated: bool
    inconclusive: float  # share of sessions without a slowdown that the gate could not settle


class Proof(_Strict):
    """What `make gate-proof` found."""

    seed: int
    sessions: int
    machines: tuple[Machine, ...]
    counts: tuple[Count, ...]

    def find(self, machine: str, rule: str, data: Data, slowdown: float) -> Count | None:
        """The count of one cell of the table; None for a cell that was not run."""
        wanted = (machine, rule, data, slowdown)
        return next((count for count in self.counts if (count.machine, count.rule, count.data, count.slowdown) == wanted), None)


@dataclass(frozen=True, slots=True)
class Trace:
    """What was recorded of a real machine that ran the same code on both sides."""

    name: str
    summary: str
    d: Floats  # [pairs]: the value of each launch pair
    rounds: Sequence[tuple[Floats, Floats]]  # of each session, both sides, [launch pairs of the screen, rounds]


def prove(sessions: int, seed: int, traces: Sequence[Trace] = ()) -> Iterator[tuple[Machine, list[Count]]]:
    """One machine at a time."""
    random = np.random.default_rng(seed)
    for noise in MODELS:
        yield _prove_noise(noise, simulate(noise, sessions, random))
    for number, trace in enumerate(traces):
        machine, counts = prove_values(trace.name, trace.summary, replay(trace.d, sessions, random), trace.d, simulated=False)
        # a generator of its own: what the other rules draw must not change what the gate gets
        yield machine, [*counts, *count_replays(trace, sessions, np.random.default_rng([seed, number]))]


def replay(d: Floats, sessions: int, random: np.random.Generator) -> Floats:
    """[sessions, pairs]: whole launch pairs drawn with replacement. Which side is called the candidate is tossed once a session, so that
    a lead of one side over the other would stay."""
    drawn = random.choice(d, (sessions, SCREEN.pairs + CONFIRM.pairs))
    swapped: Floats = drawn * random.choice((-1.0, 1.0), (sessions, 1))
    return swapped


def count_replays(trace: Trace, sessions: int, random: np.random.Generator) -> list[Count]:
    """The other tools' rules on recorded rounds. Empty where no whole session was recorded."""
    if not trace.rounds:
        return []
    before, a, b = replay_rounds(trace.rounds, sessions, random)
    saved = count_rules(trace.name, "saved", before, b) if len(trace.rounds) > 1 else []
    return [*count_rules(trace.name, "pairs", a, b), *saved]


def replay_rounds(recorded: Sequence[tuple[Floats, Floats]], sessions: int, random: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """(before, a, b), each [sessions, rounds]: a and b are ten launch pairs drawn with replacement from one recorded session, because those
    of different sessions differ by more than the rules would ever see within one; which side is the candidate is tossed. before: ten
    launches of the reference in another recorded session, as a saved baseline has them."""
    sides = np.array(recorded)  # [recorded, 2, pairs, rounds]
    which = random.integers(len(sides), size=sessions)
    other = (which + random.integers(1, max(2, len(sides)), size=sessions)) % len(sides)
    swapped = random.integers(2, size=sessions)
    launches, earlier = (random.integers(sides.shape[2], size=(sessions, sides.shape[2])) for _ in range(2))
    a, b = (sides[which[:, None], side[:, None], launches] for side in (swapped, 1 - swapped))
    return _join_rounds(sides[other[:, None], 0, earlier]), _join_rounds(a), _join_rounds(b)


def spread_of(d: Floats) -> float:
    """Robust standard deviation: 1.4826 times the median distance from the median."""
    return float(1.4826 * np.median(np.abs(d - np.median(d))))


def _prove_noise(noise: Noise, sessions: Sessions) -> tuple[Machine, list[Count]]:
    machine, counts = prove_values(noise.name, noise.summary, sessions.d, sessions.d, simulated=True)
    a, b, before = (_join_rounds(side[:, : SCREEN.pairs]) for side in (sessions.a, sessions.b, sessions.before))
    return machine, [*counts, *count_rules(noise.name, "pairs", a, b), *count_rules(noise.name, "saved", before, b)]


def _join_rounds(side: Floats) -> Floats:
    """[sessions, launches, rounds] -> [sessions, launches * rounds]."""
    return side.reshape(len(side), -1)


def count_rules(machine: str, data: Data, a: Floats, b: Floats, slowdowns: Sequence[float] = SLOWDOWNS) -> list[Count]:
    """The other tools' rules, with b slowed down by each of these shares. a, b: [sessions, rounds]."""
    found = []
    for rule in RULES:
        alarms = rule.alarm(a, b, [1 + slowdown for slowdown in slowdowns])
        found += [
            Count(machine=machine, rule=rule.name, data=data, slowdown=slowdown, alarms=int(row.sum()), sessions=len(a))
            for slowdown, row in zip(slowdowns, alarms, strict=True)
        ]
    return found


def prove_values(name: str, summary: str, sessions: Floats, d: Floats, *, simulated: bool) -> tuple[Machine, list[Count]]:
    """The gate on sessions without a change, [sessions, pairs], and slowed down by each of SLOWDOWNS. d: the values that tell the spread."""
    counts = []
    unsettled = 0
    for slowdown in SLOWDOWNS:
        verdicts = [judge_session(session) for session in (sessions + np.log1p(slowdown)).tolist()]
        alarms = verdicts.count(GateVerdict.REGRESSED)
        counts.append(Count(machine=name, rule=GATE, data="pairs", slowdown=slowdown, alarms=alarms, sessions=len(sessions)))
        unsettled += verdicts.count(GateVerdict.INCONCLUSIVE) if not slowdown else 0
    machine = Machine(name=name, summary=summary, spread=spread_of(d), simulated=simulated, inconclusive=unsettled / len(sessions))
    return machine, counts


def judge_session(d: Sequence[float]) -> GateVerdict:
    """The product's own two stages over the values of a session's launch pairs: 10 to screen, 20 more where they look slower."""
    screen, fresh = d[: SCREEN.pairs], d[SCREEN.pairs : SCREEN.pairs + CONFIRM.pairs]
    (finding,) = decide({"session": Values(screen, fresh if looks_slower(screen) else ())})
    return finding.verdict
