"""The rules that other tools decide by, over the rounds of two sides. Each takes all rounds of ten launches a side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, ttest_ind

Floats = NDArray[np.float64]
Alarms = NDArray[np.bool_]
RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Rule:
    """`alarm(a, b, factors)`: a and b hold seconds, [sessions, rounds]; -> [factors, sessions], whether b times each factor is called slower."""

    name: str
    summary: str
    alarm: Callable[[Floats, Floats, Sequence[float]], Alarms]


def _mean_5(a: Floats, b: Floats, factors: Sequence[float]) -> Alarms:
    ratio = b.mean(axis=1) / a.mean(axis=1)
    return np.stack([ratio * factor > 1.05 for factor in factors])


def _median_7(a: Floats, b: Floats, factors: Sequence[float]) -> Alarms:
    ratio = np.median(b, axis=1) / np.median(a, axis=1)
    return np.stack([ratio * factor > 1.07 for factor in factors])


def _mann_whitney(a: Floats, b: Floats, factors: Sequence[float]) -> Alarms:
    ratio = np.median(b, axis=1) / np.median(a, axis=1)
    return np.stack([
        (ratio * factor > 1.1) & (mannwhitneyu(a, b * factor, axis=1, alternative="two-sided", method="asymptotic").pvalue < 0.002) for factor in factors
    ])


def _t_test(a: Floats, b: Floats, factors: Sequence[float]) -> Alarms:
    return np.stack([ttest_ind(b * factor, a, axis=1, equal_var=False, alternative="greater").pvalue < 0.05 for factor in factors])


def _bootstrap(a: Floats, b: Floats, factors: Sequence[float]) -> Alarms:
    random = np.random.default_rng(0)
    means = [np.empty((RESAMPLES, len(a))) for _ in range(2)]
    for resample in range(RESAMPLES):
        for side, out in zip((a, b), means, strict=True):
            # how often each round is drawn, the same draw for every session: sessions are judged one by one, so this costs no independence
            weights = np.bincount(random.integers(side.shape[1], size=side.shape[1]), minlength=side.shape[1])
            out[resample] = side @ weights / side.shape[1]
    low = np.quantile(means[1] / means[0], 0.025, axis=0)
    return np.stack([low * factor > 1 for factor in factors])


RULES = (
    Rule("mean 5 %", "pytest-benchmark, `--benchmark-compare-fail=mean:5%`", _mean_5),
    Rule("median 7 %", "a threshold of 7 % on medians", _median_7),
    Rule("Mann-Whitney x1.1", "asv: medians 10 % apart and Mann-Whitney U at 0.2 %", _mann_whitney),
    Rule("t-test", "Welch's t-test at 5 %", _t_test),
    Rule("bootstrap", "a 95 % bootstrap interval of the ratio of means above 1", _bootstrap),
)
