import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score

from assay.models.audiogram.clustering import (
    find_elbow,
    fit_kmeans,
    measure_calinski_harabasz,
    measure_davies_bouldin,
    measure_silhouette,
    search_clusters,
    take_median,
)


@pytest.fixture
def points():
    random = np.random.default_rng(0)
    centres = random.uniform(-12, 12, (9, 4))
    return torch.from_numpy(np.concatenate([random.normal(centre, 1, (40, 4)) for centre in centres]))


@pytest.mark.parametrize("clusters", [3, 9])
def test_kmeans_is_as_good_as_scikit_learns(points, clusters):
    ours = fit_kmeans(points, clusters)
    theirs = KMeans(clusters, n_init=10, random_state=42).fit(points.numpy())
    assert ours.inertia <= theirs.inertia_ * 1.001
    again = fit_kmeans(points, clusters)
    assert torch.equal(ours.labels, again.labels)
    assert ours.inertia == pytest.approx(float(((points - ours.centres[ours.labels]) ** 2).sum()))


def test_kmeans_needs_a_point_per_cluster_and_bears_equal_ones():
    with pytest.raises(ValueError, match="3 points cannot form 4 clusters"):
        fit_kmeans(torch.zeros(3, 2), 4)
    assert fit_kmeans(torch.ones(30, 2), 6).inertia == 0


def test_criteria_are_scikit_learns(points):
    labels = torch.from_numpy(np.random.default_rng(1).integers(0, 5, len(points)))
    for assigned in (labels, fit_kmeans(points, 9).labels):
        x, y = points.numpy(), assigned.numpy()
        assert measure_silhouette(points, assigned) == pytest.approx(silhouette_score(x, y), abs=1e-9)
        assert measure_davies_bouldin(points, assigned) == pytest.approx(davies_bouldin_score(x, y), rel=1e-9)
        assert measure_calinski_harabasz(points, assigned) == pytest.approx(calinski_harabasz_score(x, y), rel=1e-9)


def test_silhouette_counts_single_points_as_zero_and_has_no_value_for_one_cluster(points):
    labels = torch.zeros(len(points), dtype=torch.int64)
    assert measure_silhouette(points, labels) is None
    labels[0] = 1
    assert measure_silhouette(points, labels) == pytest.approx(silhouette_score(points.numpy(), labels.numpy()), abs=1e-9)
    labels = fit_kmeans(points, 9).labels
    assert measure_silhouette(points, labels, sample=200) == pytest.approx(measure_silhouette(points, labels), abs=0.05)


def test_the_documented_votes_give_twelve():
    assert take_median({"silhouette": 6, "davies_bouldin": 15, "calinski_harabasz": 18, "elbow": 10}) == 12


def test_elbow_is_where_the_curve_bends():
    assert find_elbow([6, 7, 8, 9, 10], [100.0, 60.0, 20.0, 15.0, 10.0]) == 8
    assert find_elbow([6, 7, 8], [5.0, 5.0, 5.0]) == 6


def test_search_finds_planted_clusters(points):
    told: list[int] = []
    search = search_clusters(points, restarts=3, tell=told.append)
    assert told == search.curves["clusters"] == list(range(6, 19))
    assert search.votes["silhouette"] == search.votes["davies_bouldin"] == search.votes["calinski_harabasz"] == 9
    assert search.choice == len(search.fit.centres) == 9
