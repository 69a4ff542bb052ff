"""Paired networks: reference and alternative pass the same encoder and their difference gives a delta at every position.

Source: document 001, SimpleCNNDeltaPredictor and its four calibrations. Sequences float32 [B, L, 4]; deltas [B, L, 2] for donor
and acceptor.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.models.splice.encoder import KERNEL, DilatedConvolution

DROPOUT = 0.1
TAUS = (0.1, 0.5, 0.9)
REPORTED_TAU = 0.9
CLASSIFICATION_WEIGHT = 0.3
SCAN = 50
"""Nucleotides on either side of the variant among which its delta is read."""


class DilatedResidualBlock(nn.Module):
    """Two dilated convolutions, each normalised, gated by a linear layer, and added to the block's input."""

    def __init__(self, hidden: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = DilatedConvolution(hidden, hidden, KERNEL, dilation)
        self.conv2 = DilatedConvolution(hidden, hidden, KERNEL, dilation)
        self.norm1 = nn.LayerNorm(hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(DROPOUT)
        self.gate = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, hidden] -> [B, L, hidden]."""
        y: Tensor = self.dropout(F.gelu(self.norm1(self.conv1(x))))
        y = self.dropout(self.norm2(self.conv2(y)))
        return x + y * torch.sigmoid(self.gate(y))


class SiameseEncoder(nn.Module):
    """Alternative minus reference features. Dilation 1, 2, 4, 1, ..."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(4, hidden, 1)
        self.blocks = nn.ModuleList(DilatedResidualBlock(hidden, 2 ** (layer % 3)) for layer in range(layers))

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        """-> [B, L, hidden]."""
        x = torch.cat([reference, alternative])  # one pass of twice the batch
        x = F.linear(x, self.embed.weight.squeeze(-1), self.embed.bias)
        for block in self.blocks:
            x = block(x)
        before, after = x.chunk(2)
        return after - before


class SimpleCNNDeltaPredictor(nn.Module):
    """Deltas per position. 3,070,210 parameters at 128 x 6."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__()
        self.encoder = SiameseEncoder(hidden, layers)
        self.delta_head = _make_delta_head(hidden)

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        """-> [B, L, 2]."""
        deltas: Tensor = self.delta_head(self.encoder(reference, alternative))
        return deltas


class ScaledDeltaPredictor(SimpleCNNDeltaPredictor):
    """Deltas times a learned factor that starts at 2.5."""

    def __init__(self, hidden: int = 128, layers: int = 6, initial: float = 2.5) -> None:
        super().__init__(hidden, layers)
        self.scale = nn.Parameter(torch.tensor(initial))

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        return super().forward(reference, alternative) * self.scale


class TemperatureDeltaPredictor(SimpleCNNDeltaPredictor):
    """Deltas divided by a learned positive temperature, exp(log T), that starts at 0.5."""

    def __init__(self, hidden: int = 128, layers: int = 6, initial: float = 0.5) -> None:
        super().__init__(hidden, layers)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(initial)))

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        return super().forward(reference, alternative) / self.log_temperature.exp()


class QuantileDeltaPredictor(nn.Module):
    """One linear head per quantile."""

    def __init__(self, hidden: int = 128, layers: int = 6, taus: tuple[float, ...] = TAUS) -> None:
        super().__init__()
        self.encoder = SiameseEncoder(hidden, layers)
        self.heads = nn.ModuleList(nn.Linear(hidden, 2) for _ in taus)

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        """-> [taus, B, L, 2]."""
        difference = self.encoder(reference, alternative)
        return torch.stack([head(difference) for head in self.heads])


class HybridDeltaPredictor(nn.Module):
    """A regression head per position and a classification head on the mean over positions."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__()
        self.encoder = SiameseEncoder(hidden, layers)
        self.classifier = nn.Sequential(nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(hidden // 2, 1))
        self.regressor = _make_delta_head(hidden)

    def forward(self, reference: Tensor, alternative: Tensor) -> tuple[Tensor, Tensor]:
        """-> (deltas [B, L, 2], logits of Splice-altering [B])."""
        difference = self.encoder(reference, alternative)
        return self.regressor(difference), self.classifier(difference.mean(dim=1)).squeeze(-1)


def read_out(deltas: Tensor, position: Tensor) -> Tensor:
    """The variant's delta: the one of largest |donor| + |acceptor| within 50 nt of it, as the targets were read from the base model.

    deltas: [B, L, 2]; position: int64 [B] of the variant. -> [B, 2].
    """
    length = deltas.shape[1]
    nearby = (position[:, None] + torch.arange(-SCAN, SCAN + 1, device=deltas.device)).clamp(0, length - 1)
    found = deltas.gather(1, nearby[:, :, None].expand(-1, -1, 2))
    largest = found.detach().abs().sum(dim=-1).argmax(dim=1)
    return found[torch.arange(len(found), device=deltas.device), largest]


def pinball_loss(prediction: Tensor, target: Tensor, tau: float) -> Tensor:
    """Mean of max(tau * e, (tau - 1) * e) with e = target - prediction."""
    error = target - prediction
    return torch.maximum(tau * error, (tau - 1) * error).mean()


def _make_delta_head(hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(hidden, 2))
