"""How good reconstruction and clusters are: error per frequency in dB, separation, agreement with known types, enrichment of genes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from bench.case import Quantity
from datasets.audiograms import FREQUENCIES
from models.audiogram.clustering import SILHOUETTE_SAMPLE, measure_silhouette
from models.metrics import Metric, compute_mae, compute_rmse, score_with_intervals

Array = np.ndarray
SMALLEST_CLUSTER = 0.01  # share of the mice below which a cluster does not count as found
FALSE_DISCOVERY_RATE = 0.05


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


def score_clusters(labels: Array, points: Array, genes: Array, types: Array | None, prefix: str = "") -> dict[str, Quantity]:
    """clusters_found, silhouette, purity, ari, nmi, genes_enriched and gene_enrichment_share; every name starts with `prefix`.

    labels: [n] cluster of each mouse; points: [n, d] where the silhouette is taken; genes: [n], empty for controls; types: [n] planted
    truth, None where nobody knows it. Intervals of purity, ari and nmi resample genes.
    """
    labels = np.asarray(labels, dtype=np.int64)
    shares = np.bincount(labels) / len(labels)
    found = int((shares >= SMALLEST_CLUSTER).sum())
    scores = {"clusters_found": Quantity(found, "clusters", len(labels), how=f"clusters with at least {SMALLEST_CLUSTER:.0%} of the test mice")}
    silhouette = measure_silhouette(torch.from_numpy(points), torch.from_numpy(labels))
    rows = min(len(labels), SILHOUETTE_SAMPLE)
    if silhouette is None:
        scores["silhouette"] = Quantity.missing("1", "all test mice are in one cluster")
    else:
        scores["silhouette"] = Quantity(silhouette, "1", rows, how=f"mean over {rows} test mice, in the space that was clustered")
    agreement = [Metric("purity", "share", purity), Metric("ari", "1", adjusted_rand), Metric("nmi", "1", normalised_information)]
    if types is None:
        scores |= {metric.name: Quantity.missing(metric.unit, "the true audiogram types of real mice are not known") for metric in agreement}
    else:
        scores |= score_with_intervals(agreement, types.astype(np.int64), labels, _separate_controls(genes))
    scores |= score_enrichment(labels, genes)
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


@dataclass(frozen=True, slots=True)
class Enrichment:
    """Every gene with at least two mice against every cluster."""

    genes: Array  # [pairs] symbols
    clusters: Array  # [pairs]
    p: Array  # [pairs] hypergeometric probability of at least so many of the gene's mice in the cluster
    q: Array  # [pairs] Benjamini-Hochberg over all pairs

    @property
    def enriched(self) -> Array:
        """Symbols of the genes that are enriched in some cluster at a false discovery rate of 5 %."""
        return np.unique(self.genes[self.q <= FALSE_DISCOVERY_RATE])


def find_enrichment(labels: Array, genes: Array) -> Enrichment:
    """One-sided hypergeometric test of each gene in each cluster, corrected for all tests (Benjamini and Hochberg 1995).

    labels: [n] clusters; genes: [n] symbols, empty for controls, which count in the clusters' sizes but are not tested.
    """
    names, member, counts = np.unique(genes, return_inverse=True, return_counts=True)
    clusters, column = np.unique(labels, return_inverse=True)
    table = np.bincount(member * len(clusters) + column, minlength=len(names) * len(clusters)).reshape(-1, len(clusters))
    tested = np.flatnonzero((counts >= 2) & (names != ""))
    sizes = table.sum(axis=0)
    log_choose = _make_log_choose(len(labels))
    p = np.array([[_tail(log_choose, int(table[g, c]), len(labels), int(counts[g]), int(sizes[c])) for c in range(len(clusters))] for g in tested])
    p = p.reshape(-1)
    return Enrichment(np.repeat(names[tested], len(clusters)), np.tile(clusters, len(tested)), p, adjust_false_discovery(p))


def score_enrichment(labels: Array, genes: Array) -> dict[str, Quantity]:
    """genes_enriched and gene_enrichment_share, of the genes with at least two test mice."""
    result = find_enrichment(labels, genes)
    tested = len(np.unique(result.genes))
    if not tested:
        reason = "no gene has two test mice"
        return {"genes_enriched": Quantity.missing("genes", reason), "gene_enrichment_share": Quantity.missing("share", reason)}
    how = f"hypergeometric, Benjamini-Hochberg q <= {FALSE_DISCOVERY_RATE:g} over {len(result.p)} pairs of gene and cluster"
    count = len(result.enriched)
    return {"genes_enriched": Quantity(count, "genes", tested, how=how), "gene_enrichment_share": Quantity(count / tested, "share", tested, how=how)}


def adjust_false_discovery(p: Array) -> Array:
    """Benjamini-Hochberg q values [m] of p values [m], in their order."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(scaled)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return q


def _make_log_choose(n: int) -> Callable[[int, int], float]:
    factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, n + 1)))]  # not scipy.special: its import costs more than a smoke evaluation
    return lambda total, part: float(factorial[total] - factorial[part] - factorial[total - part])


def _tail(log_choose: Callable[[int, int], float], hits: int, n: int, gene: int, cluster: int) -> float:
    """P(at least `hits` of a gene's mice in a cluster) when the cluster is a random draw from n mice."""
    smallest, largest = max(0, gene + cluster - n), min(gene, cluster)
    if hits <= smallest:
        return 1.0
    whole = log_choose(n, cluster)
    terms = [np.exp(log_choose(gene, k) + log_choose(n - gene, cluster - k) - whole) for k in range(hits, largest + 1)]
    return float(min(1.0, sum(terms)))


def _separate_controls(genes: Array) -> Array:
    return np.where(genes == "", np.char.add("control ", np.arange(len(genes)).astype(str)), genes)
