"""Quality of a classifier of sequences: Matthews correlation, area under the ROC curve, accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from assay.bench.case import Quantity, UsageError
from assay.models.metrics import Metric, Undefined, check_predictions, score_with_intervals
from assay.models.splice.quality import area_under_roc

Array = np.ndarray
RANDOM_WEIGHTS = "random weights; "


def score_classes(label: Array, probability: Array, *, random_weights: bool = False) -> Mapping[str, Quantity]:
    """mcc, auroc and accuracy with 95 % intervals over rows.

    label: int [n] classes; probability: [n, K], rows sum to one. The predicted class is the most probable one; auroc of three and more
    classes is the unweighted mean of each against the others. `how` begins with "random weights" where no published weights were used.
    """
    check_predictions(label, probability)
    metrics = [
        Metric("mcc", "correlation", lambda t, p: correlate_classes(t, p.argmax(axis=1))),
        Metric("auroc", "probability", mean_area),
        Metric("accuracy", "share", lambda t, p: float((p.argmax(axis=1) == t).mean())),
    ]
    scores = score_with_intervals(metrics, label, probability)
    if not random_weights:
        return scores
    return {name: replace(score, how=RANDOM_WEIGHTS + score.how) for name, score in scores.items()}


def score_given(truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Quality of predictions made elsewhere. truth: [n] labels 0/1; prediction: [n] probabilities of 1; groups: [n] for the bootstrap."""
    check_predictions(truth, prediction)
    if not np.isin(truth, (0, 1)).all() or prediction.min() < 0 or prediction.max() > 1:
        raise UsageError("this workload scores labels 0 and 1 against probabilities of 1, between 0 and 1; convert the columns")
    metrics = [
        Metric("mcc", "correlation", lambda t, p: correlate_classes(t.astype(int), (p >= 0.5).astype(int))),
        Metric("auroc", "probability", area_under_roc),
        Metric("accuracy", "share", lambda t, p: float(((p >= 0.5) == t).mean())),
    ]
    return score_with_intervals(metrics, truth, prediction, groups)


def correlate_classes(label: Array, predicted: Array) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004). Raises Undefined when either side has one class only."""
    classes = int(max(label.max(), predicted.max())) + 1
    table = np.bincount(label * classes + predicted, minlength=classes**2).reshape(classes, classes).astype(float)
    n, hits, truth, calls = table.sum(), np.trace(table), table.sum(axis=1), table.sum(axis=0)
    spread = (n**2 - (calls**2).sum()) * (n**2 - (truth**2).sum())
    if spread == 0:
        raise Undefined("a Matthews correlation needs at least two true and two predicted classes")
    return float((hits * n - (truth * calls).sum()) / np.sqrt(spread))


def mean_area(label: Array, probability: Array) -> float:
    """Area under the ROC curve: of class 1 for two classes, else the mean over classes against the others."""
    if probability.shape[1] == 2:
        return area_under_roc(label, probability[:, 1])
    return float(np.mean([area_under_roc((label == kind).astype(int), probability[:, kind]) for kind in range(probability.shape[1])]))
