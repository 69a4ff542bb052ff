"""The encoder of DNABERT-2 and DNABERT-S (MosaicBERT's architecture), unpadded throughout.

Post-norm layers, one projection for query, key and value, a gated feed-forward (GEGLU), symmetric ALiBi instead of position embeddings.
Modules have the names of the published state dict, so that it loads as it is.
Sources: Zhou et al. 2023 (DNABERT-2, arXiv 2306.15006), Zhou et al. 2024 (DNABERT-S), Portes et al. 2023 (MosaicBERT), Press et al. 2022 (ALiBi).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.models.dnabert.attention.packing import Packing, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, load_attention

INITIAL_DEVIATION = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Sizes of the encoder; the defaults are those of both published models."""

    vocabulary: int = 4096
    hidden: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    token_types: int = 2
    dropout: float = 0.1  # of hidden states; attention probabilities have none
    norm_epsilon: float = 1e-12


PUBLISHED = EncoderConfig()
TINY = EncoderConfig(hidden=64, layers=2, heads=4, intermediate=128)
"""Not a published size: for smoke cases and tests."""


class Embeddings(nn.Module):
    """Token and token-type embedding, summed and normalised. There is no position embedding.

    The published config's pad_token_id 0 is the tokenizer's [UNK]; it would only keep row 0 from being trained, and is not copied.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.hidden)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """int64 [T] -> [T, hidden]; every token has type 0."""
        summed = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        out: Tensor = self.dropout(self.LayerNorm(summed))
        return out


class SelfAttention(nn.Module):
    """Projection to query, key and value, and attention within each sequence."""

    slopes: Tensor

    def __init__(self, config: EncoderConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(config.hidden, 3 * config.hidden)
        self.register_buffer("slopes", alibi_slopes(config.heads), persistent=False)
        self._heads = config.heads
        self._backend = load_attention(attention)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[T, hidden] -> [T, hidden]; outputs of the projection are ordered (query key value, head, channel)."""
        qkv = self.Wqkv(x).view(len(x), 3, self._heads, -1)
        return self._backend.attend(qkv, packing, self.slopes).reshape(len(x), -1)


class AttentionOutput(nn.Module):
    """Output projection, dropout, and the norm of the sum with the layer's input."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)
        self.LayerNorm = nn.LayerNorm(config.hidden, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, attended: Tensor, x: Tensor) -> Tensor:
        """Both [T, hidden] -> [T, hidden]."""
        out: Tensor = self.LayerNorm(self.dropout(self.dense(attended)) + x)
        return out


class Attention(nn.Module):
    """Self-attention with its output block."""

    def __init__(self, config: EncoderConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.self = SelfAttention(config, attention)
        self.output = AttentionOutput(config)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        out: Tensor = self.output(self.self(x, packing), x)
        return out


class GatedFeedForward(nn.Module):
    """GEGLU: the first half of one projection gates the second through GELU; dropout comes before the output projection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.hidden, 2 * config.intermediate, bias=False)
        self.wo = nn.Linear(config.intermediate, config.hidden)
        self.layernorm = nn.LayerNorm(config.hidden, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        gate, value = self.gated_layers(x).chunk(2, dim=-1)
        out: Tensor = self.layernorm(self.wo(self.dropout(F.gelu(gate) * value)) + x)
        return out


class Layer(nn.Module):
    """Attention, then the gated feed-forward."""

    def __init__(self, config: EncoderConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.attention = Attention(config, attention)
        self.mlp = GatedFeedForward(config)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """[T, hidden] -> [T, hidden]."""
        out: Tensor = self.mlp(self.attention(x, packing))
        return out


class _Layers(nn.Module):
    def __init__(self, config: EncoderConfig, attention: AttentionKind) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config, attention) for _ in range(config.layers))


class _Pooler(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden, config.hidden)


class DnabertEncoder(nn.Module):
    """The whole encoder with its pooler: 117,068,544 parameters at the published size."""

    def __init__(self, config: EncoderConfig = PUBLISHED, attention: AttentionKind = AttentionKind.SDPA) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = _Layers(config, attention)
        self.pooler = _Pooler(config)
        self.apply(_initialise)

    def forward(self, tokens: Tensor, packing: Packing) -> Tensor:
        """int64 [T] tokens of a packed batch -> hidden states [T, hidden]."""
        x: Tensor = self.embeddings(tokens)
        for layer in self.encoder.layer:
            x = layer(x, packing)
        return x

    def pool_first(self, hidden: Tensor, packing: Packing) -> Tensor:
        """[B, hidden]: tanh of a projection of each sequence's [CLS]; DNABERT-2 and DNABERT-S come with it untrained."""
        return torch.tanh(self.pooler.dense(hidden.index_select(0, packing.offsets[:-1])))


def pack(ids: Tensor, lengths: Tensor) -> tuple[Tensor, Packing]:
    """ids: int64 [B, L], of each row the first lengths [B], which the host's memory holds, count -> (int64 [T], their packing).

    Raises ValueError for an all-padding row.
    """
    packing = Packing.of(lengths, ids.device)
    return ids.flatten().index_select(0, packing.find_tokens(ids.shape[1])), packing


def pool_mean(hidden: Tensor, packing: Packing) -> Tensor:
    """[T, hidden] -> float32 [B, hidden]: the mean over every token of a sequence, [CLS] and [SEP] included, as DNABERT-S is evaluated."""
    return torch.segment_reduce(hidden.float(), "mean", offsets=packing.offsets.long(), axis=0)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_DEVIATION)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
