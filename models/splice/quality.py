"""Quality of splice models: the documents' metrics, the honest ones beside them, and calibration.

Rank metrics are computed here in numpy: two hundred bootstrap draws and one process per case leave no room for scikit-learn's
import and call overhead; the tests hold them equal to scikit-learn's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from assay.bench.case import Quantity, UsageError
from assay.datasets.splice_variants import MIN_EFFECT, SpliceVariants
from assay.models.metrics import MIN_GROUPS, Metric, Undefined, check_predictions, score_with_intervals

Array = np.ndarray

BINS = 10


def score_deltas(label: Array, target: Array, prediction: Array, groups: Array | None) -> Mapping[str, Quantity]:
    """Quality of predicted delta sizes.

    label: [n] Splice-altering 1, Normal 0; target: [n] max |target| over channels; prediction: [n] max |prediction|; groups: [n].
    """
    metrics = [
        Metric("pearson_sa", "correlation", lambda t, p: correlate(t[t[:, 0] == 1, 1], p[t[:, 0] == 1])),
        Metric("pearson_all", "correlation", lambda t, p: correlate(t[:, 1], p)),
        Metric("auroc", "probability", lambda t, p: area_under_roc(t[:, 0], p)),
        Metric("auprc", "precision", lambda t, p: average_precision(t[:, 0], p)),
        Metric(f"detection_at_{MIN_EFFECT}", "share", lambda t, p: share_above(p[t[:, 0] == 1])),
        Metric(f"false_positive_at_{MIN_EFFECT}", "share", lambda t, p: share_above(p[t[:, 0] == 0])),
        Metric(f"calibration_gap_{BINS}bins", "delta", lambda t, p: calibration_gap(t[:, 1], p)),
    ]
    return score_with_intervals(metrics, np.stack([label, target], axis=1).astype(float), prediction, groups)


def score_probabilities(label: Array, probability: Array, groups: Array | None) -> Mapping[str, Quantity]:
    """Quality of the probability of Splice-altering. label: [n] 0/1; probability: [n] in [0, 1]."""
    metrics = [
        Metric("auroc", "probability", area_under_roc),
        Metric("auprc", "precision", average_precision),
        Metric("accuracy", "share", share_correct),
        Metric("f1_best_threshold", "F1", best_f1),  # chosen on the rows it is judged on, as the documents do
        Metric(f"ece_{BINS}bins", "probability", expected_calibration_error),
    ]
    return score_with_intervals(metrics, label.astype(float), prediction=probability, groups=groups)


def score_effects(effect: Array, logits: Array, groups: Array | None) -> Mapping[str, Quantity]:
    """Quality of effect types. effect: int [n] classes in the order of Effect; logits: [n, 6]."""
    check_predictions(effect, logits)
    metrics = [
        Metric("effect_accuracy", "share", lambda t, p: float((t == p).mean())),
        Metric("effect_macro_f1", "F1", macro_f1),
    ]
    return score_with_intervals(metrics, effect, logits.argmax(axis=1), groups)


def score_given_deltas(truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Quality of predictions made elsewhere. truth: [n] labels 0/1, or deltas, zero for Normal; prediction: [n] delta scores.

    Of both only magnitudes count. Labels have no delta to correlate with or to calibrate against, so those metrics are left out.
    """
    check_predictions(truth, prediction)
    size = np.abs(truth.astype(float))
    scores = score_deltas((size > 0).astype(float), size, np.abs(prediction), groups)
    if np.isin(size, (0, 1)).all():
        return {name: value for name, value in scores.items() if not name.startswith(("pearson", "calibration"))}
    return scores


def score_given_probabilities(truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Quality of predictions made elsewhere. truth: [n] labels 0/1; prediction: [n] probabilities of Splice-altering.

    Raises UsageError for other labels.
    """
    check_predictions(truth, prediction)
    other = ~np.isin(truth, (0, 1))
    if other.any():
        first = int(other.argmax())
        raise UsageError(
            f"true value number {first + 1} is {truth[first]}; a splice classifier is scored on labels: give 0 for Normal and 1 for Splice-altering"
        )
    return score_probabilities(truth, prediction, groups)


def choose_groups(variants: SpliceVariants) -> Array | None:
    """What a bootstrap resamples: chromosomes if there are five or more, else genes if there are, else rows (None)."""
    for labels in (variants.chromosome, variants.gene):
        if len(np.unique(labels)) >= MIN_GROUPS:
            return labels
    return None


def correlate(truth: Array, prediction: Array) -> float:
    """Pearson correlation. Raises Undefined for fewer than two rows or a constant."""
    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(prediction) == 0:
        raise Undefined("a correlation needs two rows and values that vary")
    return float(np.corrcoef(truth, prediction)[0, 1])


def area_under_roc(label: Array, score: Array) -> float:
    """Probability that a positive scores above a negative, ties counting half. Raises Undefined with one class only."""
    positives = int((label == 1).sum())
    negatives = len(label) - positives
    if not positives or not negatives:
        raise Undefined("AUROC needs both classes")
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    midranks = np.cumsum(counts) - (counts - 1) / 2
    return float((midranks[place][label == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(label: Array, score: Array) -> float:
    """Sum over thresholds of precision times the gain in recall (scikit-learn's definition). Raises Undefined without a positive."""
    positives = int((label == 1).sum())
    if not positives:
        raise Undefined("AUPRC needs a positive row")
    hits, called = _count_hits_by_threshold(label, score)
    return float((np.diff(hits, prepend=0) * hits / called).sum() / positives)


def best_f1(label: Array, score: Array) -> float:
    """Largest F1 over all thresholds on the score. Raises Undefined without a positive."""
    positives = int((label == 1).sum())
    if not positives:
        raise Undefined("F1 needs a positive row")
    hits, called = _count_hits_by_threshold(label, score)
    return float((2 * hits / (called + positives)).max())


def _count_hits_by_threshold(label: Array, score: Array) -> tuple[Array, Array]:
    """Positives among the rows at or above each distinct score, and the number of those rows; both [thresholds], highest first."""
    order = np.argsort(-score, kind="stable")
    hits, ranked = np.cumsum(label[order] == 1), score[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last row of each tied score
    return hits[last], last + 1


def share_above(prediction: Array) -> float:
    """Share of rows whose delta exceeds 0.1. Raises Undefined for no rows."""
    if not len(prediction):
        raise Undefined("no row of this class")
    return float((prediction > MIN_EFFECT).mean())


def share_correct(label: Array, probability: Array) -> float:
    """Share of rows on the right side of probability 0.5. Raises Undefined outside [0, 1]."""
    _require_probabilities(probability)
    return float(((probability >= 0.5) == label).mean())


def expected_calibration_error(label: Array, probability: Array) -> float:
    """Mean over rows of |share of positives - mean probability| of the row's bin; 10 bins of equal width. Raises Undefined outside [0, 1]."""
    _require_probabilities(probability)
    return _gap(np.minimum((probability * BINS).astype(int), BINS - 1), label, probability)


def calibration_gap(target: Array, prediction: Array) -> float:
    """Mean over rows of |mean target - mean prediction| of the row's bin; 10 bins of equal count by predicted delta."""
    order = np.argsort(prediction, kind="stable")
    bins = np.empty(len(order), dtype=int)
    bins[order] = np.arange(len(order)) * BINS // len(order)
    return _gap(bins, target, prediction)


def macro_f1(effect: Array, predicted: Array) -> float:
    """Unweighted mean of F1 over the classes that occur in truth or prediction."""
    scores = []
    for kind in np.union1d(effect, predicted):
        hits = ((effect == kind) & (predicted == kind)).sum()
        scores.append(2 * hits / ((effect == kind).sum() + (predicted == kind).sum()))
    return float(np.mean(scores))


def _require_probabilities(values: Array) -> None:
    if values.min() < 0 or values.max() > 1:
        raise Undefined("the predictions are not probabilities between 0 and 1")


def _gap(bins: Array, truth: Array, prediction: Array) -> float:
    difference = np.bincount(bins, weights=truth - prediction)
    return float(np.abs(difference).sum() / len(truth))
