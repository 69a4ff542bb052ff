"""Splice predictors on a HyenaDNA backbone: three deltas or one logit, or two deltas per position.

Source: document 001 and the origin's experiment log. HyenaDNAValidatedDelta and HyenaDNABinaryClassifier read base codes uint8 [B, L]
of the alternative sequence and uint8 [B, 2] of the variant's two bases; HyenaDNADeltaPredictor the reference and the alternative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from assay.models.hyenadna.network import HyenaConfig, HyenaDNA, pool_mean, train_last
from assay.models.hyenadna.tokens import encode_codes
from assay.models.splice.encoder import BaseEncoding, VariantEmbedding

HIDDEN = 256
DROPOUT = 0.1


def make_delta_head() -> nn.Sequential:
    """512 -> 256 -> 128 -> 3 with ReLU; dropout as in the gated CNN's delta head."""
    return nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, HIDDEN // 2), nn.ReLU(), nn.Linear(HIDDEN // 2, 3))


def make_paired_head() -> nn.Sequential:
    """256 -> 256 with ReLU -> 2, at every position."""
    return nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))


def make_binary_head() -> nn.Sequential:
    """512 -> 256 with LayerNorm and ReLU -> 1. With projection and variant embedding 265,985 parameters at width 256."""
    return nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1))


class HyenaEncoded(nn.Module):
    """The backbone, the projection of its hidden states to 256, and which of its blocks learn.

    trained_layers: how many of the last blocks learn (None: the whole backbone, 0: none of it); encoder_rate: factor of the learning
    rate below the head. A frozen backbone also stays in evaluation mode: its embedding dropout would only blur what it tells the head.
    """

    def __init__(
        self,
        config: HyenaConfig,
        *,
        trained_layers: int | None,
        encoder_rate: float = 1.0,
        special_tokens: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = HyenaDNA(config, checkpointing=checkpointing)
        self.projection = nn.Linear(config.width, HIDDEN)
        self.encoder_rate, self.special_tokens, self.frozen = encoder_rate, special_tokens, trained_layers == 0
        train_last(self.backbone, trained_layers)

    def encode(self, codes: Tensor) -> Tensor:
        """Base codes uint8 [B, L] -> [B, L, d], or two longer with special tokens."""
        hidden: Tensor = self.backbone(encode_codes(codes, special_tokens=self.special_tokens))
        return hidden

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002  # torch's signature
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def group_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Implements assay.models.training.Grouped: backbone and head at their own rates, frozen weights in neither group."""
        inside = {id(p) for p in self.backbone.parameters()}
        encoder = [p for p in self.parameters() if p.requires_grad and id(p) in inside]
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in inside]
        groups = [{"params": encoder, "lr": learning_rate * self.encoder_rate}, {"params": rest, "lr": learning_rate}]
        return [group for group in groups if group["params"]]


class HyenaPredictor(HyenaEncoded):
    """Mean of the backbone's last hidden states, projected to 256, beside the variant's embedding, into a head."""

    def __init__(self, config: HyenaConfig, make_head: Callable[[], nn.Module], **encoder: Any) -> None:
        super().__init__(config, **encoder)
        self.bases = BaseEncoding(n_as_a=False)
        self.variant_embed = VariantEmbedding(HIDDEN, DROPOUT)
        self.head = make_head()

    def forward(self, codes: Tensor, bases: Tensor) -> Tensor:
        """-> [B, outputs of the head]."""
        joined = torch.cat([self.projection(pool_mean(self.encode(codes))), self.variant_embed(self.bases(bases))], dim=-1)
        output: Tensor = self.head(joined)
        return output


class PairedHyenaPredictor(HyenaEncoded):
    """Two deltas per position from the difference of the alternative's and the reference's projected hidden states.

    Source: document 001, HyenaDNADeltaPredictor, whose silent fall-back to a plain CNN is not taken over.
    """

    def __init__(self, config: HyenaConfig, make_head: Callable[[], nn.Module], **encoder: Any) -> None:
        super().__init__(config, **encoder)
        self.head = make_head()

    def forward(self, reference: Tensor, alternative: Tensor) -> Tensor:
        """Base codes uint8 [B, L] twice -> [B, L, 2]."""
        hidden = self.projection(self.encode(torch.cat([reference, alternative])))
        before, after = hidden.chunk(2)
        deltas: Tensor = self.head(after - before)
        return deltas
