"""Quality of tissue classifiers: accuracy, macro F1, top 3, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assay.bench.case import Quantity, UsageError
from assay.models.metrics import Metric, check_predictions, score_with_intervals

Array = np.ndarray

TOP = 3
CHUNK = 4_096
"""Rows that are ranked at a time."""


def score_classes(truth: Array, scores: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Quality of class scores. truth: int [n]; scores: [n, classes], the higher the likelier; groups: [n] for the bootstrap."""
    check_predictions(truth, scores)
    order = _rank_top(scores)
    metrics = [
        Metric("accuracy", "share", lambda t, p: float((t == p[:, 0]).mean())),
        Metric("macro_f1", "F1", lambda t, p: compute_macro_f1(t, p[:, 0])),
        Metric(f"top{TOP}_accuracy", "share", lambda t, p: float((t[:, None] == p).any(axis=1).mean())),
    ]
    return score_with_intervals(metrics, truth, order, groups)


def _rank_top(scores: Array) -> Array:
    """int64 [n, 3] likeliest classes of [n, classes] scores, in chunks: a whole ranking of nine million rows would take 1.6 GB."""
    order = np.empty((len(scores), min(TOP, scores.shape[1])), dtype=np.int64)
    for start in range(0, len(scores), CHUNK):
        order[start : start + CHUNK] = np.argsort(-scores[start : start + CHUNK], axis=1, kind="stable")[:, :TOP]
    return order


def score_given_classes(truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
    """Quality of classes predicted elsewhere. truth, prediction: [n] class numbers. Raises UsageError for anything else."""
    check_predictions(truth, prediction)
    for name, values in (("true value", truth), ("prediction", prediction)):
        wrong = (values != np.floor(values)) | (values < 0)
        if wrong.any():
            raise UsageError(f"{name} number {int(wrong.argmax()) + 1} is {values[wrong.argmax()]}; give the numbers of classes: 0, 1, 2, ...")
    metrics = [
        Metric("accuracy", "share", lambda t, p: float((t == p).mean())),
        Metric("macro_f1", "F1", compute_macro_f1),
    ]
    return score_with_intervals(metrics, truth.astype(np.int64), prediction.astype(np.int64), groups)


def compute_macro_f1(truth: Array, predicted: Array) -> float:
    """Unweighted mean of F1 over the classes that occur in truth or prediction. truth, predicted: int [n]."""
    classes = int(max(truth.max(), predicted.max())) + 1
    hits = np.bincount(truth[truth == predicted], minlength=classes)
    seen = np.bincount(truth, minlength=classes) + np.bincount(predicted, minlength=classes)
    return float((2 * hits[seen > 0] / seen[seen > 0]).mean())


def count_confusions(truth: Array, predicted: Array, classes: Sequence[str]) -> Mapping[str, list[float]]:
    """A row of the confusion matrix per class that occurs: how often it was predicted as each of the classes, in order."""
    matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return {f"confusion_{name}": row.astype(float).tolist() for name, row in zip(classes, matrix, strict=True) if row.any()}
