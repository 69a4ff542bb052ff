"""What clustering without a network reaches on the same mice: k-means and a Gaussian mixture on the z-scored thresholds."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from bench.case import Quantity
from models.audiogram.clustering import SEED, fit_kmeans
from models.audiogram.quality import score_clusters

Array = np.ndarray
CLUSTERS = 12
MIXTURE = {"n_components": CLUSTERS, "covariance_type": "tied", "n_init": 3, "random_state": SEED}


def score_baselines(train: Array, test: Array, genes: Array, types: Array | None, *, restarts: int, mixture: bool) -> dict[str, Quantity]:
    """Cluster metrics of both baselines, fitted on train [n, 6] and judged on test [m, 6]; genes and types: [m], as in score_clusters.

    Names start with baseline_kmeans_ and baseline_gmm_. mixture: False leaves the mixture out, with that reason.
    """
    centres = fit_kmeans(torch.from_numpy(train), CLUSTERS, restarts).centres.numpy()
    labels = ((test[:, None, :].astype(float) - centres[None]) ** 2).sum(2).argmin(1)
    scores = score_clusters(labels, test, genes, types, "baseline_kmeans_")
    if not mixture:
        return scores | {
            name.replace("kmeans", "gmm"): Quantity.missing(quantity.unit, "this preset fits no Gaussian mixture") for name, quantity in scores.items()
        }
    return scores | score_clusters(_fit_mixture(train, test), test, genes, types, "baseline_gmm_")


def _fit_mixture(train: Array, test: Array) -> Array:
    from sklearn.exceptions import ConvergenceWarning  # here, not above: a second that smoke cases need not pay
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(**MIXTURE, max_iter=500)
    with warnings.catch_warnings():
        # a start that has not settled after 500 iterations still competes with the other two by its likelihood
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels: Array = mixture.fit(train.astype(float)).predict(test.astype(float))
    return labels
