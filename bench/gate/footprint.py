"""Whether a candidate needs more memory: allocator peaks exactly, resident memory of CPU cases by signed rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assay.bench.case import Quantity
from assay.bench.gate.pair import A, B, SideName
from assay.bench.gate.statistics import CONFIRM, TooFewPairs, estimate
from assay.bench.gate.verdict import Finding, FindingKind, GateVerdict

MIB = 1 << 20
FLOOR_SHARE, FLOOR_BYTES = 0.01, 32 * MIB  # a difference below the larger of the two is nobody's concern

Peaks = Mapping[SideName, Mapping[str, Quantity]]


def judge_memory(case: str, pairs: Sequence[Peaks]) -> Finding:
    """From the peaks of each launch pair. On a GPU both of the allocator's peaks count; where it keeps none, what the process held."""
    names = [name for name in ("allocated_peak", "reserved_peak") if all(_has(pair, name) for pair in pairs)]
    findings = [_judge_exact(case, name, pairs) for name in names] or [_judge_resident(case, pairs)]
    order = list(GateVerdict)
    return min(findings, key=lambda finding: order.index(finding.verdict))  # regressed comes first


def _has(pair: Peaks, name: str) -> bool:
    return all(name in pair[side] and pair[side][name].value is not None for side in (A, B))


def _collect(name: str, pairs: Sequence[Peaks], side: SideName) -> list[float]:
    return [value for pair in pairs if (value := pair[side][name].value) is not None]


def _judge_exact(case: str, name: str, pairs: Sequence[Peaks]) -> Finding:
    reference, candidate = (max(_collect(name, pairs, side)) for side in (A, B))
    change, floor = candidate - reference, _floor(reference)
    verdict = GateVerdict.REGRESSED if change > floor else GateVerdict.IMPROVED if change < -floor else GateVerdict.EQUIVALENT
    how = f"{name} of torch's allocator, exact; highest of {len(pairs)} launches"
    reason = f"{name} {reference / MIB:,.0f} -> {candidate / MIB:,.0f} MiB, floor {floor / MIB:,.0f} MiB"
    sides = [Quantity(value, "bytes", len(pairs), how=how) for value in (reference, candidate)]
    return _find(case, verdict, reason, Quantity(change, "bytes more", len(pairs), change, change, how), sides, len(pairs))


def _judge_resident(case: str, measured: Sequence[Peaks]) -> Finding:
    pairs = [pair for pair in measured if _has(pair, "rss_peak")]
    if not pairs:
        return _find_absence(case, measured[0])
    reference, candidate = (_collect("rss_peak", pairs, side) for side in (A, B))
    middle, floor = float(np.median(reference)), _floor(float(np.median(reference)))
    how = "peak resident memory, because a CPU has no allocator peak; Hodges-Lehmann over launch pairs, exact signed-rank bounds"
    sides = [Quantity(float(np.median(side)), "bytes", len(side), how="median peak resident memory") for side in (reference, candidate)]
    try:
        found = estimate(np.subtract(candidate, reference), CONFIRM.alpha)
    except TooFewPairs as few:
        return _find(case, GateVerdict.INCONCLUSIVE, str(few), Quantity.missing("bytes more", str(few)), sides, len(pairs))
    if found.low > 0 and found.value > floor:
        verdict = GateVerdict.REGRESSED
    elif found.high < 0 and found.value < -floor:
        verdict = GateVerdict.IMPROVED
    else:
        verdict = GateVerdict.EQUIVALENT if found.high < floor else GateVerdict.INCONCLUSIVE
    change = f"{found.value / MIB:+,.1f} MiB, bounds {found.low / MIB:+,.1f} to {found.high / MIB:+,.1f}"
    reason = f"resident {middle / MIB:,.0f} MiB {change}, floor {floor / MIB:,.0f} MiB"
    return _find(case, verdict, reason, Quantity(found.value, "bytes more", found.pairs, found.low, found.high, how), sides, found.pairs)


def _find_absence(case: str, pair: Peaks) -> Finding:
    why = "; ".join(f"{side}: {peak.reason}" for side, peaks in pair.items() if (peak := peaks["rss_peak"]).value is None)
    reason = f"no peak of memory that both sides have: {why or 'a side lacks it in each launch pair'}"[:2000]
    absent = Quantity.missing("bytes more", reason)
    return _find(case, GateVerdict.INCONCLUSIVE, reason, absent, (pair[A]["rss_peak"], pair[B]["rss_peak"]), 0)


def _floor(reference: float) -> float:
    return max(FLOOR_SHARE * reference, FLOOR_BYTES)


def _find(case: str, verdict: GateVerdict, reason: str, change: Quantity, sides: Sequence[Quantity], pairs: int) -> Finding:
    return Finding(
        case_id=case, kind=FindingKind.MEMORY, verdict=verdict, reason=reason, estimate=change, reference=sides[0], candidate=sides[1], pairs=pairs
    )
