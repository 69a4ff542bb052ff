"""Metrics with intervals, shared by the families. Point values come from scikit-learn and scipy; the 95 % intervals from a
bootstrap over groups (chromosome, gene, complex), because rows of one group are not independent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from assay.bench.case import Quantity

RESAMPLES = 200
MIN_GROUPS = 5
SEED = 20_240_601

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric's name, unit and function of (truth [n], prediction [n]) -> value. May raise Undefined."""

    name: str
    unit: str
    compute: Callable[[Array, Array], float]


class Undefined(ValueError):
    """The metric has no value on these rows, e.g. a correlation of a constant."""


Draws = list[float | None]

_kept: ContextVar[list[Draws] | None] = ContextVar("kept", default=None)


@contextmanager
def keep_draws() -> Iterator[list[Draws]]:
    """Keeps, for every metric that a bootstrap is possible of in the `with` block, its value on each bootstrap resample; None where undefined.

    The resamples follow from the groups and SEED alone: two models scored on the same rows can be compared draw by draw.
    """
    draws: list[Draws] = []
    token = _kept.set(draws)
    try:
        yield draws
    finally:
        _kept.reset(token)


def percentile_interval(draws: Draws) -> tuple[float, float]:
    """The 95 % interval of the draws that are defined."""
    low, high = np.percentile([draw for draw in draws if draw is not None], [2.5, 97.5])
    return float(low), float(high)


def score_with_intervals(metrics: list[Metric], truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Every metric with a 95 % percentile-bootstrap interval.

    truth, prediction: [n]; groups: [n] labels, or None to resample rows. A metric that is undefined on the rows becomes a
    missing quantity with its reason; with fewer than five groups there is no interval, and `how` says so. Nor is there one where the
    resamples agree, as for an accuracy of 0 or 1: rows that are all alike do not say how much others would differ.
    """
    check_predictions(truth, prediction)
    unit_of = "rows" if groups is None else "groups"
    labels = np.arange(len(truth)) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_groups = int(labels.max()) + 1
    values = {metric.name: _compute(metric, truth, prediction) for metric in metrics}
    drawn = [metric for metric in metrics if not isinstance(values[metric.name], Undefined)]
    draws_of = _draw(drawn, truth, prediction, _resample(labels, n_groups) if n_groups >= MIN_GROUPS else ())
    scores: dict[str, Quantity] = {}
    for metric in metrics:
        value = values[metric.name]
        if isinstance(value, Undefined):
            scores[metric.name] = Quantity.missing(metric.unit, str(value))
            continue
        draws = draws_of[metric.name]
        defined = sum(draw is not None for draw in draws)
        if defined < RESAMPLES / 2:
            how = f"no interval: {n_groups} {unit_of}" if not draws else f"no interval: undefined on most bootstrap samples of {n_groups} {unit_of}"
            scores[metric.name] = Quantity(value, metric.unit, n=len(truth), how=how)
        else:
            low, high = percentile_interval(draws)
            if low < high:
                how = f"percentile bootstrap, {defined} resamples of {n_groups} {unit_of}"
                scores[metric.name] = Quantity(value, metric.unit, len(truth), low, high, how)
            else:
                scores[metric.name] = Quantity(value, metric.unit, len(truth), how=f"no interval: resamples of {n_groups} {unit_of} agree")
            if (kept := _kept.get()) is not None:
                kept.append(draws)
    return scores


def check_predictions(truth: Array, prediction: Array) -> None:
    """Raises ValueError for empty, ragged or non-finite input, naming the first bad row (0-based)."""
    if len(truth) == 0:
        raise ValueError("no rows to score")
    if len(truth) != len(prediction):
        raise ValueError(f"{len(truth)} true values but {len(prediction)} predictions")
    for name, values in (("true value", truth), ("prediction", prediction)):
        bad = ~np.isfinite(np.asarray(values, dtype=float)).reshape(len(values), -1).all(axis=1)
        if bad.any():
            raise ValueError(f"{name} of row {int(bad.argmax())} is not a finite number")


def _resample(labels: Array, n_groups: int) -> Iterator[Array]:
    """Row numbers of each resample, one at a time: of nine million test rows, all of them at once would take 14 GB."""
    random = np.random.default_rng(SEED)
    if n_groups == len(labels):
        yield from (random.integers(0, n_groups, n_groups) for _ in range(RESAMPLES))
        return
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(n_groups + 1))
    members = [order[starts[g] : starts[g + 1]] for g in range(n_groups)]
    for _ in range(RESAMPLES):
        yield np.concatenate([members[g] for g in random.integers(0, n_groups, n_groups)])


def _draw(metrics: Iterable[Metric], truth: Array, prediction: Array, resamples: Iterable[Array]) -> dict[str, Draws]:
    """Every metric on every resample: the rows of a resample are gathered once for all."""
    draws: dict[str, Draws] = {metric.name: [] for metric in metrics}
    for rows in resamples:
        true, predicted = truth[rows], prediction[rows]
        for metric in metrics:
            value = _compute(metric, true, predicted)
            draws[metric.name].append(None if isinstance(value, Undefined) else value)
    return draws


def _compute(metric: Metric, truth: Array, prediction: Array) -> float | Undefined:
    try:
        return metric.compute(truth, prediction)
    except Undefined as undefined:
        return undefined


def compute_rmse(truth: Array, prediction: Array) -> float:
    """Root mean squared error."""
    return float(np.sqrt(np.mean((truth - prediction) ** 2)))


def compute_mae(truth: Array, prediction: Array) -> float:
    """Mean absolute error."""
    return float(np.mean(np.abs(truth - prediction)))


def compute_r2(truth: Array, prediction: Array) -> float:
    """Coefficient of determination, 1 - SSE / SST. Raises Undefined for a constant truth."""
    total = float(np.sum((truth - truth.mean()) ** 2))
    if total == 0:
        raise Undefined("R2 needs true values that differ")
    return 1 - float(np.sum((truth - prediction) ** 2)) / total


def compute_pearson(truth: Array, prediction: Array) -> float:
    """Linear correlation. Raises Undefined when either side is constant."""
    if np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        raise Undefined("a correlation needs true values and predictions that differ")
    a, b = truth - truth.mean(), prediction - prediction.mean()
    # sums, not dot products: BLAS would start threads for these few numbers and round differently on another machine
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def compute_spearman(truth: Array, prediction: Array) -> float:
    """Rank correlation with ties at their average rank. Raises Undefined when either side is constant."""
    return compute_pearson(_rank(truth), _rank(prediction))


def _rank(values: Array) -> Array:
    # not scipy.stats.rankdata: its import would cost each case more time than a smoke evaluation takes
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
