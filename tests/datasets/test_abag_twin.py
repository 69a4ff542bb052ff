import numpy as np
import pytest

from assay.datasets.abag import SPLIT_FRACTIONS, SPLIT_SEED, assign_bins
from assay.datasets.abag_twin import AffinityTwin, identify
from assay.datasets.splits import split_by_group, split_random


@pytest.fixture(scope="module")
def twin():
    return AffinityTwin(20_000)


def test_bin_shares_are_the_documented_ones_to_the_row():
    documented = AffinityTwin(49_615).table.pkd  # the size of the documented test split: its very counts
    assert np.bincount(assign_bins(documented) + 1).tolist() == [1_130, 900, 17_904, 13_822, 15_809, 50]


def test_shares_scale_with_size(twin):
    counts = np.bincount(assign_bins(twin.table.pkd) + 1)
    assert counts.sum() == 20_000
    np.testing.assert_allclose(counts, 20_000 * np.array([1_130, 900, 17_904, 13_822, 15_809, 50]) / 49_615, atol=1)


def test_equal_sizes_are_equal_twins_and_the_identity_needs_no_data(twin):
    again = AffinityTwin(20_000)
    np.testing.assert_array_equal(again.table.inputs, twin.table.inputs)
    np.testing.assert_array_equal(again.table.pkd, twin.table.pkd)
    assert twin.table.identity == identify(20_000) != identify(20_001)
    assert twin.table.identity.synthetic


def test_the_posterior_mean_is_unbiased_and_uncorrelated_with_its_error(twin):
    # the two properties that make a posterior mean the best predictor; 4 standard errors of room
    rows = np.arange(20_000)
    error = twin.table.pkd - twin.predict_best(rows)
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(rows))
    assert abs(np.corrcoef(error, twin.predict_best(rows))[0, 1]) < 4 / np.sqrt(len(rows))


def test_planted_best_is_what_the_bayes_predictor_scores(twin):
    rows = split_random(20_000, SPLIT_FRACTIONS, SPLIT_SEED).test
    best, truth, prediction = twin.measure_best(rows), twin.table.pkd[rows], twin.predict_best(rows)
    assert best.rmse == pytest.approx(np.sqrt(((truth - prediction) ** 2).mean()), rel=1e-12)
    assert best.pearson == pytest.approx(np.corrcoef(truth, prediction)[0, 1], rel=1e-12)
    assert best.rmse < 0.5 * truth.std()


def test_a_linear_model_stays_below_the_planted_best(twin):
    split = split_random(20_000, SPLIT_FRACTIONS, SPLIT_SEED)
    x, y = twin.table.inputs.astype(np.float64), twin.table.pkd
    design = np.column_stack([np.ones(len(x)), x])
    weights = np.linalg.lstsq(design[split.train], y[split.train], rcond=None)[0]
    reached = np.corrcoef(design[split.test] @ weights, y[split.test])[0, 1]
    assert 0.6 < reached < twin.measure_best(split.test).pearson


def test_complexes_can_be_held_out(twin):
    split = split_by_group(twin.table.complexes, SPLIT_FRACTIONS, SPLIT_SEED)
    assert len(np.unique(twin.table.complexes)) == 500
    assert split.sizes["test"] == pytest.approx(3_000, abs=60)
