"""The documented test model, twice: around transformers' BertModel (closed division), and our own with the same weights (open division).

Source: document 002, Result 1. Vocabulary 69, hidden 512, 6 layers, 8 heads, intermediate 2048, 512 positions, 2 token types, pooler,
dropout 0.1, then Linear 512 -> 39: 19,496,487 parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.datasets.hub import import_transformers
from assay.datasets.methylation import PAD, VOCABULARY

INITIAL_SPREAD = 0.02
EPSILON = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """Sizes of the encoder and its classifier."""

    hidden: int = 512
    layers: int = 6
    heads: int = 8
    intermediate: int = 2048
    positions: int = 512
    token_types: int = 2
    classes: int = 39
    dropout: float = 0.1
    attention_dropout: float = 0.1


class DocumentedBert(nn.Module):
    """Tokens [B, L] -> logits [B, classes] with transformers' BertModel."""

    def __init__(self, shape: BertShape, attention: Literal["sdpa", "eager"] = "sdpa", *, padded: bool = True) -> None:
        """attention: transformers' implementation; the document names none, and sdpa is the library's default. padded: whether any read is."""
        super().__init__()
        transformers = import_transformers()
        config = transformers.BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.intermediate,
            max_position_embeddings=shape.positions,
            type_vocab_size=shape.token_types,
            hidden_dropout_prob=shape.dropout,
            attention_probs_dropout_prob=shape.attention_dropout,
            pad_token_id=PAD,
            attn_implementation=attention,
        )
        self._positions, self._attention, self._padded = shape.positions, attention, padded
        self.bert = transformers.BertModel(config)
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.hidden, shape.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Integer ids [B, L] -> [B, classes]. Raises ValueError for reads beyond the positions that the model has."""
        check_length(tokens, self._positions)
        ids = tokens.long()
        logits: Tensor = self.classifier(self.dropout(self.bert(input_ids=ids, attention_mask=self._mask(ids)).pooler_output))
        return logits

    def _mask(self, ids: Tensor) -> Tensor | None:
        """What the library would make of [B, L] by itself, had it not to ask a GPU first whether any of it hides a token: the same attention."""
        if not self._padded:
            return None
        present = ids != PAD
        return present[:, None, None, :] if self._attention == "sdpa" else present


class TissueBert(nn.Module):
    """The same function and the same weights by name, with less work.

    One product for query, key and value; fused attention; and only the first token goes through the last layer beyond its keys and
    values, because the pooler reads no other. Without `padded`, no read has padding and attention needs no mask.
    """

    def __init__(self, shape: BertShape, *, padded: bool = True) -> None:
        super().__init__()
        self._positions, self._padded = shape.positions, padded
        self.bert = nn.ModuleDict(
            {
                "embeddings": _Embeddings(shape),
                "encoder": nn.ModuleDict({"layer": nn.ModuleList(_Layer(shape) for _ in range(shape.layers))}),
                "pooler": nn.ModuleDict({"dense": nn.Linear(shape.hidden, shape.hidden)}),
            }
        )
        self.dropout = nn.Dropout(shape.dropout)
        self.classifier = nn.Linear(shape.hidden, shape.classes)
        self.bert.apply(_initialise)
        self._layers = [cast("_Layer", layer) for layer in self.bert.get_submodule("encoder.layer").children()]

    def forward(self, tokens: Tensor) -> Tensor:
        """Integer ids [B, L] -> [B, classes]. Raises ValueError for reads beyond the positions that the model has."""
        check_length(tokens, self._positions)
        mask = (tokens != PAD)[:, None, None, :] if self._padded else None
        hidden: Tensor = self.bert["embeddings"](tokens.int())
        for layer in self._layers[:-1]:
            hidden = layer(hidden, hidden, mask)
        first = self._layers[-1](hidden[:, :1], hidden, mask).squeeze(1)
        pooled = torch.tanh(self.bert.get_submodule("pooler.dense")(first))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def check_length(tokens: Tensor, limit: int) -> None:
    """Raises ValueError for reads of more tokens than the limit."""
    if tokens.shape[1] > limit:
        raise ValueError(f"reads of {tokens.shape[1]} tokens are longer than the model's {limit} positions; cut them")


class _Embeddings(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, shape.hidden, padding_idx=PAD)
        self.position_embeddings = nn.Embedding(shape.positions, shape.hidden)
        self.token_type_embeddings = nn.Embedding(shape.token_types, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=EPSILON)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        # every read is of type 0 and starts at position 0: one sum per position, not per token
        places = self.position_embeddings.weight[: tokens.shape[1]] + self.token_type_embeddings.weight[0]
        embedded: Tensor = self.dropout(self.LayerNorm(self.word_embeddings(tokens) + places))
        return embedded


class _Attention(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(shape.hidden, shape.hidden) for _ in range(3))
        self._heads, self._dropout = shape.heads, shape.attention_dropout

    def forward(self, asking: Tensor, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """asking: [B, Q, hidden], the first Q of hidden [B, L, hidden] -> [B, Q, hidden]."""
        used = (self.query, self.key, self.value) if asking is hidden else (self.key, self.value)
        weight, bias = torch.cat([part.weight for part in used]), torch.cat([part.bias for part in used])
        parts = F.linear(hidden, weight, bias).view(*hidden.shape[:2], len(used), self._heads, -1).permute(2, 0, 3, 1, 4).unbind()
        query = parts[0] if len(used) == 3 else self.query(asking).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        dropout = self._dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, parts[-2], parts[-1], mask, dropout).transpose(1, 2).flatten(2)


class _Residual(nn.Module):
    def __init__(self, inputs: int, shape: BertShape) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, shape.hidden)
        self.LayerNorm = nn.LayerNorm(shape.hidden, eps=EPSILON)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        normed: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return normed


class _Layer(nn.Module):
    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": _Attention(shape), "output": _Residual(shape.hidden, shape)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(shape.hidden, shape.intermediate)})
        self.output = _Residual(shape.intermediate, shape)

    def forward(self, asking: Tensor, hidden: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.attention["output"](self.attention["self"](asking, hidden, mask), asking)
        out: Tensor = self.output(F.gelu(self.intermediate["dense"](attended)), attended)
        return out


def _initialise(module: nn.Module) -> None:
    """As BERT does: weights normal with a spread of 0.02, biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_SPREAD)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    if isinstance(module, nn.Embedding) and module.padding_idx is not None:
        with torch.no_grad():
            module.weight[module.padding_idx].zero_()
