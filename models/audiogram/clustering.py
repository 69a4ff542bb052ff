"""K-means on the device, four criteria for the number of clusters, and the median rule of document 003."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CANDIDATES = range(6, 19)
RESTARTS = 10
SEED = 42
MAX_ITERATIONS = 300
TOLERANCE = 1e-4  # of the mean variance of a column: centres that move less have settled
SILHOUETTE_SAMPLE = 5_000  # mice; all pairs of 45,000 would take 8 GB


@dataclass(frozen=True, slots=True)
class KMeans:
    """The best of several restarts."""

    centres: Tensor  # [K, d]
    labels: Tensor  # [n]
    inertia: float  # sum of squared distances to the own centre


@dataclass(frozen=True, slots=True)
class Search:
    """What each criterion says of each number of clusters, whom it votes for, and the choice."""

    curves: Mapping[str, list[float]]  # clusters, silhouette, davies_bouldin, calinski_harabasz, inertia
    votes: Mapping[str, int]
    choice: int
    fit: KMeans  # of the choice


def fit_kmeans(points: Tensor, clusters: int, restarts: int = RESTARTS, seed: int = SEED) -> KMeans:
    """The best of several runs of Lloyd's algorithm from k-means++ starts. points: [n, d] with n >= clusters.

    Raises ValueError for fewer points than clusters. A cluster that loses all its points keeps its centre.
    """
    if len(points) < clusters:
        raise ValueError(f"{len(points)} points cannot form {clusters} clusters")
    points = points.double()
    tolerance = TOLERANCE * float(points.var(0, unbiased=False).mean())
    # one after the other: a start that settles early costs no further steps
    return min((_descend(points, start, tolerance) for start in _start(points, clusters, restarts, seed)), key=lambda fit: fit.inertia)


def _descend(points: Tensor, centres: Tensor, tolerance: float) -> KMeans:
    """Lloyd's algorithm from centres [K, d]."""
    for _ in range(MAX_ITERATIONS):
        one_hot = points.new_zeros(len(points), len(centres)).scatter_(1, _find_nearest(points, centres)[:, None], 1.0)
        count = one_hot.sum(0)[:, None]
        moved = torch.where(count > 0, one_hot.T @ points / count.clamp(min=1), centres)
        shift = float(((moved - centres) ** 2).sum())
        centres = moved
        if shift <= tolerance:
            break
    labels = _find_nearest(points, centres)
    return KMeans(centres, labels, float(((points - centres[labels]) ** 2).sum()))


def _find_nearest(points: Tensor, centres: Tensor) -> Tensor:
    """[n] the nearest centre; a point's own norm does not matter for that."""
    return torch.addmm((centres**2).sum(1) / 2, points, centres.T, alpha=-1).argmin(1)


def _squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """[R, n, K] for points [n, d] and centres [R, K, d]."""
    cross = points @ centres.transpose(1, 2)
    return ((points**2).sum(1)[None, :, None] - 2 * cross + (centres**2).sum(2)[:, None]).clamp(min=0)


def _start(points: Tensor, clusters: int, restarts: int, seed: int) -> Tensor:
    """[R, K, d] k-means++: each centre is a point drawn with probability proportional to its squared distance from those before."""
    # drawn on the CPU: the same starts on every device
    draws = torch.rand(restarts, clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(points.device)
    chosen = points[(draws[:, 0] * len(points)).long()][:, None]
    nearest = _squared_distances(points, chosen)[..., 0]  # [R, n]
    for step in range(1, clusters):
        mass = nearest.cumsum(1)
        picked = torch.searchsorted(mass, draws[:, step, None] * mass[:, -1:], right=True).clamp(max=len(points) - 1)
        centre = points[picked[:, 0]][:, None]
        chosen = torch.cat([chosen, centre], dim=1)
        nearest = torch.minimum(nearest, _squared_distances(points, centre)[..., 0])
    return chosen


def measure_silhouette(points: Tensor, labels: Tensor, sample: int = SILHOUETTE_SAMPLE, seed: int = SEED) -> float | None:
    """Mean silhouette (Rousseeuw 1987) of at most `sample` points drawn by `seed`; None where they are all of one cluster."""
    if len(points) > sample:
        drawn = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))[:sample].to(points.device)
        points, labels = points[drawn], labels[drawn]
    member, count = _number(labels)
    if len(count) < 2 or len(count) >= len(points):
        return None
    one_hot = torch.nn.functional.one_hot(member, len(count)).double()
    points = points.double()
    total = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") @ one_hot  # [n, K] sum of distances to each cluster
    own = (total * one_hot).sum(1) / (count[member] - 1).clamp(min=1)
    other = (total / count).masked_fill(one_hot.bool(), torch.inf).amin(1)
    width = (other - own) / torch.maximum(other, own).clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.where(count[member] > 1, width, 0.0).mean())


def measure_davies_bouldin(points: Tensor, labels: Tensor) -> float:
    """Davies-Bouldin index: mean over clusters of the worst ratio of scatter to separation; lower is better."""
    centres, count, spread, member = _summarise(points, labels)
    scatter = torch.zeros_like(count, dtype=torch.float64).index_add_(0, member, spread.sqrt()) / count
    apart = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    return float(((scatter[:, None] + scatter[None]) / apart).amax(1).mean())


def measure_calinski_harabasz(points: Tensor, labels: Tensor) -> float:
    """Calinski-Harabasz index: between-cluster over within-cluster variance; higher is better, infinite without any spread."""
    centres, count, spread, _ = _summarise(points, labels)
    between = float((count * ((centres - points.double().mean(0)) ** 2).sum(1)).sum())
    within = float(spread.sum())
    return between * (len(points) - len(count)) / (within * (len(count) - 1)) if within else float("inf")


def _number(labels: Tensor) -> tuple[Tensor, Tensor]:
    """[n] labels counted from 0 without gaps, and [K] how often each occurs."""
    found, member = torch.unique(labels, return_inverse=True)
    return member, torch.bincount(member, minlength=len(found))


def _summarise(points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    points = points.double()
    member, count = _number(labels)
    if len(count) < 2:
        raise ValueError("an index of separation needs at least two clusters")
    centres = torch.zeros(len(count), points.shape[1], dtype=points.dtype, device=points.device).index_add_(0, member, points) / count[:, None]
    return centres, count, ((points - centres[member]) ** 2).sum(1), member


def find_elbow(clusters: list[float], inertia: list[float]) -> int:
    """Number of clusters where the inertia curve lies farthest below the line from its first to its last point (both axes scaled to 1)."""
    x, y = np.array(clusters, dtype=float), np.array(inertia, dtype=float)
    drop = y[0] - y[-1]
    below = 1 - (x - x[0]) / (x[-1] - x[0]) - (y - y[-1]) / (drop or 1.0)
    return int(x[below.argmax()])


def take_median(votes: Mapping[str, int]) -> int:
    """The documented rule: the median vote, rounded down (18, 15, 10 and 6 give 12)."""
    return int(np.median(list(votes.values())))


def search_clusters(points: Tensor, restarts: int = RESTARTS, tell: Callable[[int], None] = lambda _: None) -> Search:
    """K-means for 6 to 18 clusters; `tell` hears each number before its turn. points: [n, d], more than 18 of them."""
    fits: dict[int, KMeans] = {}
    curves: dict[str, list[float]] = {name: [] for name in ("clusters", "silhouette", "davies_bouldin", "calinski_harabasz", "inertia")}
    for clusters in CANDIDATES:
        tell(clusters)
        fit = fits[clusters] = fit_kmeans(points, clusters, restarts)
        silhouette = measure_silhouette(points, fit.labels)
        if silhouette is None:
            raise ValueError(f"k-means with {clusters} clusters puts all mice in one: the latent space has collapsed to a point")
        curves["clusters"].append(float(clusters))
        curves["silhouette"].append(silhouette)
        curves["davies_bouldin"].append(measure_davies_bouldin(points, fit.labels))
        curves["calinski_harabasz"].append(measure_calinski_harabasz(points, fit.labels))
        curves["inertia"].append(fit.inertia)
    candidates = [int(k) for k in curves["clusters"]]
    votes = {
        "silhouette": candidates[int(np.argmax(curves["silhouette"]))],
        "davies_bouldin": candidates[int(np.argmin(curves["davies_bouldin"]))],
        "calinski_harabasz": candidates[int(np.argmax(curves["calinski_harabasz"]))],
        "elbow": find_elbow(curves["clusters"], curves["inertia"]),
    }
    choice = take_median(votes)
    return Search(curves, votes, choice, fits[choice])
