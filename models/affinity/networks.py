"""The two fully connected networks of the affinity study: 150 sequence features -> pKd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from assay.datasets.abag import FEATURES


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Widths and kinds of layers. Each hidden layer is Linear, BatchNorm, activation, Dropout; the output is one Linear."""

    hidden: tuple[int, ...]
    dropout: tuple[float, ...]  # one share per hidden layer
    activation: Literal["relu", "gelu"]
    initialisation: Literal["torch-default", "xavier"]  # xavier: uniform weights, zero biases; torch-default: Linear's own


V1_SHAPE = NetworkShape(hidden=(256, 128), dropout=(0.3, 0.3), activation="relu", initialisation="torch-default")
V2_SHAPE = NetworkShape(hidden=(512, 256, 128, 64), dropout=(0.3, 0.3, 0.3, 0.15), activation="gelu", initialisation="xavier")


class AffinityNetwork(nn.Module):
    """[B, 150] float features -> [B] pKd. V1_SHAPE has 72,449 parameters, V2_SHAPE 251,777 (document 004, Deeper Architecture)."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = FEATURES
        for hidden, dropout in zip(shape.hidden, shape.dropout, strict=True):
            activation = nn.GELU() if shape.activation == "gelu" else nn.ReLU()
            layers += [nn.Linear(width, hidden), nn.BatchNorm1d(hidden), activation, nn.Dropout(dropout)]
            width = hidden
        layers.append(nn.Linear(width, 1))
        self.layers = nn.Sequential(*layers)
        if shape.initialisation == "xavier":
            self._initialise_xavier()

    def forward(self, features: Tensor) -> Tensor:
        """[B, 150] -> [B]."""
        prediction: Tensor = self.layers(features)
        return prediction.squeeze(-1)

    def _initialise_xavier(self) -> None:
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)


def count_parameters(network: nn.Module, kind: type[nn.Module] = nn.Module) -> int:
    """Trainable numbers in the network, or in its layers of one kind only."""
    owned = {id(p): p.numel() for layer in network.modules() if isinstance(layer, kind) for p in layer.parameters() if p.requires_grad}
    return sum(owned.values())
