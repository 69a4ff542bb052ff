"""Whole samples as one methylation value per region: their synthetic twin, mixtures of tissues, and the NNLS baseline.

Source: document 002, file-level model and deconvolution. 765 files of 22 tissues in 51,089 regions, split 455/135/175.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from assay.datasets.card import DatasetIdentity, identify_twin
from assay.datasets.methylation import TISSUES

Array = np.ndarray

DOCUMENTED_SPLIT = {"train": 455, "validation": 135, "test": 175}
BLOOD = TISSUES.index("Blood")
MARKER_SHARE = 0.1
"""Regions that tell one tissue from all others; the other regions look alike in every tissue."""
MISLABELLED = 0.08
"""Samples that carry another tissue's name: no classifier can be right about them but by chance."""
SEED = 20_022

_MARKER, _BACKGROUND = 0.1, 0.85  # methylation of a marker in its own tissue, and in the others
_COVERAGE = (500, 100, 50, 30, 10)  # reads per region of the document's augmentations


@dataclass(frozen=True, slots=True)
class Samples:
    """methylation: float32 [n, regions] in [0, 1]; label: int64 [n]."""

    methylation: Array
    label: Array


@dataclass(frozen=True, slots=True)
class SampleTwin:
    """Three parts of a twin, and the accuracy that its right labels allow on the test part."""

    train: Samples
    validation: Samples
    test: Samples
    best_accuracy: float
    identity: DatasetIdentity


def make_sample_twin(regions: int, *, mislabelled: float = MISLABELLED) -> SampleTwin:
    """Samples of 22 tissues in the documented split. Each region's value is the tissue's, with the noise of 10 to 500 reads."""
    random = np.random.default_rng(SEED)
    profiles = np.tile(random.random(regions, dtype=np.float32), (len(TISSUES), 1))
    markers = random.permutation(regions)[: max(len(TISSUES), round(regions * MARKER_SHARE))]
    profiles[:, markers] = _BACKGROUND
    profiles[np.arange(len(markers)) % len(TISSUES), markers] = _MARKER
    total = sum(DOCUMENTED_SPLIT.values())
    tissue = random.permutation(np.arange(total) % len(TISSUES))
    coverage = random.choice(_COVERAGE, total)
    values = profiles[tissue]
    for row, reads in enumerate(coverage):  # row by row: no second array of this size
        share = values[row]
        values[row] = share + np.sqrt(share * (1 - share) / reads) * random.standard_normal(regions, dtype=np.float32)
    np.clip(values, 0, 1, out=values)
    wrong = random.random(total) < mislabelled
    label = np.where(wrong, (tissue + random.integers(1, len(TISSUES), total)) % len(TISSUES), tissue)
    edges = np.cumsum([0, *DOCUMENTED_SPLIT.values()])
    train, validation, test = (Samples(values[start:stop], label[start:stop]) for start, stop in pairwise(edges))
    return SampleTwin(train, validation, test, float(1 - wrong[edges[2] :].mean()), identify_sample_twin(regions, mislabelled=mislabelled))


def identify_sample_twin(regions: int, *, mislabelled: float = MISLABELLED) -> DatasetIdentity:
    """Identity of the twin of a size, without drawing it."""
    return identify_twin("tissue-samples-twin", regions=regions, split=DOCUMENTED_SPLIT, markers=MARKER_SHARE, mislabelled=mislabelled, seed=SEED)


class Stage(StrEnum):
    """What the mixtures of a stage of deconvolution hold."""

    TWO_TISSUES = "two-tissues"  # 50/50 to 80/20; one in five is pure
    SEVERAL = "several"  # 3 to 5 tissues, Dirichlet 2
    BLOOD = "blood"  # 60 to 90 % blood and 2 to 6 others, Dirichlet 0.5; one in ten is pure
    BLOOD_MASKED = "blood-masked"  # the same without pure ones, of which the 21 others are to be told


def draw_proportions(stage: Stage, n: int, seed: int) -> Array:
    """float32 [n, 22] shares of the tissues, each row summing to 1."""
    random = np.random.default_rng(seed)
    shares = np.zeros((n, len(TISSUES)))
    for row in shares:
        match stage:
            case Stage.TWO_TISSUES:
                major = 1.0 if random.random() < 0.2 else random.uniform(0.5, 0.8)
                row[random.choice(len(TISSUES), 2, replace=False)] = major, 1 - major
            case Stage.SEVERAL:
                chosen = random.choice(len(TISSUES), random.integers(3, 6), replace=False)
                row[chosen] = random.dirichlet([2.0] * len(chosen))
            case Stage.BLOOD | Stage.BLOOD_MASKED:
                if stage is Stage.BLOOD and random.random() < 0.1:
                    row[random.integers(len(TISSUES))] = 1.0
                    continue
                others = random.choice(np.delete(np.arange(len(TISSUES)), BLOOD), random.integers(2, 7), replace=False)
                row[BLOOD] = random.uniform(0.6, 0.9)
                row[others] = (1 - row[BLOOD]) * random.dirichlet([0.5] * len(others))
    return shares.astype(np.float32)


def mask_blood(shares: Array) -> Array:
    """[n, 22] -> [n, 21] shares of the other tissues, each row summing to 1; a row of blood alone becomes even."""
    others = np.delete(shares, BLOOD, axis=1)
    total = others.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, others / np.where(total > 0, total, 1), 1 / others.shape[1]), dtype=shares.dtype)


def mix(samples: Samples, shares: Array, seed: int) -> Array:
    """float32 [n, regions] mixtures: of each tissue one sample at random, weighted by its share [n, 22]."""
    random = np.random.default_rng(seed)
    weights = np.zeros((len(shares), len(samples.label)), dtype=np.float32)
    for tissue in range(len(TISSUES)):
        members = np.flatnonzero(samples.label == tissue)
        weights[np.arange(len(shares)), random.choice(members, len(shares))] = shares[:, tissue]
    return np.asarray(weights @ samples.methylation)


def solve_nnls(samples: Samples, mixtures: Array) -> Array:
    """float64 [n, 22] shares by non-negative least squares against the tissues' mean profiles, divided by their sum.

    One QR decomposition of the profiles shrinks every problem from [regions, 22] to [22, 22] without changing its solution.
    """
    from scipy.optimize import nnls  # here: every process of a TissueBERT case imports this module

    profiles = np.stack([samples.methylation[samples.label == tissue].mean(axis=0) for tissue in range(len(TISSUES))]).astype(np.float64)
    orthogonal, triangle = np.linalg.qr(profiles.T)
    shares = np.stack([nnls(triangle, row)[0] for row in mixtures @ orthogonal])
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), np.finfo(float).tiny))


def list_absent(label: Array) -> Sequence[str]:
    """Tissues of which there is no sample."""
    return [name for number, name in enumerate(TISSUES) if number not in set(label.tolist())]
