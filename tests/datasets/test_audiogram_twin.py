import numpy as np
import pytest

from assay.datasets.audiogram_twin import DOCUMENTED_MICE, STEP, TYPES, AudiogramTwin, identify
from assay.datasets.audiograms import split_by_gene


def test_documented_size_and_genes():
    twin = AudiogramTwin(DOCUMENTED_MICE)
    assert len(twin.table) == 56_326
    genes, counts = np.unique(twin.table.genes, return_counts=True)
    assert len(genes) == pytest.approx(6_720, rel=0.05)
    assert counts.min() >= 2
    shares = np.bincount(twin.types) / len(twin.types)
    np.testing.assert_allclose(shares, [kind[2] for kind in TYPES], atol=0.002)
    assert twin.table.identity == identify(DOCUMENTED_MICE)
    assert twin.table.identity.synthetic


def test_a_gene_has_one_type_and_thresholds_come_in_steps():
    twin = AudiogramTwin(961)  # one more than whole genes: the last gene takes the odd mouse
    counts = np.unique(twin.table.genes, return_counts=True)[1]
    assert counts.tolist().count(9) == 1
    assert all(len(np.unique(twin.types[twin.table.genes == gene])) == 1 for gene in np.unique(twin.table.genes))
    heard = twin.table.thresholds[np.isfinite(twin.table.thresholds)]
    np.testing.assert_array_equal(heard % STEP, 0)
    assert heard.min() >= 0
    assert heard.max() <= 100
    assert 0 < np.isnan(twin.table.thresholds[:, 5]).mean() < 0.2
    assert not np.isnan(twin.table.thresholds[:, :5]).any()


def test_twins_are_the_same_every_time_and_differ_by_size():
    one, again = AudiogramTwin(200), AudiogramTwin(200)
    np.testing.assert_array_equal(one.table.thresholds, again.table.thresholds)
    assert identify(200) == identify(200) != identify(208)


def test_bayes_classifier_is_good_but_not_perfect():
    twin = AudiogramTwin(4_000)
    test = split_by_gene(twin.table).test
    accuracy = (twin.predict_best(test) == twin.types[test]).mean()
    assert 0.85 < accuracy < 1
    levels = np.array([kind[1] for kind in TYPES])
    nearest = ((np.nan_to_num(twin.table.thresholds[:, None, :5]) - levels[None, :, :5]) ** 2).sum(2).argmin(1)
    everyone = np.arange(4_000)
    assert (twin.predict_best(everyone) == twin.types).mean() >= (nearest == twin.types).mean()
