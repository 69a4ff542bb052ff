"""The twin of whole samples, mixtures of tissues, and the NNLS baseline."""

import numpy as np
import pytest
from scipy.optimize import nnls

from assay.datasets.methylation import TISSUES
from assay.datasets.methylation_samples import BLOOD, MISLABELLED, Samples, Stage, draw_proportions, list_absent, make_sample_twin, mask_blood, mix, solve_nnls

REGIONS = 400


def test_the_twin_has_the_documented_split_and_says_its_best():
    twin = make_sample_twin(REGIONS)
    assert [len(part.label) for part in (twin.train, twin.validation, twin.test)] == [455, 135, 175]
    assert twin.train.methylation.dtype == np.float32
    assert twin.train.methylation.shape == (455, REGIONS)
    assert 0 <= twin.train.methylation.min() <= twin.train.methylation.max() <= 1
    assert abs(twin.best_accuracy - (1 - MISLABELLED)) < 4 * np.sqrt(MISLABELLED * (1 - MISLABELLED) / 175)
    assert make_sample_twin(REGIONS, mislabelled=0.0).best_accuracy == 1
    assert list_absent(twin.test.label) == []


def test_the_nearest_profile_reaches_the_planted_best():
    twin = make_sample_twin(2_000)
    profiles = np.stack([np.median(twin.train.methylation[twin.train.label == tissue], axis=0) for tissue in range(22)])
    distance = ((twin.test.methylation[:, None] - profiles) ** 2).sum(axis=2)
    assert (distance.argmin(axis=1) == twin.test.label).mean() == pytest.approx(twin.best_accuracy, abs=0.02)


@pytest.mark.parametrize(
    ("stage", "tissues", "pure"),
    [(Stage.TWO_TISSUES, {1, 2}, 0.2), (Stage.SEVERAL, {3, 4, 5}, 0.0), (Stage.BLOOD, {1, 3, 4, 5, 6, 7}, 0.1), (Stage.BLOOD_MASKED, {3, 4, 5, 6, 7}, 0.0)],
)
def test_mixtures_are_what_their_stage_says(stage, tissues, pure):
    shares = draw_proportions(stage, 2_000, seed=1)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    assert set((shares > 0).sum(axis=1)) <= tissues
    is_pure = shares.max(axis=1) == 1
    assert is_pure.mean() == pytest.approx(pure, abs=0.03)
    if stage is Stage.TWO_TISSUES:
        assert 0.5 <= shares[~is_pure].max(axis=1).min() <= shares[~is_pure].max(axis=1).max() <= 0.8
    if stage in (Stage.BLOOD, Stage.BLOOD_MASKED):
        blood = shares[~is_pure, BLOOD]
        assert 0.6 <= blood.min() <= blood.max() <= 0.9
    np.testing.assert_array_equal(shares, draw_proportions(stage, 2_000, seed=1))


def test_masking_blood_leaves_the_others_among_themselves():
    shares = np.zeros((2, 22))
    shares[0, [BLOOD, 0, 21]] = 0.6, 0.3, 0.1
    shares[1, BLOOD] = 1
    masked = mask_blood(shares)
    assert masked.shape == (2, 21)
    assert (masked[0, 0], masked[0, 20]) == (pytest.approx(0.75), pytest.approx(0.25))
    assert masked[1].tolist() == [pytest.approx(1 / 21)] * 21


def test_a_mixture_is_the_weighted_sum_of_one_sample_per_tissue():
    pure = Samples(np.eye(22, dtype=np.float32), np.arange(22))
    shares = draw_proportions(Stage.SEVERAL, 50, seed=3)
    np.testing.assert_allclose(mix(pure, shares, seed=0), shares, atol=1e-6)
    np.testing.assert_allclose(solve_nnls(pure, shares), shares, atol=1e-6)


def test_the_baseline_is_scipys_nnls_on_the_whole_profiles():
    twin = make_sample_twin(REGIONS, mislabelled=0.0)
    mixtures = mix(twin.test, draw_proportions(Stage.BLOOD, 5, seed=3), seed=4)
    profiles = np.stack([twin.train.methylation[twin.train.label == tissue].mean(axis=0) for tissue in range(len(TISSUES))])
    expected = np.stack([nnls(profiles.T.astype(float), row)[0] for row in mixtures])
    np.testing.assert_allclose(solve_nnls(twin.train, mixtures), expected / expected.sum(axis=1, keepdims=True), atol=1e-6)
