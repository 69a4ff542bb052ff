"""Metric definitions on arrays worked out by hand, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from assay.bench.case import UsageError
from assay.models.metrics import Undefined
from assay.models.splice.quality import (
    area_under_roc,
    average_precision,
    best_f1,
    calibration_gap,
    correlate,
    expected_calibration_error,
    macro_f1,
    score_deltas,
    score_effects,
    score_given_deltas,
    score_given_probabilities,
)

ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40).filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows))


@given(rows=ROWS)
@settings(deadline=None)
def test_rank_metrics_equal_scikit_learns_with_ties(rows):
    label, score = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    assert area_under_roc(label, score) == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert average_precision(label, score) == pytest.approx(average_precision_score(label, score), abs=1e-12)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
@settings(deadline=None)
def test_macro_f1_equals_scikit_learns(rows):
    truth, predicted = (np.array(column) for column in zip(*rows, strict=True))
    assert macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))


def value_of(quality, name):
    """The number, which the tests that call this expect to be there."""
    assert quality[name].value is not None, quality[name].reason
    return quality[name].value


def test_delta_quality_follows_the_documents_definitions():
    label = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    target = np.array([0.1, 0.2, 0.3, 0.4, 0, 0, 0, 0])
    prediction = np.array([0.11, 0.05, 0.3, 0.2, 0.0, 0.1, 0.15, 0.02])
    quality = score_deltas(label, target, prediction, None)
    assert quality["pearson_sa"].value == pytest.approx(np.corrcoef(target[:4], prediction[:4])[0, 1])
    assert quality["pearson_all"].value == pytest.approx(np.corrcoef(target, prediction)[0, 1])
    assert quality["auroc"].value == pytest.approx(13 / 16)  # pairs: 0.11 beats 3, 0.05 beats 2, 0.3 and 0.2 beat 4
    assert quality["auprc"].value == pytest.approx((1 / 1 + 2 / 2 + 3 / 4 + 4 / 6) / 4)
    assert quality["detection_at_0.1"].value == 0.75
    assert quality["false_positive_at_0.1"].value == 0.25  # 0.1 itself is not above 0.1
    assert all(value.how.startswith("percentile bootstrap") for name, value in quality.items() if name != "pearson_sa")


def test_pearson_over_splice_altering_rows_says_nothing_about_normal_ones():
    label, target = np.array([1, 1, 1, 0, 0, 0]), np.array([0.1, 0.2, 0.3, 0, 0, 0])
    quiet, loud = (np.array([0.1, 0.2, 0.3, *normal]) for normal in ([0, 0, 0], [0.9, 0.8, 0.9]))
    assert score_deltas(label, target, loud, None)["pearson_sa"].value == score_deltas(label, target, quiet, None)["pearson_sa"].value == pytest.approx(1)
    assert score_deltas(label, target, quiet, None)["pearson_all"].value == pytest.approx(1)
    assert value_of(score_deltas(label, target, loud, None), "pearson_all") == pytest.approx(np.corrcoef(target, loud)[0, 1])
    assert np.corrcoef(target, loud)[0, 1] < -0.7


def test_constant_predictions_give_a_reason_in_place_of_a_correlation():
    quality = score_deltas(np.array([1, 1, 0, 0]), np.array([0.1, 0.4, 0, 0]), np.full(4, 0.2), None)
    assert quality["pearson_sa"].value is None
    assert "vary" in str(quality["pearson_sa"].reason)
    assert quality["auroc"].value == 0.5


def test_expected_calibration_error_by_hand():
    label = np.array([1, 0, 1, 1])
    probability = np.array([0.15, 0.12, 0.95, 1.0])
    # bin 1: |1 - 0.27| over rows 1 and 2; bin 9: |2 - 1.95|
    assert expected_calibration_error(label, probability) == pytest.approx((0.73 + 0.05) / 4)
    assert expected_calibration_error(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == 0
    with pytest.raises(Undefined, match="not probabilities"):
        expected_calibration_error(label, probability * 2)


def test_calibration_gap_is_the_mean_distance_of_bin_means():
    prediction = np.repeat(np.arange(10) / 10, 5)
    assert calibration_gap(prediction, prediction) == 0
    assert calibration_gap(prediction + 0.25, prediction) == pytest.approx(0.25)
    assert calibration_gap(prediction * 0, prediction) == pytest.approx(0.45)
    # errors that cancel within a bin are no calibration error
    assert calibration_gap(prediction + np.tile([0.1, -0.1, 0, 0.2, -0.2], 10), prediction) == pytest.approx(0, abs=1e-12)


def test_correlation_and_areas_are_undefined_rather_than_zero():
    for compute, truth, prediction in (
        (correlate, [1.0], [1.0]),
        (correlate, [1.0, 1.0], [0.0, 1.0]),
        (area_under_roc, [1.0, 1.0], [0.0, 1.0]),
        (average_precision, [0.0, 0.0], [0.0, 1.0]),
    ):
        with pytest.raises(Undefined):
            compute(np.array(truth), np.array(prediction))


def test_intervals_resample_groups():
    random = np.random.default_rng(0)
    label = np.tile([1, 0], 30)
    target = label * random.random(60)
    quality = score_deltas(label, target, target + random.random(60), np.repeat(np.arange(6), 10))
    assert "of 6 groups" in quality["auroc"].how
    low, high = quality["auroc"].low, quality["auroc"].high
    assert low is not None
    assert high is not None
    assert low <= value_of(quality, "auroc") <= high


def test_predictions_made_elsewhere_are_scored_as_labels_or_as_deltas():
    labels = score_given_deltas(np.array([1.0, 1.0, 0.0, 0.0]), np.array([-0.9, 0.05, 0.2, 0.0]))
    assert set(labels) == {"auroc", "auprc", "detection_at_0.1", "false_positive_at_0.1"}
    assert labels["auroc"].value == 0.75
    deltas = score_given_deltas(np.array([-0.5, 0.25, 0.0, 0.0]), np.array([-0.9, 0.05, 0.2, 0.0]))
    assert deltas["auroc"].value == 0.75
    assert deltas["pearson_sa"].value == pytest.approx(1)
    assert deltas["pearson_all"].value == pytest.approx(np.corrcoef([0.5, 0.25, 0, 0], [0.9, 0.05, 0.2, 0])[0, 1])
    probabilities = score_given_probabilities(np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.4, 0.2]))
    assert probabilities["accuracy"].value == pytest.approx(2 / 3)
    logits = score_given_probabilities(np.array([1.0, 0.0, 1.0]), np.array([2.0, -1.0, 0.5]))
    assert logits["auroc"].value == 1
    assert logits["ece_10bins"].value is None
    with pytest.raises(UsageError, match=r"true value number 2 is 0\.5; .*give 0 for Normal"):
        score_given_probabilities(np.array([1.0, 0.5]), np.array([0.9, 0.4]))


def test_effect_quality_counts_the_largest_logit():
    logits = np.eye(6)[[0, 1, 2, 2]] * 3
    quality = score_effects(np.array([0, 1, 2, 3]), logits, None)
    assert quality["effect_accuracy"].value == 0.75
    assert quality["effect_macro_f1"].value == pytest.approx((1 + 1 + 2 / 3 + 0) / 4)


def test_best_f1_is_the_largest_over_all_thresholds():
    random = np.random.default_rng(4)
    for _ in range(20):
        label, score = random.integers(0, 2, 50), random.integers(0, 12, 50) / 12  # ties
        by_threshold = [f1_score(label, score >= threshold) for threshold in np.unique(score)]
        assert best_f1(label, score) == pytest.approx(max(by_threshold), abs=1e-12)
    assert best_f1(np.array([1, 0, 1]), np.array([0.9, 0.5, 0.1])) == pytest.approx(2 * 2 / (2 + 3))
    with pytest.raises(Undefined, match="needs a positive row"):
        best_f1(np.zeros(3), np.ones(3))
