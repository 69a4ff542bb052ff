"""What pairs of launches say about a slowdown: Hodges-Lehmann estimate, exact signed-rank bounds, Holm over cases.

Pure functions over numbers; nothing here reads, writes or starts anything. One launch pair gives one value
d = median over its rounds of log(t_B / t_A), so that d > 0 means that the candidate B is slower than the reference A.
Source: M. Hollander, D. A. Wolfe, E. Chicken, Nonparametric Statistical Methods, sections 3.1 to 3.3.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]

FLOOR = math.log(1.02)
"""A change whose estimate lies below this is nobody's concern, however certain it is."""
MARGIN = math.log(1.05)
"""Two sides are equivalent when the upper bound of the slowdown lies below this."""
POWER = 0.8
"""`smallest_detectable` is the slowdown that a session like this one sees this often."""
_UNITS = tuple(math.log(10.0**k) for k in (3, 6, 9))
_NEAR = math.log(1.25)
_CHUNK = 2_000  # cases at a time: their pairwise averages are kept in memory at once


@dataclass(frozen=True, slots=True)
class Stage:
    """How many launch pairs a stage takes, and the one-sided error rate of each of its bounds."""

    pairs: int
    alpha: float


SCREEN = Stage(10, 0.05)
CONFIRM = Stage(20, 0.01)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The change that a session saw, as log(t_B / t_A). `low` and `high` each miss the truth with probability alpha at most."""

    value: float
    low: float
    high: float
    pairs: int
    alpha: float
    p_slower: float  # exact: how often a session without any change gives at least this many signed ranks for `slower`
    p_faster: float
    smallest_detectable: float  # the slowdown that such a session would have called significant four times of five


class TooFewPairs(ValueError):
    """No outcome of so few pairs could be significant."""


class NotARatio(ValueError):
    """The rounds of the two sides cannot be divided by each other; the message says why."""


def needed_pairs(alpha: float) -> int:
    """The least number of pairs with which a one-sided signed-rank test can reach alpha: its smallest p-value is 2^-n."""
    return max(1, math.ceil(-math.log2(alpha) - 1e-12))


def value_pair(seconds_a: Sequence[float], seconds_b: Sequence[float]) -> float:
    """d of one launch pair from the durations [s] of its rounds, round i of A beside round i of B.

    Raises NotARatio where a side is missing or holds what no clock can have shown.
    """
    a, b = np.asarray(seconds_a, dtype=np.float64), np.asarray(seconds_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise NotARatio(f"the sides have {a.size} and {b.size} rounds: every round needs both")
    if not a.size:
        raise NotARatio("no rounds")
    for name, side in (("reference", a), ("candidate", b)):
        if not np.isfinite(side).all():
            raise NotARatio(f"a round of the {name} is not a number")
        if (side <= 0).any():
            raise NotARatio(f"a round of the {name} lasted {side.min():g} s: its clock went backwards")
    d = float(np.median(np.log(b) - np.log(a)))
    for unit in _UNITS:
        if abs(abs(d) - unit) < _NEAR:
            raise NotARatio(f"the sides differ by a factor of about {math.exp(unit):,.0f}: their clocks count in different units")
    return d


def estimate(d: ArrayLike, alpha: float) -> Estimate:
    """Estimate and bounds from the values of launch pairs, d: [pairs].

    Raises TooFewPairs when no outcome could be significant at this alpha (1 % needs 7 pairs), NotARatio for values that are not finite.
    """
    return estimate_cases([np.asarray(d, dtype=np.float64)], [alpha])[0]


def estimate_cases(cases: Sequence[ArrayLike], alphas: Sequence[float]) -> list[Estimate]:
    """`estimate` for many cases at once, each with its own number of pairs and its own alpha. Raises as `estimate` does."""
    if len(cases) != len(alphas):
        raise ValueError(f"{len(cases)} cases and {len(alphas)} alphas: every case needs one")
    values = [np.asarray(d, dtype=np.float64) for d in cases]
    alike: dict[int, list[int]] = defaultdict(list)
    for index, (d, alpha) in enumerate(zip(values, alphas, strict=True)):
        check_pairs(d, alpha)
        alike[d.size].append(index)
    found: dict[int, Estimate] = {}
    for indices in alike.values():
        for start in range(0, len(indices), _CHUNK):
            part = indices[start : start + _CHUNK]
            found |= zip(part, _estimate_alike(np.stack([values[i] for i in part]), np.array([alphas[i] for i in part])), strict=True)
    return [found[index] for index in range(len(values))]


def choose_alphas(p_values: ArrayLike, alpha: float) -> Floats:
    """Holm's alpha for each case: a case is significant exactly when its p-value is at most its own alpha.

    The family of all cases then errs at most with probability alpha. Cases after the first that fails all share that one's alpha.
    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    steps = alpha / np.arange(p.size, 0, -1)
    failed = np.flatnonzero(p[order] > steps)
    if failed.size:
        steps[failed[0] :] = steps[failed[0]]
    alphas = np.empty(p.size)
    alphas[order] = steps
    return alphas


def check_pairs(d: ArrayLike, alpha: float) -> None:
    """Raises TooFewPairs or NotARatio for values that `estimate` would refuse."""
    values = np.asarray(d, dtype=np.float64)
    if not np.isfinite(values).all():
        raise NotARatio("the value of a launch pair is not a number")
    if values.size < (least := needed_pairs(alpha)):
        raise TooFewPairs(f"{values.size} launch pairs are too few: at alpha {100 * alpha:.3g} % nothing can be significant with fewer than {least}")


def _estimate_alike(d: Floats, alphas: Floats) -> list[Estimate]:
    """d: [cases, pairs], alphas: [cases]."""
    pairs = d.shape[1]
    walsh = np.sort(_average_pairs(d), axis=1)
    cdf = _signed_rank_cdf(pairs)
    rank = np.searchsorted(cdf, alphas, side="right") - 1  # 0-based rank of the average that is the lower bound
    rows = np.arange(len(d))
    value, low, high = np.median(walsh, axis=1), walsh[rows, rank], walsh[rows, walsh.shape[1] - 1 - rank]
    slower, faster = cdf[(walsh <= 0).sum(axis=1)], cdf[(walsh >= 0).sum(axis=1)]
    # near normal, a bound lies z(alpha) standard errors from the estimate, which tells the standard error
    reach = (high - low) / 2
    seen = np.maximum(reach, FLOOR) + reach * norm.ppf(POWER) / norm.isf(alphas)
    columns = (value, low, high, alphas, slower, faster, seen)
    return [Estimate(v, lo, hi, pairs, a, up, down, s) for v, lo, hi, a, up, down, s in zip(*(column.tolist() for column in columns), strict=True)]


def _average_pairs(d: Floats) -> Floats:
    """Walsh averages (d_i + d_j) / 2 for i <= j. d: [cases, n] -> [cases, n (n + 1) / 2]."""
    first, second = np.triu_indices(d.shape[1])
    averages: Floats = (d[:, first] + d[:, second]) / 2
    return averages


@lru_cache(maxsize=64)
def _signed_rank_cdf(n: int) -> Floats:
    """P(T <= t) for t = 0 .. n (n + 1) / 2, where T sums the ranks 1 .. n that fair coins choose: one convolution per rank.

    It holds for tied and zero values too when T counts the Walsh averages above zero: breaking the ties by infinitely small symmetric
    noise leaves each average above zero where it is, so the count can only grow to one that has exactly this distribution.
    """
    density = np.zeros(n * (n + 1) // 2 + 1)
    density[0] = 1.0
    for rank in range(1, n + 1):
        shifted = np.zeros_like(density)
        shifted[rank:] = density[:-rank]
        density = (density + shifted) / 2
    return np.minimum(np.cumsum(density), 1.0)
