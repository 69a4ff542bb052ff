"""The network on the test split, beside what the same mice give without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assay.bench.case import Quantity
from assay.models.audiogram.baselines import score_baselines
from assay.models.audiogram.clustering import Search
from assay.models.audiogram.data import AudiogramData
from assay.models.audiogram.networks import Outputs
from assay.models.audiogram.quality import Yardstick, judge_clusters, score_reconstruction, score_thresholds
from assay.models.audiogram.recipes import AudiogramRecipe

Array = np.ndarray
PARTS = ("train", "validation", "test")
ACTIVE_VARIANCE = 0.01  # of a latent mean over mice, above which its dimension counts as used
COLLAPSED = f"collapsed: no latent dimension varies by more than {ACTIVE_VARIANCE:g} over the mice, so distances in it are no structure"


class Judge:
    """Scores what a network makes of one data set. Baselines are fitted once for each number of clusters."""

    def __init__(self, data: AudiogramData, recipe: AudiogramRecipe) -> None:
        self._data, self._recipe = data, recipe
        self._baselines: dict[int, Mapping[str, Quantity]] = {}
        split, n = data.split, len(data.table)
        self._rows = np.concatenate([getattr(split, part) for part in PARTS])
        self._yardstick = Yardstick(
            abr=np.concatenate([getattr(data, part).abr.cpu().numpy() for part in PARTS]),
            genes=data.table.genes[self._rows],
            test=slice(n - len(split.test), n),
            types=None if data.table.types is None else data.table.types[split.test],
        )

    def score(self, outputs: Mapping[str, Outputs], clusters: int) -> Mapping[str, Quantity]:
        """outputs: of the network for the mice of each of PARTS, in evaluation mode; clusters: centres that the network has."""
        data, shown = self._data, outputs["test"]
        genes, thresholds = data.table.genes[data.split.test], data.table.thresholds[data.split.test]
        mean = shown.mean.double().cpu().numpy()
        labels = np.concatenate([outputs[part].assignment.argmax(1).cpu().numpy() for part in PARTS])
        scores = score_reconstruction(thresholds, data.preprocessing.to_decibels(shown.abr.double().cpu().numpy()), genes)
        scores |= judge_clusters(labels, self._yardstick, latent=mean)
        scores["clusters_chosen"] = Quantity(clusters, "clusters", how="centres of the network: the search's median vote once it has run")
        scores |= _count_active(mean)
        if scores["collapsed"].value:
            scores["silhouette"] = Quantity.missing("1", COLLAPSED)
        if clusters not in self._baselines:
            self._baselines[clusters] = self._judge_baselines(clusters)
        return {**scores, **self._baselines[clusters]}

    def _judge_baselines(self, clusters: int) -> Mapping[str, Quantity]:
        data, recipe = self._data, self._recipe
        genes, thresholds = data.table.genes[data.split.test], data.table.thresholds[data.split.test]
        heard = np.isfinite(thresholds)
        constant = np.broadcast_to(data.preprocessing.mean, thresholds.shape)
        owner = np.broadcast_to(genes[:, None], thresholds.shape)
        scores = {f"baseline_mean_{name}": q for name, q in score_thresholds(thresholds[heard], constant[heard], owner[heard]).items()}
        train = data.train.abr.cpu().numpy()
        return scores | score_baselines(train, self._yardstick, clusters, restarts=recipe.search_restarts, mixture=recipe.mixture_baseline)


def report_search(search: Search) -> dict[str, Quantity]:
    """search_<index>_k<K> of every number of clusters and search_vote_<index>: what the document prints of its own search."""
    candidates = [int(clusters) for clusters in search.curves["clusters"]]
    how = "k-means on the training mice's latent means after pre-training"
    found = {
        f"search_{index}_k{clusters}": Quantity(value, "1", how=how)
        for index in ("silhouette", "davies_bouldin", "calinski_harabasz")
        for clusters, value in zip(candidates, search.curves[index], strict=True)
        if np.isfinite(value)
    }
    return found | {f"search_vote_{index}": Quantity(vote, "clusters", how=how) for index, vote in search.votes.items()}


def report_best(validation: Sequence[float], best_epoch: int, pretrain_epochs: int) -> dict[str, Quantity]:
    """validation_total and best_joint_epoch (counted from 1) of the epoch whose weights are kept."""
    if best_epoch < pretrain_epochs:
        reason = "no joint epoch was better than none"
        return {"validation_total": Quantity.missing("loss", reason), "best_joint_epoch": Quantity.missing("epochs", reason)}
    how = "mean total loss of the validation split, epoch whose weights are kept"
    return {
        "validation_total": Quantity(validation[best_epoch], "loss", how=how),
        "best_joint_epoch": Quantity(best_epoch - pretrain_epochs + 1, "epochs", how=how),
    }


def _count_active(mean: Array) -> dict[str, Quantity]:
    """active_dimensions of latent means [n, d], and collapsed: 1 where there is none."""
    active = int((mean.var(axis=0) > ACTIVE_VARIANCE).sum())
    how = f"latent dimensions whose mean varies by more than {ACTIVE_VARIANCE:g}"
    return {
        "active_dimensions": Quantity(active, "dimensions", len(mean), how=how),
        "collapsed": Quantity(float(active == 0), "0 or 1", len(mean), how="1: no latent dimension is active, and clusters are drawn in what is left"),
    }
