"""The study's metrics: error and correlation over all rows, RMSE per affinity bin, and finding strong binders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from assay.bench.case import Quantity
from assay.datasets.abag import BIN_EDGES, BIN_NAMES, assign_bins, describe_bin
from assay.models.metrics import (
    MIN_GROUPS,
    Metric,
    Undefined,
    compute_mae,
    compute_pearson,
    compute_r2,
    compute_rmse,
    compute_spearman,
    score_with_intervals,
)

Array = np.ndarray
STRONG = 9.0  # pKd above which a binder is called strong: Kd below 1 nM

_OVERALL = [
    Metric("rmse", "pKd", compute_rmse),
    Metric("mae", "pKd", compute_mae),
    Metric("spearman", "rho", compute_spearman),
    Metric("pearson", "r", compute_pearson),
    Metric("r2", "1", compute_r2),
]


def score_affinity(truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """rmse, mae, spearman, pearson, r2, rmse_<bin> for the five bins, recall_strong and precision_strong.

    truth, prediction: [n] pKd; groups: [n] complexes for the bootstrap, None resamples rows. Bins have their upper edge inside, as in
    the origin's evaluation; `how` gives a bin's edges or the threshold. An empty bin is missing, with the reason.
    """
    per_bin = [Metric(f"rmse_{name}", "pKd", _BinRmse(index)) for index, name in enumerate(BIN_NAMES)]
    strong = [Metric("recall_strong", "share", _recall), Metric("precision_strong", "share", _precision)]
    scores = dict(score_with_intervals([*_OVERALL, *per_bin, *strong], truth, prediction, groups))
    bins = assign_bins(truth)
    for index, name in enumerate(BIN_NAMES):
        _limit(scores, f"rmse_{name}", bins == index, groups, f"rows with true pKd in {describe_bin(index)}")
    _limit(scores, "recall_strong", truth > STRONG, groups, f"predicted pKd > {STRONG:g} among rows with true pKd > {STRONG:g}")
    _limit(scores, "precision_strong", prediction > STRONG, groups, f"true pKd > {STRONG:g} among rows with predicted pKd > {STRONG:g}")
    return scores


def _limit(scores: dict[str, Quantity], name: str, rows: Array, groups: Array | None, note: str) -> None:
    """Says which rows a metric speaks of, and takes its interval away where they are too few for one."""
    quantity = scores[name]
    if quantity.value is None:
        return
    count = int(rows.sum())
    independent = count if groups is None else len(np.unique(groups[rows]))
    if independent < MIN_GROUPS:
        unit = "rows" if groups is None else "groups"
        scores[name] = Quantity(quantity.value, quantity.unit, n=count, how=f"{note}; no interval: {independent} {unit}")
    else:
        scores[name] = replace(quantity, n=count, how=f"{note}; {quantity.how}")


class _BinRmse:
    def __init__(self, index: int) -> None:
        self._index, self._low, self._high = index, BIN_EDGES[index], BIN_EDGES[index + 1]

    def __call__(self, truth: Array, prediction: Array) -> float:
        # as assign_bins has it, but for one bin: the bootstrap asks this a thousand times
        rows = (truth > self._low) & (truth <= self._high) if self._index else (truth >= self._low) & (truth <= self._high)
        if not rows.any():
            raise Undefined(f"no row has a true pKd in {describe_bin(self._index)}")
        return compute_rmse(truth[rows], prediction[rows])


def _recall(truth: Array, prediction: Array) -> float:
    strong = truth > STRONG
    if not strong.any():
        raise Undefined(f"no row has a true pKd > {STRONG:g}")
    return float((prediction[strong] > STRONG).mean())


def _precision(truth: Array, prediction: Array) -> float:
    called = prediction > STRONG
    if not called.any():
        raise Undefined(f"no row has a predicted pKd > {STRONG:g}")
    return float((truth[called] > STRONG).mean())
