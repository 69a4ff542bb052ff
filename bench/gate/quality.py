"""Whether a candidate's models are as good as the reference's: paired over groups for one training, over seeds where that is not enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.bench.case import Quantity
from assay.bench.gate.protocol import Scored
from assay.bench.gate.statistics import CONFIRM, MARGIN, Estimate, estimate, needed_pairs
from assay.bench.gate.verdict import RATIO, Finding, FindingKind, GateVerdict

QUALITY_MARGIN = 0.01
"""A candidate within 1 % of the reference's metric is not inferior. MLPerf Inference asks for 99 % of the reference's quality likewise."""
TAIL = 5.0  # % on each side of the bootstrap's bounds
MIN_DRAWS = 100


@dataclass(frozen=True, slots=True)
class Metric:
    """The metric that ranks a workload."""

    name: str
    higher_is_better: bool

    def gain(self, reference: float, candidate: float) -> float:
        """By how much the candidate is better, in the metric's unit."""
        return candidate - reference if self.higher_is_better else reference - candidate


@dataclass(frozen=True, slots=True)
class _Bounds:
    value: float
    low: float
    high: float


def judge_groups(case: str, metric: Metric, reference: Scored, candidate: Scored) -> Finding:
    """From one training on each side: paired bootstrap over the groups of the test split.

    Its interval covers the test rows, not the luck of the seed. So it can clear a candidate and never accuses one: what is not clearly
    good is inconclusive and wants more seeds.
    """
    a, b = reference.quality.get(metric.name), candidate.quality.get(metric.name)
    if a is None or b is None or a.value is None or b.value is None:
        return _find_absence(case, metric, a, b)
    if a.value == b.value and reference.draws.get(metric.name) == candidate.draws.get(metric.name):
        how = f"{metric.name}: one training on each side, the same to the last bit"
        return _report(case, metric, GateVerdict.EQUIVALENT, how, _Bounds(0.0, 0.0, 0.0), (a, b), how)
    gains = _pair_draws(metric, reference, candidate)
    if len(gains) < MIN_DRAWS:
        reason = f"{metric.name} differs ({a.value:.4g} -> {b.value:.4g}) and has no bootstrap over groups to say whether by chance"
        return _report(case, metric, GateVerdict.INCONCLUSIVE, reason, _Bounds(metric.gain(a.value, b.value), -math.inf, math.inf), (a, b), reason)
    low, high = (float(bound) for bound in np.percentile(gains, [TAIL, 100 - TAIL]))
    bounds = _Bounds(metric.gain(a.value, b.value), low, high)
    how = f"one training on each side, paired bootstrap over groups, {len(gains)} draws, each bound at {TAIL:g} %"
    verdict = _choose(bounds, QUALITY_MARGIN * abs(a.value))
    if verdict is GateVerdict.REGRESSED:
        return _report(case, metric, GateVerdict.INCONCLUSIVE, _describe(metric, bounds, a, "worse with one seed, which may be its luck"), bounds, (a, b), how)
    return _report(case, metric, verdict, _describe(metric, bounds, a, "one seed"), bounds, (a, b), how)


def judge_omission(case: str, reason: str) -> Finding:
    """A quality that nobody looked at. Said, because a report without it would read as one in which quality is the same."""
    absent = Quantity.missing("", reason)
    return Finding(case_id=case, kind=FindingKind.QUALITY, verdict=GateVerdict.INCONCLUSIVE, reason=reason, estimate=absent)


def judge_seeds(case: str, metric: Metric, reference: Sequence[Scored], candidate: Sequence[Scored]) -> Finding:
    """From one training per seed on each side: exact signed-rank bounds over the seeds. Raises TooFewPairs for fewer than seven."""
    pairs = [(a.quality.get(metric.name), b.quality.get(metric.name)) for a, b in zip(reference, candidate, strict=True)]
    values = [(a.value, b.value) for a, b in pairs if a is not None and b is not None and a.value is not None and b.value is not None]
    if len(values) < len(pairs):
        return _find_absence(case, metric, *next(pair for pair in pairs if any(q is None or q.value is None for q in pair)))
    found = estimate([metric.gain(a, b) for a, b in values], CONFIRM.alpha)
    means = tuple(float(np.mean(side)) for side in zip(*values, strict=True))
    unit = pairs[0][0].unit if pairs[0][0] is not None else ""
    sides = tuple(Quantity(mean, unit, len(values), how=f"mean over {len(values)} seeds") for mean in means)
    bounds = _Bounds(found.value, found.low, found.high)
    how = f"Hodges-Lehmann over {len(values)} seeds; exact signed-rank bounds, each at {100 * CONFIRM.alpha:g} %"
    verdict = _choose(bounds, QUALITY_MARGIN * abs(means[0]))
    return _report(case, metric, verdict, _describe(metric, bounds, sides[0], f"{len(values)} seeds"), bounds, (sides[0], sides[1]), how, len(values))


def judge_time_to_quality(case: str, reference: Sequence[Scored], candidate: Sequence[Scored]) -> Finding | None:
    """Time until the loss that training watches is as low as the reference's lowest (+ 1 %). None for a case that trains nothing.

    Equal loss curves take equally many epochs, so there only the seconds of the whole training can differ. Otherwise seeds decide,
    seven or more.
    """
    if not reference[0].watched:
        return None
    kind = FindingKind.TIME_TO_QUALITY
    if all(list(a.watched) == list(b.watched) for a, b in zip(reference, candidate, strict=True)):
        return _judge_equal_curves(case, reference, candidate)
    times = [_reach(a, b) for a, b in zip(reference, candidate, strict=True)]
    reached = [math.log(b / a) for a, b in times if b is not None]
    missed = len(times) - len(reached)
    if missed:
        verdict = GateVerdict.REGRESSED if len(times) >= needed_pairs(CONFIRM.alpha) and missed > len(times) / 2 else GateVerdict.INCONCLUSIVE
        reason = f"the candidate never came to within {100 * QUALITY_MARGIN:g} % of the reference's lowest loss with {missed} of {len(times)} seeds"
        return Finding(case_id=case, kind=kind, verdict=verdict, reason=reason, estimate=Quantity.missing(RATIO, reason), pairs=len(times))
    if len(times) < needed_pairs(CONFIRM.alpha):
        reason = f"loss curves differ; {_count(times)} cannot say whether the candidate needs longer"
        return Finding(case_id=case, kind=kind, verdict=GateVerdict.INCONCLUSIVE, reason=reason, estimate=Quantity.missing(RATIO, reason), pairs=len(times))
    found = estimate(reached, CONFIRM.alpha)
    verdict = _choose(_Bounds(-found.value, -found.high, -found.low), MARGIN)
    return _report_time(case, verdict, found, f"to the reference's lowest loss ({_count(times)})", len(times))


def _judge_equal_curves(case: str, reference: Sequence[Scored], candidate: Sequence[Scored]) -> Finding:
    """What a step takes has a verdict of its own, from many rounds; this one is for what surrounds the steps: data, validation, start-up.

    The seconds of one training are one observation and hold a neighbour's visit too. Within the margin they clear the candidate; beyond it
    they only ask for seeds. Those accuse or acquit by their bounds, and leave open what lies beyond the margin and may still be chance.
    """
    d = [math.log(b.seconds[-1] / a.seconds[-1]) for a, b in zip(reference, candidate, strict=True)]
    same = f"the same loss after every epoch ({_count(d)})"
    if len(d) < needed_pairs(CONFIRM.alpha):
        change = float(np.median(d))
        verdict = GateVerdict.EQUIVALENT if change <= MARGIN else GateVerdict.INCONCLUSIVE
        ratio = Quantity(math.exp(change), RATIO, len(d), how="seconds of the whole training")
        reason = f"{same}, the whole training takes {100 * math.expm1(change):+.1f} % time"
        return Finding(case_id=case, kind=FindingKind.TIME_TO_QUALITY, verdict=verdict, reason=reason, estimate=ratio, pairs=len(d))
    found = estimate(d, CONFIRM.alpha)
    verdict = _choose(_Bounds(-found.value, -found.high, -found.low), MARGIN)
    if verdict is GateVerdict.INCONCLUSIVE and found.value <= MARGIN:
        verdict = GateVerdict.EQUIVALENT
    return _report_time(case, verdict, found, f"{same}, the whole training takes", len(d))


def _report_time(case: str, verdict: GateVerdict, found: Estimate, what: str, seeds: int) -> Finding:
    how = f"Hodges-Lehmann over {seeds} seeds; exact signed-rank bounds, each at {100 * CONFIRM.alpha:g} %"
    ratio = Quantity(math.exp(found.value), RATIO, seeds, math.exp(found.low), math.exp(found.high), how)
    change, low, high = (f"{100 * math.expm1(d):+.1f} %" for d in (found.value, found.low, found.high))
    reason = f"{what} {change} time, bounds {low} to {high}"
    return Finding(case_id=case, kind=FindingKind.TIME_TO_QUALITY, verdict=verdict, reason=reason, estimate=ratio, pairs=seeds)


def _count(seeds: Sequence[object]) -> str:
    return f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"


def _reach(reference: Scored, candidate: Scored) -> tuple[float, float | None]:
    goal = min(reference.watched)
    goal += QUALITY_MARGIN * abs(goal)
    times = [next((s for loss, s in zip(side.watched, side.seconds, strict=True) if loss <= goal), None) for side in (reference, candidate)]
    assert times[0] is not None  # noqa: S101  # the reference reaches its own lowest loss
    return times[0], times[1]


def _choose(gain: _Bounds, margin: float) -> GateVerdict:
    if gain.high < 0 and gain.value < -margin:
        return GateVerdict.REGRESSED
    if gain.low > 0 and gain.value > margin:
        return GateVerdict.IMPROVED
    return GateVerdict.EQUIVALENT if gain.low > -margin else GateVerdict.INCONCLUSIVE


def _pair_draws(metric: Metric, reference: Scored, candidate: Scored) -> list[float]:
    a, b = reference.draws.get(metric.name, ()), candidate.draws.get(metric.name, ())
    if len(a) != len(b):
        return []
    return [metric.gain(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]


def _describe(metric: Metric, gain: _Bounds, reference: Quantity, basis: str) -> str:
    margin = QUALITY_MARGIN * abs(reference.value or 0)
    return f"{metric.name} better by {gain.value:+.3g}, bounds {gain.low:+.3g} to {gain.high:+.3g}, margin {margin:.3g}; {basis}"


def _report(
    case: str, metric: Metric, verdict: GateVerdict, reason: str, gain: _Bounds, sides: tuple[Quantity, Quantity], how: str, pairs: int = 1
) -> Finding:
    unit = f"{metric.name}, candidate better by"
    bounded = math.isfinite(gain.low) and math.isfinite(gain.high)
    estimated = Quantity(gain.value, unit, pairs, gain.low if bounded else None, gain.high if bounded else None, how)
    return Finding(
        case_id=case, kind=FindingKind.QUALITY, verdict=verdict, reason=reason, estimate=estimated, reference=sides[0], candidate=sides[1], pairs=pairs
    )


def _find_absence(case: str, metric: Metric, a: Quantity | None, b: Quantity | None) -> Finding:
    """A metric that one side does not give is a regression of the candidate, or a reference with which nothing can be compared."""
    here = {name: q is not None and q.value is not None for name, q in (("reference", a), ("candidate", b))}
    why = next(q.reason if q is not None else "not reported" for q in (b, a) if q is None or q.value is None)
    verdict = GateVerdict.REGRESSED if here["reference"] else GateVerdict.NOT_COMPARABLE
    missing = " and ".join(name for name, there in here.items() if not there)
    reason = f"{metric.name} is missing on the {missing}: {why}"[:2000]
    absent = Quantity.missing(f"{metric.name}, candidate better by", reason)
    return Finding(case_id=case, kind=FindingKind.QUALITY, verdict=verdict, reason=reason, estimate=absent, reference=a, candidate=b)
