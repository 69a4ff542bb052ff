"""Single-pass networks: they read the alternative sequence and the two bases of the variant.

Source: document 001, ValidatedDeltaPredictor and splice classifiers. Inputs everywhere: sequence float32 [B, L, 4] and bases
float32 [B, 2, 4], the reference base and the alternative base.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from assay.models.splice.encoder import AttentionPooling, GatedEncoder, VariantEmbedding

DROPOUT = 0.1
EFFECTS = 6


class ValidatedDeltaPredictor(nn.Module):
    """Signed delta scores of donor, acceptor and neither. 3,011,843 parameters at 128 x 6, 15,970,819 at 256 x 8."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__()
        self.encoder = GatedEncoder(hidden, layers, DROPOUT)
        self.variant_embed = VariantEmbedding(hidden, DROPOUT)
        self.delta_head = nn.Sequential(
            nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 3)
        )

    def forward(self, sequence: Tensor, bases: Tensor) -> Tensor:
        """-> [B, 3]."""
        pooled = self.encoder(sequence).mean(dim=1)
        delta: Tensor = self.delta_head(torch.cat([pooled, self.variant_embed(bases)], dim=-1))
        return delta


class ValidatedDeltaPredictorWithAttention(nn.Module):
    """The same with position attention for pooling and a shorter head. 3,012,100 parameters at 128 x 6."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__()
        self.encoder = GatedEncoder(hidden, layers, DROPOUT)
        self.pooling = AttentionPooling(hidden)
        self.variant_embed = VariantEmbedding(hidden, DROPOUT)
        self.delta_head = _make_head(hidden, 3)

    def forward(self, sequence: Tensor, bases: Tensor) -> tuple[Tensor, Tensor]:
        """-> (deltas [B, 3], attention [B, L])."""
        pooled, attention = self.pooling(self.encoder(sequence))
        return self.delta_head(torch.cat([pooled, self.variant_embed(bases)], dim=-1)), attention


class PooledClassifier(nn.Module):
    """Encoder with a projection after pooling, variant embedding, and a head of `outputs` logits."""

    def __init__(self, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        self.encoder = GatedEncoder(hidden, layers, DROPOUT)
        self.projection = nn.Linear(hidden, hidden)
        self.variant_embed = VariantEmbedding(hidden, DROPOUT)
        self.classifier = _make_head(hidden, outputs)

    def forward(self, sequence: Tensor, bases: Tensor) -> Tensor:
        """-> logits [B, outputs]."""
        pooled = self.projection(self.encoder(sequence).mean(dim=1))
        logits: Tensor = self.classifier(torch.cat([pooled, self.variant_embed(bases)], dim=-1))
        return logits


class SpliceInducingClassifier(PooledClassifier):
    """One logit; its sigmoid is the probability of Splice-altering. 3,020,033 parameters at 128 x 6, 16,003,585 at 256 x 8."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__(hidden, layers, outputs=1)


class EffectTypeClassifier(PooledClassifier):
    """Six logits in the order of assay.datasets.splice_variants.Effect."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__(hidden, layers, outputs=EFFECTS)


class UnifiedSpliceClassifier(nn.Module):
    """Attention pooling with a linear head for Splice-altering and one for the six effect types."""

    def __init__(self, hidden: int = 128, layers: int = 6) -> None:
        super().__init__()
        self.encoder = GatedEncoder(hidden, layers, DROPOUT)
        self.pooling = AttentionPooling(hidden)
        self.variant_embed = VariantEmbedding(hidden, DROPOUT)
        self.binary_head = nn.Linear(2 * hidden, 1)
        self.effect_head = nn.Linear(2 * hidden, EFFECTS)

    def forward(self, sequence: Tensor, bases: Tensor) -> Tensor:
        """-> logits [B, 7]: Splice-altering, then the effect types."""
        pooled, _ = self.pooling(self.encoder(sequence))
        joined = torch.cat([pooled, self.variant_embed(bases)], dim=-1)
        return torch.cat([self.binary_head(joined), self.effect_head(joined)], dim=-1)


def _make_head(hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(hidden, outputs))
