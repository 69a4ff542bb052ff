"""The region-level model: DNA and methylation embedded side by side (document 002, step 3; abandoned there at about 6 % accuracy)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.datasets.methylation import NO_CPG, PAD, TOKENS, VOCABULARY
from assay.models.tissuebert.bert import EPSILON, check_length


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionShape:
    """Sizes of the region-level model; 22 classes give 17,852,694 parameters."""

    hidden: int = 512
    layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    head: int = 256
    classes: int = 22
    dropout: float = 0.1
    cpg_dropout: float = 0.05  # share of states that training hides


class RegionNetwork(nn.Module):
    """Tokens and states [B, L], L <= 150 -> logits [B, classes]; masked mean over tokens, then a head of two layers."""

    def __init__(self, shape: RegionShape) -> None:
        super().__init__()
        hidden = shape.hidden
        self._cpg_dropout = shape.cpg_dropout
        self.dna = nn.Embedding(VOCABULARY, hidden, padding_idx=PAD)
        self.methylation = nn.Embedding(NO_CPG + 1, hidden)
        self.position = nn.Embedding(TOKENS, hidden)
        self.norm = nn.LayerNorm(hidden, eps=EPSILON)
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(_Layer(shape) for _ in range(shape.layers))
        self.pool = nn.Linear(hidden, hidden)
        self.head = nn.Sequential(nn.Linear(hidden, shape.head), nn.GELU(), nn.Dropout(shape.dropout), nn.Linear(shape.head, shape.classes))

    def forward(self, tokens: Tensor, states: Tensor) -> Tensor:
        """Integer ids and states [B, L] -> [B, classes]. Raises ValueError for more than 150 tokens and for a read without any, which on a GPU gives NaN."""
        check_length(tokens, TOKENS)
        present = tokens != PAD
        if tokens.device.type == "cpu":  # a GPU's answer would have to be waited for; what reads the data refuses such reads as well
            _refuse_empty(present)
        if self.training and self._cpg_dropout:
            states = states.masked_fill(torch.rand(states.shape, device=states.device) < self._cpg_dropout, NO_CPG)
        x = self.dropout(self.norm(self.dna(tokens.int()) + self.methylation(states.int()) + self.position.weight[: tokens.shape[1]]))
        for layer in self.layers:
            x = layer(x, present[:, None, None, :])
        weight = present.unsqueeze(-1).to(x.dtype)
        mean = (x * weight).sum(dim=1) / weight.sum(dim=1)
        logits: Tensor = self.head(self.dropout(torch.tanh(self.pool(mean))))
        return logits


def _refuse_empty(present: Tensor) -> None:
    """Raises ValueError for a read [L] without a token: its attention and its mean would be 0 / 0, and NaN in one gradient is NaN in every weight."""
    empty = ~present.any(dim=1)
    if empty.any():
        raise ValueError(f"read {int(empty.int().argmax())} of the batch has no token: every position is padding")


class _Layer(nn.Module):
    """Post-norm: attention without an output projection, then a feed-forward layer with GELU."""

    def __init__(self, shape: RegionShape) -> None:
        super().__init__()
        self.qkv = nn.Linear(shape.hidden, 3 * shape.hidden)
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(shape.hidden, eps=EPSILON) for _ in range(2))
        self.up, self.down = nn.Linear(shape.hidden, shape.feed_forward), nn.Linear(shape.feed_forward, shape.hidden)
        self.dropout = nn.Dropout(shape.dropout)
        self._heads, self._attention_dropout = shape.heads, shape.dropout

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        dropout = self._attention_dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, mask, dropout).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.dropout(attended))
        out: Tensor = self.feed_forward_norm(x + self.dropout(self.down(F.gelu(self.up(x)))))
        return out
