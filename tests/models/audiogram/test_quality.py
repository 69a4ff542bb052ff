import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control, hypergeom
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from assay.models.audiogram.clustering import measure_silhouette
from assay.models.audiogram.enrichment import adjust_false_discovery, find_enrichment
from assay.models.audiogram.quality import (
    Yardstick,
    adjusted_rand,
    judge_clusters,
    normalised_information,
    purity,
    score_clusters,
    score_reconstruction,
)


def test_agreement_is_scikit_learns():
    random = np.random.default_rng(0)
    for spread in (1, 3, 8):
        truth = random.integers(0, 6, 200)
        labels = (truth + random.integers(0, spread, 200)) % 6
        assert adjusted_rand(truth, labels) == pytest.approx(adjusted_rand_score(truth, labels), abs=1e-12)
        assert normalised_information(truth, labels) == pytest.approx(normalized_mutual_info_score(truth, labels), abs=1e-12)


def test_agreement_by_hand():
    assert purity(np.array([0, 0, 1, 1, 1]), np.array([5, 5, 5, 7, 7])) == pytest.approx(4 / 5)
    same = np.array([0, 0, 1, 1])
    assert (purity(same, 1 - same), adjusted_rand(same, 1 - same), normalised_information(same, 1 - same)) == (1, 1, 1)
    one = np.zeros(4, dtype=int)
    assert (purity(same, one), adjusted_rand(same, one), normalised_information(same, one)) == (0.5, 0, 0)
    assert (adjusted_rand(one, one), normalised_information(one, one)) == (1, 1)


def test_enrichment_is_hypergeometric_with_benjamini_hochberg():
    random = np.random.default_rng(3)
    genes = np.array([f"g{gene}" for gene in random.integers(0, 12, 150)] + [""] * 20 + ["single"])
    labels = random.integers(0, 4, len(genes))
    labels[genes == "g3"] = 2
    found = find_enrichment(labels, genes)
    assert len(found.p) == 12 * 4
    assert "single" not in found.genes
    for gene, cluster, p in zip(found.genes, found.clusters, found.p, strict=True):
        hits = int(((genes == gene) & (labels == cluster)).sum())
        expected = hypergeom.sf(hits - 1, len(genes), int((genes == gene).sum()), int((labels == cluster).sum()))
        assert p == pytest.approx(expected, rel=1e-9)
    np.testing.assert_allclose(found.q, false_discovery_control(found.p), rtol=1e-12)
    assert found.enriched.tolist() == ["g3"]


def test_false_discovery_by_hand():
    np.testing.assert_allclose(adjust_false_discovery(np.array([0.04, 0.01, 0.03])), [0.04, 0.03, 0.04])


def test_missing_thresholds_are_not_scored():
    truth = np.array([[40.0, 30, 30, 40, 55, np.nan], [50.0, 30, 30, 40, 55, np.nan]])
    shown = np.array([[43.0, 30, 30, 40, 55, 99], [46.0, 30, 30, 40, 55, 99]])
    scores = score_reconstruction(truth, shown, np.array(["a", "b"]))
    assert scores["abr_rmse_6khz"].value == pytest.approx(np.sqrt((9 + 16) / 2))
    assert scores["abr_rmse"].value == pytest.approx(np.sqrt(25 / 10))
    assert scores["abr_mae"].n == 10
    assert scores["abr_rmse_click"].value is None
    assert scores["abr_rmse_click"].reason == "no test mouse has a threshold at click"


def test_real_mice_have_no_truth_and_one_cluster_no_silhouette():
    genes = np.array(["", "", "a", "b"])
    scores = score_clusters(np.zeros(4, dtype=int), np.random.default_rng(0).random((4, 2)), genes, None, "x_")
    assert scores["x_clusters_found"].value == 1
    for name, reason in (
        ("x_silhouette", "all test mice are in one cluster"),
        ("x_ari", "not known"),
        ("x_genes_enriched", "no gene has two test mice"),
    ):
        assert scores[name].value is None
        assert reason in str(scores[name].reason)


def test_small_clusters_do_not_count_as_found():
    labels = np.array([0] * 150 + [1] * 100 + [2])
    genes = np.repeat([f"g{i}" for i in range(251)], 1)
    scores = score_clusters(labels, np.arange(251.0)[:, None], genes, labels)
    assert scores["clusters_found"].value == 2
    assert (scores["purity"].value, scores["ari"].value) == (1, 1)
    assert scores["ari"].how == "no interval: resamples of 251 groups agree"


def test_clusters_are_judged_in_one_space_and_over_all_mice():
    random = np.random.default_rng(5)
    genes = np.repeat(np.array(["a", "b", "c", "d"]), 30)
    labels = np.repeat([0, 1, 2, 3], 30)  # every gene is its own cluster
    test = slice(90, 120)  # of one gene and one cluster: the test mice alone show nothing
    abr, latent = random.normal(size=(120, 6)) + labels[:, None], random.normal(size=(30, 2))
    scores = judge_clusters(labels, Yardstick(abr=abr, genes=genes, test=test, types=None), "x_", latent)
    assert (scores["x_genes_enriched"].value, scores["x_genes_enriched_all"].value) == (0, 4)
    assert (scores["x_gene_enrichment_share_all"].value, scores["x_gene_enrichment_share_all"].n) == (1, 4)
    assert "training mice among them" in scores["x_genes_enriched_all"].how
    assert scores["x_silhouette"].value is None
    assert scores["x_silhouette_abr"].reason == "all test mice are in one cluster"

    whole = judge_clusters(labels, Yardstick(abr=abr, genes=genes, test=slice(0, 120), types=None), latent=random.normal(size=(120, 2)))
    assert whole["silhouette_abr"].value == measure_silhouette(torch.from_numpy(abr), torch.from_numpy(labels))
    assert whole["silhouette_abr"].value != whole["silhouette"].value
    own = judge_clusters(labels, Yardstick(abr=abr, genes=genes, test=slice(0, 120), types=None))
    assert own["silhouette_abr"].value == own["silhouette"].value == whole["silhouette_abr"].value
