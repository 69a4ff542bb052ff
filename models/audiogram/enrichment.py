"""Which knocked-out genes gather in which cluster: hypergeometric tests with a bound on false discoveries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from assay.bench.case import Quantity

Array = np.ndarray
FALSE_DISCOVERY_RATE = 0.05


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


def score_enrichment(labels: Array, genes: Array, mice: str) -> dict[str, Quantity]:
    """genes_enriched and gene_enrichment_share, of the genes with at least two mice; mice: which ones, for `how` and reason."""
    result = find_enrichment(labels, genes)
    tested = len(np.unique(result.genes))
    if not tested:
        reason = f"no gene has two {mice}"
        return {"genes_enriched": Quantity.missing("genes", reason), "gene_enrichment_share": Quantity.missing("share", reason)}
    how = f"hypergeometric over {mice}, Benjamini-Hochberg q <= {FALSE_DISCOVERY_RATE:g} over {len(result.p)} pairs of gene and cluster"
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
