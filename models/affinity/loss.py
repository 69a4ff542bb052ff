"""Affinity bins, class weights and the two losses, exactly as the origin's training code has them.

Two conventions meet here, and both are kept because the documented numbers were made with them: bins are *counted* with their upper
edge inside (pandas.cut, lowest edge included), but a row *gets* its bin's weight with the lower edge inside. A pKd of exactly 7.0 is
counted as weak and weighted as moderate. Rows outside every bin weigh 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from assay.datasets.abag import BIN_EDGES, BIN_NAMES, assign_bins

Array = np.ndarray
EXTREMES = ("very_weak", "very_strong")


def compute_class_weights(pkd: Array, extreme_factor: float) -> Array:
    """[5] weights N / (5 x rows in the bin), the two extreme bins times `extreme_factor` (1 in v1, 10 in v2).

    pkd: [n], the training split's; N counts all its rows, those outside every bin too.

    A bin without training rows weighs 1, like a row outside every bin: the formula would divide by zero, and one validation row
    there would make every validation loss infinite.
    """
    bins = assign_bins(pkd)
    counts = np.bincount(bins[bins >= 0], minlength=len(BIN_NAMES))
    factor = np.array([extreme_factor if name in EXTREMES else 1.0 for name in BIN_NAMES])
    return np.where(counts > 0, factor * len(pkd) / (len(BIN_NAMES) * np.maximum(counts, 1)), 1.0)


def weigh_rows(pkd: Tensor, class_weights: Array) -> Tensor:
    """[n] float32 weight of each row: its bin's, lower edge inside, upper edge outside; 1 outside every bin. pkd: [n] float32."""
    padded = torch.tensor([1.0, *class_weights.tolist(), 1.0], dtype=torch.float32)
    return padded[torch.bucketize(pkd, torch.tensor(BIN_EDGES, dtype=torch.float32), right=True)]


def weighted_mse(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of w x (prediction - target)^2; all [B] (document 004, v1)."""
    return (weight * (prediction - target) ** 2).mean()


def focal_mse(prediction: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0) -> Tensor:
    """Mean over the batch of w x e x (1 + e^(gamma/2)) with e = (prediction - target)^2; all [B] (document 004, v2).

    With gamma 2 this is w x (e + e^2): every row keeps its squared error and hard rows gain their fourth power.
    """
    squared = (prediction - target) ** 2
    return (weight * squared * (1 + squared ** (gamma / 2))).mean()
