"""What a live session leaves behind: the gate's own report, and every round of both sides for the other tools' rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.bench.case import UsageError
from assay.bench.gate.statistics import SCREEN, value_pair
from assay.bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict
from benchmarks.gate_rig.noise import ROUNDS
from benchmarks.gate_rig.proof import GATE, Count, Data, count_rules

Floats = NDArray[np.float64]
LIVE = "live"
Injection = Literal["nothing", "busy loop", "extra layer"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Launches(_Strict):
    """One launch pair: seconds per sample of each round, round i of one side beside round i of the other."""

    reference: tuple[float, ...] = Field(min_length=1)
    candidate: tuple[float, ...] = Field(min_length=1)


class LiveSession(_Strict):
    """One session of `bench gate` on a real machine."""

    injection: Injection
    slowdown: float | None  # that the candidate was given; None where it was not chosen but measured, as for a layer more
    case_id: str
    repetition: int
    report: GateReport
    pairs: tuple[Launches, ...]

    @property
    def name(self) -> str:
        """Of its file."""
        return name_session(self.injection, self.slowdown, self.case_id, self.repetition)

    @property
    def speed(self) -> Finding:
        """What the gate found about speed, or why it found nothing."""
        return next((finding for finding in self.report.findings if finding.kind is FindingKind.SPEED), self.report.findings[0])

    @property
    def verdict(self) -> GateVerdict:
        """On speed; but where nothing was changed, any accusation is a false alarm, whatever it is about."""
        accused = any(finding.verdict is GateVerdict.REGRESSED for finding in self.report.findings)
        return GateVerdict.REGRESSED if self.injection == "nothing" and accused else self.speed.verdict

    @property
    def change(self) -> float | None:
        """The gate's estimate as a share: 0.05 is 5 % slower."""
        return None if self.speed.estimate.value is None else self.speed.estimate.value - 1

    @property
    def seconds(self) -> float:
        """How long the session took, from the look at the machine to the verdict."""
        return (self.report.ended - self.report.started).total_seconds()

    @property
    def d(self) -> list[float]:
        """Of each launch pair, in order."""
        return [value_pair(pair.reference, pair.candidate) for pair in self.pairs]

    def rounds(self, side: Literal["reference", "candidate"]) -> list[float]:
        """All rounds of the screen's launches."""
        return [seconds for pair in self.pairs[: SCREEN.pairs] for seconds in getattr(pair, side)]


def name_session(injection: Injection, slowdown: float | None, case_id: str, repetition: int) -> str:
    """The file of a session; every session of the proof has its own."""
    amount = f"-{100 * slowdown:.0f}" if slowdown else ""
    return f"{injection.replace(' ', '-')}{amount}.{case_id.replace('/', '.')}.{repetition:02d}.json"


def read_sessions(folder: Path) -> list[LiveSession]:
    """Every finished session below a folder. Raises UsageError that names the file that cannot be read."""
    sessions = []
    for path in sorted(folder.glob("*.json")):
        try:
            sessions.append(LiveSession.model_validate_json(path.read_bytes()))
        except ValidationError as error:
            raise UsageError(f"{path}: {error.errors(include_url=False)[0]['msg']}; delete it, and the session is run again") from None
    return sessions


def pool_values(sessions: Sequence[LiveSession]) -> dict[str, Floats]:
    """d of every launch pair without a slowdown, by case: [pairs]."""
    cases = sorted({session.case_id for session in sessions if session.injection == "nothing"})
    return {case: np.array([d for s in sessions if s.injection == "nothing" and s.case_id == case for d in s.d]) for case in cases}


def collect_rounds(sessions: Sequence[LiveSession], case_id: str) -> list[tuple[Floats, Floats]]:
    """Both sides of every session of a case without a slowdown, [launch pairs of the screen, rounds]; sessions of another size are left out."""
    found = []
    for session in sessions:
        pairs = session.pairs[: SCREEN.pairs]
        if session.injection == "nothing" and session.case_id == case_id and len(pairs) == SCREEN.pairs and {len(p.reference) for p in pairs} == {ROUNDS}:
            found.append((np.array([pair.reference for pair in pairs]), np.array([pair.candidate for pair in pairs])))
    return found


def count_live(sessions: Sequence[LiveSession]) -> list[Count]:
    """How many live sessions each rule calls slower.

    pairs: both sides of a session. saved: the candidate of a session against the reference of every other session without a slowdown.
    """
    found: list[Count] = []
    for slowdown in sorted({s.slowdown for s in sessions if s.slowdown is not None}):
        mine = [s for s in sessions if s.slowdown == slowdown]
        alarms = [s.verdict for s in mine].count(GateVerdict.REGRESSED)
        found.append(Count(machine=LIVE, rule=GATE, data="pairs", slowdown=slowdown, alarms=alarms, sessions=len(mine)))
        found += _count_sides("pairs", slowdown, [(s, s) for s in mine])
        found += _count_sides("saved", slowdown, [(earlier, s) for s in mine for earlier in sessions if _could_be_baseline(earlier, s)])
    return found


def _count_sides(data: Data, slowdown: float, sides: Sequence[tuple[LiveSession, LiveSession]]) -> list[Count]:
    """The slowdown is real and in the rounds already, so nothing is added to them. Sessions of equal size are counted together."""
    alike: dict[tuple[int, int], list[tuple[list[float], list[float]]]] = {}
    for earlier, now in sides:
        pair = earlier.rounds("reference"), now.rounds("candidate")
        alike.setdefault((len(pair[0]), len(pair[1])), []).append(pair)
    alarms: Counter[str] = Counter()
    for same in alike.values():
        a, b = (np.array(side) for side in zip(*same, strict=True))
        alarms.update({count.rule: count.alarms for count in count_rules(LIVE, data, a, b, [0.0])})
    return [Count(machine=LIVE, rule=rule, data=data, slowdown=slowdown, alarms=n, sessions=len(sides)) for rule, n in alarms.items()]


def _could_be_baseline(earlier: LiveSession, session: LiveSession) -> bool:
    return earlier.slowdown == 0 and earlier.case_id == session.case_id and earlier is not session
