"""What clustering without a network reaches on the same mice: k-means and a Gaussian mixture on the z-scored thresholds."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch

from assay.bench.case import Quantity
from assay.models.audiogram.clustering import SEED, fit_kmeans
from assay.models.audiogram.quality import Yardstick, judge_clusters

Array = np.ndarray
MIXTURE = {"covariance_type": "tied", "n_init": 3, "random_state": SEED}


def score_baselines(train: Array, yardstick: Yardstick, clusters: int, *, restarts: int, mixture: bool) -> dict[str, Quantity]:
    """Cluster metrics of both baselines with `clusters` clusters, fitted on train [m, 6] and judged as judge_clusters does.

    A fixed number would judge the search for it, not the clusters. Names start with baseline_kmeans_ and baseline_gmm_.
    mixture: False leaves the mixture out, with that reason.
    """
    everyone = yardstick.abr
    centres = fit_kmeans(torch.from_numpy(train), clusters, restarts).centres.numpy()
    labels = ((everyone[:, None, :].astype(float) - centres[None]) ** 2).sum(2).argmin(1)
    scores = judge_clusters(labels, yardstick, "baseline_kmeans_")
    if mixture:
        scores |= judge_clusters(_fit_mixture(train, everyone, clusters), yardstick, "baseline_gmm_")
    else:
        absent = "this preset fits no Gaussian mixture"
        scores |= {name.replace("kmeans", "gmm"): Quantity.missing(quantity.unit, absent) for name, quantity in scores.items()}
    note = f"{clusters} clusters, as many as the network's"
    return {name: quantity if quantity.value is None else replace(quantity, how=f"{quantity.how}; {note}") for name, quantity in scores.items()}


def _fit_mixture(train: Array, everyone: Array, clusters: int) -> Array:
    from sklearn.exceptions import ConvergenceWarning  # here, not above: a second that smoke cases need not pay
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(**MIXTURE, n_components=clusters, max_iter=500)
    with warnings.catch_warnings():
        # a start that has not settled after 500 iterations still competes with the other two by its likelihood
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels: Array = mixture.fit(train.astype(float)).predict(everyone.astype(float))
    return labels
