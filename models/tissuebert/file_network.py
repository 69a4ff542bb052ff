"""The file-level network: one methylation value per region of a whole sample (document 002, final model and deconvolution)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from assay.datasets.methylation_twin import DOCUMENTED_REGIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShape:
    """Sizes; 51,089 regions, 22 classes and a bottleneck of 2,048 give 27,785,238 parameters, of 1,024 give 27,235,350."""

    regions: int = DOCUMENTED_REGIONS
    hidden: int = 512
    blocks: int = 2
    bottleneck: int = 2048  # of the configuration file; the code's default is 1024
    classes: int = 22
    dropout: float = 0.1


class FileNetwork(nn.Sequential):
    """[B, regions] methylation in [0, 1] -> [B, classes] logits."""

    def __init__(self, shape: FileShape) -> None:
        layers: list[nn.Module] = [nn.Linear(shape.regions, shape.hidden)]
        widths = [shape.hidden] * (shape.blocks + 1) + [shape.bottleneck]
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(), nn.Dropout(shape.dropout)]
        super().__init__(*layers, nn.Linear(shape.bottleneck, shape.classes))


def to_proportions(logits: Tensor) -> Tensor:
    """[B, classes] logits -> proportions that sum to 1: a sigmoid each, divided by their sum."""
    shares = torch.sigmoid(logits)
    return shares / shares.sum(dim=-1, keepdim=True)
