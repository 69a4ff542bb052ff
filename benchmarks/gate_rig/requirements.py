"""What the gate must reach, and whether the counts say that it does. One that is missed is said, not left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from assay.bench.gate.statistics import SCREEN
from assay.bench.gate.verdict import GateVerdict
from benchmarks.gate_rig.live import LiveSession
from benchmarks.gate_rig.proof import GATE, Count, Proof

QUIET = 0.02  # power is asked for where the robust spread of d is at most this
FALSE_ALARMS = 0.005
POWER = {0.05: 0.80, 0.10: 0.99}
LIVE_SHARE = {0.05: 0.7, 0.10: 0.9}
SCREEN_SECONDS = 90


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that was asked for."""

    asked: str
    measured: str
    met: bool | None  # None: not measured yet

    @property
    def row(self) -> tuple[str, str, str]:
        return self.asked, self.measured, "not measured" if self.met is None else "yes" if self.met else "**MISSED**"


def judge_proof(proof: Proof) -> list[Requirement]:
    """The worst machine of each table decides."""
    found = []
    alarms = _gate_counts(proof, 0.0, quiet_only=False)
    worst = max(alarms, key=lambda count: count.share)
    found.append(
        Requirement(
            f"false alarms after confirmation at most {100 * FALSE_ALARMS:g} % on every machine",
            f"at most {worst.alarms} of {worst.sessions} sessions ({worst.machine}), upper limit {100 * worst.interval[1]:.2f} %",
            worst.share <= FALSE_ALARMS,
        )
    )
    for slowdown, power in POWER.items():
        counts = _gate_counts(proof, slowdown, quiet_only=True)
        asked = f"a slowdown of {100 * slowdown:.0f} % is found in {100 * power:.0f} % of sessions with 30 pairs at most, where the spread of d is up to 2 %"
        if not counts:
            found.append(Requirement(asked, "no machine is that quiet", met=None))
            continue
        worst = min(counts, key=lambda count: count.share)
        measured = f"at least {worst.alarms} of {worst.sessions} ({worst.machine}), lower limit {100 * worst.interval[0]:.1f} %"
        found.append(Requirement(asked, measured, worst.share >= power))
    return found


def judge_live(sessions: Sequence[LiveSession]) -> list[Requirement]:
    """Real sessions: no false alarm at all, whatever it is about, injected slowdowns found, and no long wait."""
    still = [s for s in sessions if s.slowdown == 0]
    wrong = [s for s in still if s.verdict is GateVerdict.REGRESSED]
    cases = {s.case_id for s in still}
    enough = len(cases) >= 3 and all([s.case_id for s in still].count(case) >= 10 for case in cases)
    measured = f"{len(wrong)} of {len(still)} sessions over {len(cases)} cases"
    asked = "live: the same code on both sides, three cases, ten sessions each: never regressed"
    found = [Requirement(asked, measured, not wrong if enough or wrong else None)]
    for slowdown, share in LIVE_SHARE.items():
        mine = [s for s in sessions if s.slowdown == slowdown]
        hits = [s.verdict for s in mine].count(GateVerdict.REGRESSED)
        asked = f"live: an injected slowdown of {100 * slowdown:.0f} % is called regressed in {10 * share:.0f} of 10 sessions"
        found.append(Requirement(asked, f"{hits} of {len(mine)}", hits >= share * len(mine) if len(mine) >= 10 else None))
    return [*found, _judge_duration(still)]


def _judge_duration(still: Sequence[LiveSession]) -> Requirement:
    """Of sessions that only screened: what somebody waits for who has changed nothing."""
    screens = [s.seconds for s in still if len(s.pairs) == SCREEN.pairs]
    asked = f"live: a session that screens one smoke case takes under {SCREEN_SECONDS} s on a CPU"
    if not screens:
        return Requirement(asked, "no session yet", met=None)
    measured = f"median {median(screens):.0f} s, longest {max(screens):.0f} s of {len(screens)} sessions"
    return Requirement(asked, measured, max(screens) < SCREEN_SECONDS)


def _gate_counts(proof: Proof, slowdown: float, *, quiet_only: bool) -> list[Count]:
    quiet = {machine.name for machine in proof.machines if machine.spread <= QUIET or not quiet_only}
    return [c for c in proof.counts if c.rule == GATE and c.slowdown == slowdown and c.machine in quiet]
