import time

import numpy as np
import pytest
from scipy import stats

from assay.models.affinity import affinity_v1
from assay.models.affinity.scoring import score_affinity

TRUTH = np.array([4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.5, 10.0, 10.5, 11.0])
PREDICTION = np.array([5.0, 5.0, 6.0, 8.0, 9.0, 9.5, 9.5, 8.0, 10.5, 9.0])


def test_overall_metrics_agree_with_scipy_and_hand():
    scores = score_affinity(TRUTH, PREDICTION)
    squares = [1, 0, 0, 1, 1, 0.25, 0, 4, 0, 4]
    assert scores["rmse"].value == pytest.approx((sum(squares) / 10) ** 0.5, rel=1e-14)
    assert scores["mae"].value == pytest.approx(7.5 / 10, rel=1e-14)
    assert scores["r2"].value == pytest.approx(1 - sum(squares) / (10 * TRUTH.var()), rel=1e-12)
    assert scores["pearson"].value == pytest.approx(stats.pearsonr(TRUTH, PREDICTION).statistic, rel=1e-12)
    assert scores["spearman"].value == pytest.approx(stats.spearmanr(TRUTH, PREDICTION).statistic, rel=1e-12)  # with ties


def test_bins_have_their_upper_edge_inside():
    scores = score_affinity(TRUTH, PREDICTION)
    assert scores["rmse_very_weak"].value == pytest.approx(0.5**0.5)  # 4 and 5
    assert scores["rmse_very_weak"].n == 2
    assert scores["rmse_weak"].value == pytest.approx(0.5**0.5)  # 6 and 7
    assert scores["rmse_weak"].n == 2
    assert scores["rmse_moderate"].value == pytest.approx(0.625**0.5)  # 8 and 9
    assert scores["rmse_moderate"].n == 2
    assert scores["rmse_strong"].value == pytest.approx(2**0.5)  # 9.5 to 11
    assert scores["rmse_strong"].n == 4
    assert "true pKd in (9, 11]" in scores["rmse_strong"].how


def test_an_empty_bin_is_missing_with_its_reason():
    very_strong = score_affinity(TRUTH, PREDICTION)["rmse_very_strong"]
    assert very_strong.value is None
    assert very_strong.reason == "no row has a true pKd in (11, 16]"


def test_strong_binders_by_hand():
    scores = score_affinity(TRUTH, PREDICTION)
    assert scores["recall_strong"].value == 0.5  # of 9.5, 10, 10.5, 11: 9.5 and 10.5 (9.0 is not above 9)
    assert scores["recall_strong"].n == 4
    assert scores["precision_strong"].value == pytest.approx(2 / 3)
    assert scores["precision_strong"].n == 3
    assert "predicted pKd > 9 among rows with true pKd > 9" in scores["recall_strong"].how
    none = score_affinity(TRUTH, np.full(10, 7.0) + np.arange(10) / 10)
    assert none["precision_strong"].reason == "no row has a predicted pKd > 9"


def test_a_constant_prediction_has_errors_but_no_correlation():
    scores = score_affinity(TRUTH, np.full(10, TRUTH.mean()))
    assert scores["r2"].value == pytest.approx(0.0, abs=1e-12)
    assert scores["spearman"].value is None
    assert scores["spearman"].reason == "a correlation needs true values and predictions that differ"


def test_intervals_come_from_complexes_and_small_subsets_have_none():
    random = np.random.default_rng(0)
    complexes = np.repeat(np.arange(20), 10)
    truth = random.uniform(5.1, 10.9, 200)
    truth[:3] = 12.0  # one complex only
    scores = score_affinity(truth, truth + random.normal(0, 1, 200), complexes)
    low, value, high = (getattr(scores["rmse"], part) for part in ("low", "value", "high"))
    assert low < value < high
    assert "20 groups" in scores["rmse"].how
    very_strong = scores["rmse_very_strong"]
    assert (very_strong.low, very_strong.high, very_strong.n) == (None, None, 3)
    assert very_strong.how == "rows with true pKd in (11, 16]; no interval: 1 groups"


def test_the_workload_scores_predictions_made_elsewhere_alike():
    assert affinity_v1.score(TRUTH, PREDICTION) == score_affinity(TRUTH, PREDICTION)


def test_the_documented_test_size_is_scored_in_seconds():
    random = np.random.default_rng(0)
    truth = random.uniform(4, 12, 49_615)
    began = time.process_time()  # not the clock on the wall: other work on the machine must not fail this
    score_affinity(truth, truth + random.normal(0, 1, 49_615), random.integers(0, 8_000, 49_615))
    assert time.process_time() - began < 10
