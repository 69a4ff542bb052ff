"""From the values of launch pairs to a verdict for each case, in two stages, and from findings to the exit code."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from assay.bench.case import ExitCode, Quantity
from assay.bench.gate.statistics import (
    CONFIRM,
    FLOOR,
    MARGIN,
    POWER,
    SCREEN,
    Estimate,
    NotARatio,
    TooFewPairs,
    check_pairs,
    choose_alphas,
    estimate,
    estimate_cases,
)
from assay.bench.records.documents import read_document
from assay.bench.records.record import Machine

MAX_FINDINGS = 50_000
MAX_REPORT_BYTES = 64 << 20
RATIO = "candidate / reference"
EVERY_CASE = "every case"  # whose name a finding about a side as a whole bears


class GateVerdict(StrEnum):
    """What the gate says about one thing that it compared."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"  # names the smallest slowdown that it could have seen
    NOT_COMPARABLE = "not comparable"
    INVALID_MACHINE = "invalid machine"


class FindingKind(StrEnum):
    """What was compared."""

    SPEED = "speed"
    MEMORY = "memory"
    QUALITY = "quality"
    PRESENCE = "presence"  # the case is there and runs on both sides
    TIME_TO_QUALITY = "time to quality"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Side(_Strict):
    """One of the two that are compared."""

    name: str = Field(max_length=500)  # as the user gave it: a git ref, a folder, an image digest
    identity: str = Field(max_length=500)  # what it turned out to be: commit, hash of a folder, image digest


class Finding(_Strict):
    """One verdict with what it rests on."""

    case_id: str = Field(max_length=500)
    kind: FindingKind
    verdict: GateVerdict
    reason: str = Field(min_length=1, max_length=2000)
    estimate: Quantity  # candidate over reference, or their difference; the unit says which
    reference: Quantity | None = None  # what the reference alone showed
    candidate: Quantity | None = None
    smallest_detectable: Quantity | None = None  # the smallest slowdown that the session could have seen
    pairs: int = Field(default=0, ge=0)  # that the verdict rests on
    screen: tuple[float, ...] = Field(default=(), max_length=1000)  # d of each launch pair, in order
    confirm: tuple[float, ...] = Field(default=(), max_length=1000)
    refused: bool = False  # not for want of data, but because a side cannot be believed: --allow-inconclusive does not cover that


class GateReport(_Strict):
    """The verdict JSON: everything that a session found. It may come from a stranger and is data, never markup."""

    schema_version: Literal["1"] = "1"
    reference: Side
    candidate: Side
    machine: Machine
    faults: tuple[str, ...] = Field(default=(), max_length=100)  # why the machine was not fit; empty when it was
    notes: tuple[str, ...] = Field(default=(), max_length=100)  # what was seen of the machine and is no reason to refuse it
    seed: int
    started: AwareDatetime
    ended: AwareDatetime
    allow_inconclusive: bool = False
    findings: tuple[Finding, ...] = Field(max_length=MAX_FINDINGS)

    @property
    def exit_code(self) -> int:
        """1 when something regressed; 4 for a machine that is not fit; 3 when something could not be judged, or nothing was; else 0."""
        verdicts = self.count()
        if verdicts[GateVerdict.REGRESSED]:
            return ExitCode.VERDICT_FAILED
        if self.faults or verdicts[GateVerdict.INVALID_MACHINE]:
            return ExitCode.MACHINE_NOT_FIT
        if not self.findings:
            return ExitCode.INCONCLUSIVE
        unknown = verdicts[GateVerdict.INCONCLUSIVE] + verdicts[GateVerdict.NOT_COMPARABLE]
        refused = any(finding.refused for finding in self.findings)
        return ExitCode.INCONCLUSIVE if refused or (unknown and not self.allow_inconclusive) else ExitCode.OK

    def count(self) -> Counter[GateVerdict]:
        """How many findings have each verdict."""
        return Counter(finding.verdict for finding in self.findings)


def read_report(path: Path) -> GateReport:
    """A verdict JSON from disk, validated; it may come from a stranger. Raises UsageError that names the file and the first fault."""
    too_large = f"{MAX_REPORT_BYTES} bytes; not a verdict of `python -m bench gate --json`"
    return read_document(path, GateReport, limit=MAX_REPORT_BYTES, too_large=too_large, remedy="give the file that `python -m bench gate --json` wrote")


@dataclass(frozen=True, slots=True)
class Values:
    """d of one case's launch pairs: those of the screen and, where it looked slower, the fresh ones that confirm."""

    screen: Sequence[float]
    confirm: Sequence[float] = ()


def distrust(findings: Sequence[Finding], faults: Sequence[str]) -> list[Finding]:
    """What is left of findings of launches when the machine turns out to be unfit: nothing that heat, a power brake or a stranger on the
    board could have caused. Allocator peaks and the quality of a training depend on none of them."""
    doubtful = (FindingKind.SPEED, FindingKind.TIME_TO_QUALITY, FindingKind.PRESENCE)
    if not faults:
        return list(findings)
    why = f"the machine was not fit when the work had ended: {'; '.join(faults)}"
    return [_withdraw(finding, why) if finding.kind in doubtful else finding for finding in findings]


def refuse_all(findings: Sequence[Finding], why: str) -> list[Finding]:
    """What is left of findings where a side cannot be believed at all."""
    verdict = GateVerdict.NOT_COMPARABLE
    return [f.model_copy(update={"verdict": verdict, "refused": True, "reason": f"{why}; withdrawn: {f.verdict}: {f.reason}"[:2000]}) for f in findings]


def _withdraw(finding: Finding, why: str) -> Finding:
    reason = f"{why}; withdrawn: {finding.verdict}: {finding.reason}"[:2000]
    return finding.model_copy(update={"verdict": GateVerdict.INVALID_MACHINE, "reason": reason})


def looks_slower(screen: Sequence[float]) -> bool:
    """Whether the screen calls for fresh pairs. Raises TooFewPairs or NotARatio for values that cannot be judged."""
    found = estimate(screen, SCREEN.alpha)
    return found.low > 0 and found.value > FLOOR


def decide(cases: Mapping[str, Values]) -> list[Finding]:
    """The verdict on the speed of each case, by id.

    Where fresh pairs were taken they alone decide, at Holm's alpha over all cases that have them; elsewhere the screen does.
    A case that looked slower and has no fresh pairs is inconclusive: the screen alone never accuses.
    """
    judged: dict[str, Finding] = {}
    for case, values in cases.items():
        try:
            check_pairs(values.screen, SCREEN.alpha)
            if len(values.confirm):
                check_pairs(values.confirm, CONFIRM.alpha)
        except (TooFewPairs, NotARatio) as refusal:
            judged[case] = _refuse(case, values, refusal)
    sound = {case: values for case, values in cases.items() if case not in judged}
    judged |= _judge_screens({case: values for case, values in sound.items() if not len(values.confirm)})
    judged |= _judge_confirmed({case: values for case, values in sound.items() if len(values.confirm)})
    return [judged[case] for case in cases]


def _judge_screens(cases: Mapping[str, Values]) -> dict[str, Finding]:
    estimates = estimate_cases([values.screen for values in cases.values()], [SCREEN.alpha] * len(cases))
    return {case: _judge(case, values, found) for (case, values), found in zip(cases.items(), estimates, strict=True)}


def _judge_confirmed(cases: Mapping[str, Values]) -> dict[str, Finding]:
    fresh = [values.confirm for values in cases.values()]
    unadjusted = estimate_cases(fresh, [CONFIRM.alpha] * len(cases))
    alphas = dict(zip(cases, choose_alphas([found.p_slower for found in unadjusted], CONFIRM.alpha).tolist(), strict=True))
    judged: dict[str, Finding] = {}
    for case, values in cases.items():
        try:
            check_pairs(values.confirm, alphas[case])
        except TooFewPairs as refusal:
            judged[case] = _refuse(case, values, refusal)
    left = {case: values for case, values in cases.items() if case not in judged}
    estimates = estimate_cases([values.confirm for values in left.values()], [alphas[case] for case in left])
    return judged | {case: _judge(case, values, found) for (case, values), found in zip(left.items(), estimates, strict=True)}


def _judge(case: str, values: Values, found: Estimate) -> Finding:
    verdict, reason = _choose(found, fresh=len(values.confirm) > 0)
    return Finding(
        case_id=case,
        kind=FindingKind.SPEED,
        verdict=verdict,
        reason=reason,
        estimate=_as_ratio(found),
        smallest_detectable=Quantity(
            math.exp(found.smallest_detectable),
            RATIO,
            found.pairs,
            how=f"the slowdown that {100 * POWER:.0f} % of sessions with this spread would call significant; normal approximation",
        ),
        pairs=found.pairs,
        screen=tuple(values.screen),
        confirm=tuple(values.confirm),
    )


def _choose(found: Estimate, *, fresh: bool) -> tuple[GateVerdict, str]:
    change = f"time {_as_percent(found.value)}, bounds {_as_percent(found.low)} to {_as_percent(found.high)}"
    pairs = f"{found.pairs} {'fresh ' if fresh else ''}launch pairs"
    slower = found.low > 0 and found.value > FLOOR
    if slower and fresh:
        return GateVerdict.REGRESSED, f"{change}, from {pairs}"
    if found.p_faster <= CONFIRM.alpha and found.value < -FLOOR:
        return GateVerdict.IMPROVED, f"{change}, from {pairs}"
    seen = f"{pairs} would have seen {_as_percent(found.smallest_detectable)}"
    if slower:
        return GateVerdict.INCONCLUSIVE, f"{change}: looked slower in the screen and was not measured again; {seen}"
    if found.high < MARGIN:
        return GateVerdict.EQUIVALENT, f"{change}, upper bound below the margin of {_as_percent(MARGIN)}, from {pairs}"
    return GateVerdict.INCONCLUSIVE, f"{change}: neither slower nor within the margin of {_as_percent(MARGIN)}; {seen}"


def _refuse(case: str, values: Values, refusal: TooFewPairs | NotARatio) -> Finding:
    verdict = GateVerdict.INCONCLUSIVE if isinstance(refusal, TooFewPairs) else GateVerdict.NOT_COMPARABLE
    finite = all(math.isfinite(d) for d in (*values.screen, *values.confirm))
    return Finding(
        case_id=case,
        kind=FindingKind.SPEED,
        verdict=verdict,
        reason=str(refusal),
        estimate=Quantity.missing(RATIO, str(refusal)),
        pairs=len(values.confirm) or len(values.screen),
        screen=tuple(values.screen) if finite else (),
        confirm=tuple(values.confirm) if finite else (),
    )


def _as_ratio(found: Estimate) -> Quantity:
    how = f"Hodges-Lehmann over launch pairs; exact signed-rank bounds, each at alpha {100 * found.alpha:.3g} %"
    return Quantity(math.exp(found.value), RATIO, found.pairs, math.exp(found.low), math.exp(found.high), how)


def _as_percent(d: float) -> str:
    return f"{100 * math.expm1(d):+.1f} %"
