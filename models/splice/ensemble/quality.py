"""Quality of an ensemble: of its members' mean prediction, of the members, and what averaging gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from assay.bench.case import Quantity
from assay.datasets.splice_variants import SpliceVariants
from assay.models.metrics import Metric, score_with_intervals
from assay.models.splice.quality import area_under_roc, average_precision, choose_groups, correlate

Array = np.ndarray
Compute = Callable[[Array, Array], float]

# truth is [n, 2]: label, and size of the target
GAINS: Mapping[str, tuple[str, Compute]] = {
    "auroc": ("probability", lambda truth, rank: area_under_roc(truth[:, 0], rank)),
    "auprc": ("precision", lambda truth, rank: average_precision(truth[:, 0], rank)),
    "pearson_sa": ("correlation", lambda truth, rank: correlate(truth[truth[:, 0] == 1, 1], rank[truth[:, 0] == 1])),
}
"""Metrics whose gain is reported, each with its unit."""


def summarise_members(scores: Sequence[Mapping[str, Quantity]], prefix: str) -> dict[str, Quantity]:
    """Mean over members of each metric, with the 95 % interval of Student's t; missing where a member has no value.

    prefix: what a member is, e.g. `member`; the metric auroc becomes `member_mean_auroc`.
    """
    summary: dict[str, Quantity] = {}
    for metric, first in scores[0].items():
        values = [score[metric].value for score in scores]
        known = [value for value in values if value is not None]
        name = f"{prefix}_mean_{metric}"
        if len(known) < len(values):
            summary[name] = Quantity.missing(first.unit, f"undefined for {len(values) - len(known)} of {len(values)} {prefix}s")
            continue
        mean, half = float(np.mean(known)), _half_width(known)
        summary[name] = Quantity(mean, first.unit, len(known), mean - half, mean + half, f"mean of {len(known)} {prefix}s, Student's t interval")
    return summary


def score_gain(test: SpliceVariants, averaged: Array, members: Sequence[Array], metrics: Sequence[str]) -> dict[str, Quantity]:
    """`ensemble_gain_M`: M of the averaged prediction minus the members' mean M, with a bootstrap interval over groups.

    averaged: [n] ranking of the mean prediction; members: [n] ranking of each member; metrics: names, of which those in GAINS are scored.
    """
    truth = np.stack([test.label, np.abs(test.target).max(axis=1)], axis=1).astype(float)
    wanted = [Metric(f"ensemble_gain_{name}", GAINS[name][0], _gain_of(GAINS[name][1])) for name in metrics if name in GAINS]
    return dict(score_with_intervals(wanted, truth, np.stack([averaged, *members], axis=1), choose_groups(test)))


def _gain_of(compute: Compute) -> Compute:
    def gain(truth: Array, ranks: Array) -> float:
        alone = [compute(truth, ranks[:, column]) for column in range(1, ranks.shape[1])]
        return compute(truth, ranks[:, 0]) - float(np.mean(alone))

    return gain


def _half_width(values: Sequence[float]) -> float:
    from scipy.special import stdtrit  # here: every process of a splice case imports this module

    n = len(values)
    return float(stdtrit(n - 1, 0.975)) * float(np.std(values, ddof=1)) / math.sqrt(n)
