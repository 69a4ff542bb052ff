"""The peer of the DNABERT encoder: padded throughout, bias and scores materialised, written from the published formulae.

Weights are looked up by the published key names, so that nothing of the suite's network is used but its numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -10_000.0
EPSILON = 1e-12

Weights = Mapping[str, Tensor]


def encode_padded(weights: Weights, ids: Tensor, lengths: Tensor, heads: int) -> Tensor:
    """ids int64 [B, L], lengths int64 [B] -> hidden states [B, L, hidden]; those of padding mean nothing. No dropout."""
    layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layer."))
    embedded = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.token_type_embeddings.weight"][0]
    x = _normalise(weights, "embeddings.LayerNorm", embedded)
    bias = make_bias(heads, ids.shape[1])[None] + MASKED * (torch.arange(ids.shape[1]) >= lengths[:, None])[:, None, None, :]
    for number in range(layers):
        x = _layer(weights, f"encoder.layer.{number}", x, bias, heads)
    return x


def make_bias(heads: int, length: int) -> Tensor:
    """[heads, L, L] symmetric ALiBi of 12 heads or a power of two: 2^-1 ... 2^-8, then 2^-0.5, 2^-1.5, ..."""
    whole = 1 << (heads.bit_length() - 1)
    exponents = [8 * (head + 1) / whole for head in range(whole)] + [4 * (2 * head + 1) / whole for head in range(heads - whole)]
    distance = (torch.arange(length)[:, None] - torch.arange(length)[None, :]).abs()
    return -torch.tensor([2.0**-exponent for exponent in exponents])[:, None, None] * distance


def pool_padded(hidden: Tensor, lengths: Tensor) -> Tensor:
    """[B, L, hidden] -> [B, hidden], the mean over the tokens that are there."""
    present = (torch.arange(hidden.shape[1]) < lengths[:, None]).to(hidden.dtype)[..., None]
    return (hidden * present).sum(dim=1) / present.sum(dim=1)


def _layer(weights: Weights, name: str, x: Tensor, bias: Tensor, heads: int) -> Tensor:
    batch, length, hidden = x.shape
    qkv = _project(weights, f"{name}.attention.self.Wqkv", x).view(batch, length, 3, heads, hidden // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    probability = (query @ key.transpose(-1, -2) / (hidden // heads) ** 0.5 + bias).softmax(dim=-1)
    mixed = (probability @ value).transpose(1, 2).reshape(batch, length, hidden)
    attended = _normalise(weights, f"{name}.attention.output.LayerNorm", _project(weights, f"{name}.attention.output.dense", mixed) + x)
    gate, up = F.linear(attended, weights[f"{name}.mlp.gated_layers.weight"]).chunk(2, dim=-1)
    out = _project(weights, f"{name}.mlp.wo", F.gelu(gate) * up)
    return _normalise(weights, f"{name}.mlp.layernorm", out + attended)


def _project(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _normalise(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], EPSILON)
