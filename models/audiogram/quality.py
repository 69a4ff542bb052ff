"""How good reconstruction and clusters are: error per frequency in dB, separation, agreement with known types, enrichment of genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from assay.bench.case import Quantity
from assay.datasets.audiograms import FREQUENCIES
from assay.models.audiogram.clustering import SILHOUETTE_SAMPLE, measure_silhouette
from assay.models.audiogram.enrichment import score_enrichment
from assay.models.metrics import Metric, compute_mae, compute_rmse, score_with_intervals

Array = np.ndarray
SMALLEST_CLUSTER = 0.01  # share of the mice below which a cluster does not count as found


def score_thresholds(truth: Array, prediction: Array, genes: Array | None = None) -> Mapping[str, Quantity]:
    """abr_rmse and abr_mae in dB for single thresholds [n]; genes: [n] for the bootstrap, None resamples rows."""
    return score_with_intervals([Metric("abr_rmse", "dB", compute_rmse), Metric("abr_mae", "dB", compute_mae)], truth, prediction, genes)


def score_reconstruction(truth: Array, prediction: Array, genes: Array) -> dict[str, Quantity]:
    """abr_rmse, abr_mae over all measured thresholds, and abr_rmse_<frequency> for each of the six.

    truth: [n, 6] dB, NaN where nothing was measured, which is not scored; prediction: [n, 6] dB; genes: [n].
    """
    measured = np.isfinite(truth)
    owner = np.repeat(genes[:, None], truth.shape[1], axis=1)
    scores = dict(score_thresholds(truth[measured], prediction[measured], owner[measured]))
    for column, name in enumerate(FREQUENCIES):
        heard = measured[:, column]
        metric = Metric(f"abr_rmse_{name}", "dB", compute_rmse)
        if heard.any():
            scores |= score_with_intervals([metric], truth[heard, column], prediction[heard, column], genes[heard])
        else:
            scores[metric.name] = Quantity.missing("dB", f"no test mouse has a threshold at {name}")
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """What clusters of mice are judged by, whoever made them."""

    abr: Array  # [n, 6] z-scored thresholds of the mice of all splits
    genes: Array  # [n] symbols, empty for controls
    test: slice  # the test mice among the n
    types: Array | None  # [test] planted truth, None where nobody knows it


def judge_clusters(labels: Array, yardstick: Yardstick, prefix: str = "", latent: Array | None = None) -> dict[str, Quantity]:
    """score_clusters on the test mice, silhouette_abr, and genes_enriched_all with gene_enrichment_share_all.

    labels: [n] cluster of every mouse. latent: [test, d] where `silhouette` is taken, None for the thresholds themselves;
    silhouette_abr is always taken among the thresholds, where clusters of a network and of its baselines can be compared.
    """
    test = yardstick.test
    own, abr = labels[test], yardstick.abr[test]
    scores = score_clusters(own, abr if latent is None else latent, yardstick.genes[test], yardstick.types, prefix)
    among = "among z-scored thresholds"
    scores[f"{prefix}silhouette_abr"] = score_silhouette(own, abr, among) if latent is not None else scores[f"{prefix}silhouette"]
    # the corrected test counts pairs, and few genes have enough mice in a tenth of the data
    everyone = score_enrichment(labels, yardstick.genes, "mice of all splits, training mice among them")
    return scores | {f"{prefix}{name}_all": quantity for name, quantity in everyone.items()}


def score_silhouette(labels: Array, points: Array, space: str) -> Quantity:
    """Mean silhouette of test mice in the space of points [n, d], or the reason why there is none."""
    value = measure_silhouette(torch.from_numpy(points), torch.from_numpy(np.asarray(labels, dtype=np.int64)))
    rows = min(len(labels), SILHOUETTE_SAMPLE)
    if value is None:
        return Quantity.missing("1", "all test mice are in one cluster")
    return Quantity(value, "1", rows, how=f"mean over {rows} test mice, {space}")


def score_clusters(labels: Array, points: Array, genes: Array, types: Array | None, prefix: str = "") -> dict[str, Quantity]:
    """clusters_found, silhouette, purity, ari, nmi, genes_enriched and gene_enrichment_share; every name starts with `prefix`.

    labels: [n] cluster of each mouse; points: [n, d] where the silhouette is taken; genes: [n], empty for controls; types: [n] planted
    truth, None where nobody knows it. Intervals of purity, ari and nmi resample genes.
    """
    labels = np.asarray(labels, dtype=np.int64)
    shares = np.bincount(labels) / len(labels)
    found = int((shares >= SMALLEST_CLUSTER).sum())
    scores = {"clusters_found": Quantity(found, "clusters", len(labels), how=f"clusters with at least {SMALLEST_CLUSTER:.0%} of the test mice")}
    scores["silhouette"] = score_silhouette(labels, points, "in the space that was clustered")
    agreement = [Metric("purity", "share", purity), Metric("ari", "1", adjusted_rand), Metric("nmi", "1", normalised_information)]
    if types is None:
        scores |= {metric.name: Quantity.missing(metric.unit, "the true audiogram types of real mice are not known") for metric in agreement}
    else:
        scores |= score_with_intervals(agreement, types.astype(np.int64), labels, _separate_controls(genes))
    scores |= score_enrichment(labels, genes, "test mice")
    return {prefix + name: quantity for name, quantity in scores.items()}


def measure_agreement(truth: Array, labels: Array) -> dict[str, float]:
    """purity, ari and nmi of labels [n] against true types [n]."""
    return {"purity": purity(truth, labels), "ari": adjusted_rand(truth, labels), "nmi": normalised_information(truth, labels)}


def purity(truth: Array, labels: Array) -> float:
    """Share of mice whose type is the most frequent one of their cluster."""
    return float(_cross(truth, labels).max(axis=0).sum() / len(truth))


def adjusted_rand(truth: Array, labels: Array) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 for equal partitions, 0 expected by chance."""
    table = _cross(truth, labels).astype(float)

    def pairs(counts: Array) -> float:
        return float((counts * (counts - 1) / 2).sum())

    both, rows, columns = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    total = len(truth) * (len(truth) - 1) / 2
    expected, largest = rows * columns / total if total else 0.0, (rows + columns) / 2
    return 1.0 if largest == expected else (both - expected) / (largest - expected)


def normalised_information(truth: Array, labels: Array) -> float:
    """Mutual information over the mean of both entropies; 1 for equal partitions, also for two of a single part."""
    table = _cross(truth, labels) / len(truth)

    def entropy(share: Array) -> float:
        share = share[share > 0]
        return float(-(share * np.log(share)).sum())

    rows, columns = entropy(table.sum(1)), entropy(table.sum(0))
    mean = (rows + columns) / 2
    return 1.0 if mean == 0 else max(0.0, (rows + columns - entropy(table.ravel())) / mean)


def _cross(truth: Array, labels: Array) -> Array:
    """[types, clusters] counts."""
    _, row = np.unique(truth, return_inverse=True)
    _, column = np.unique(labels, return_inverse=True)
    width = int(column.max()) + 1
    return np.bincount(row * width + column, minlength=(int(row.max()) + 1) * width).reshape(-1, width)


def _separate_controls(genes: Array) -> Array:
    return np.where(genes == "", np.char.add("control ", np.arange(len(genes)).astype(str)), genes)
