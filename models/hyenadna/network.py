"""HyenaDNA's backbone: embedding, pre-norm blocks of Hyena operator and feed-forward network, final norm.

Source: Nguyen et al. 2023 and the published configurations. Names of parameters are the published ones below `backbone.`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from assay.models.hyenadna.operator import FEATURES, HyenaOperator, PositionGrid
from assay.models.hyenadna.tokens import PADDED_SIZE

EXPANSION = 4
EMBEDDING_DROPOUT = 0.1
NORM_EPSILON = 1e-5
SPREAD = 0.02
"""Standard deviation of fresh weights; projections into the residual stream get less, by the square root of twice the layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HyenaConfig:
    """A published size."""

    name: str
    width: int  # d_model
    layers: int
    context: int  # nucleotides

    @property
    def longest(self) -> int:
        """Tokens that the model takes: the context and two special tokens (l_max)."""
        return self.context + 2


CONFIGS: Mapping[str, HyenaConfig] = MappingProxyType(
    {
        name: HyenaConfig(name=name, width=width, layers=layers, context=context)
        for name, width, layers, context in (
            ("tiny-1k", 128, 2, 1_024),
            ("tiny-1k-d256", 256, 2, 1_024),
            ("tiny-16k-d128", 128, 2, 16_384),
            ("small-32k", 256, 4, 32_768),
            ("medium-160k", 256, 8, 160_000),
            ("medium-450k", 256, 8, 450_000),
            ("large-1m", 256, 8, 1_000_000),
        )
    }
)


class FeedForward(nn.Module):
    """Linear, GELU in its tanh form, Linear."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, EXPANSION * width)
        self.fc2 = nn.Linear(EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, d] -> [B, L, d]."""
        update: Tensor = self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
        return update


class HyenaBlock(nn.Module):
    """x + mixer(norm1(x)), then x + mlp(norm2(x)); the residual stream stays float32 under autocast."""

    def __init__(self, grid: PositionGrid) -> None:
        super().__init__()
        self.mixer = HyenaOperator(grid)
        self.norm1 = nn.LayerNorm(grid.channels, eps=NORM_EPSILON)
        self.mlp = FeedForward(grid.channels)
        self.norm2 = nn.LayerNorm(grid.channels, eps=NORM_EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: float32 [B, L, d]; mask: bool [B, L]. -> [B, L, d]."""
        x = x + self.mixer(self.norm1(x), mask).float()
        update: Tensor = self.mlp(self.norm2(x))
        return x + update.float()


class HyenaDNA(nn.Module):
    """The whole backbone. Fresh weights are random; assay.models.hyenadna.checkpoints loads published ones.

    checkpointing: keep only each block's input for the backward pass and compute the rest again, filters included: a third more time,
    memory for one block instead of all.
    """

    def __init__(self, config: HyenaConfig, *, checkpointing: bool = False) -> None:
        super().__init__()
        self.config, self.checkpointing = config, checkpointing
        grid = PositionGrid(config.width, config.longest)
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(PADDED_SIZE, config.width)})
        self.dropout = nn.Dropout(EMBEDDING_DROPOUT)
        self.layers = nn.ModuleList(HyenaBlock(grid) for _ in range(config.layers))
        self.ln_f = nn.LayerNorm(config.width, eps=NORM_EPSILON)
        self._initialise()

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids: int64 [B, L]; mask: bool [B, L], True at tokens, None: no padding. -> float32 [B, L, d] last hidden states.

        Without a mask pads are tokens like any other, as in the published network, which knows no mask. With one, a padded row has the
        hidden states of the same row without padding; at the pads themselves they mean nothing. Raises ValueError for rows longer than
        the model takes, a mask of another shape, and rows that are all padding.
        """
        self._check(ids, mask)
        x: Tensor = self.dropout(self.embeddings["word_embeddings"](ids))
        for block in self.layers:
            if self.checkpointing and torch.is_grad_enabled() and any(p.requires_grad for p in block.parameters()):
                x = checkpoint(block, x, mask, use_reentrant=False)
            else:
                x = block(x, mask)
        hidden: Tensor = self.ln_f(x)
        return hidden.float()

    def _check(self, ids: Tensor, mask: Tensor | None) -> None:
        if ids.shape[1] > self.config.longest:
            raise ValueError(f"{self.config.name} takes {self.config.longest} tokens, got {ids.shape[1]}; cut the sequences, or take a longer variant")
        if mask is None:
            return
        if mask.shape != ids.shape:
            raise ValueError(f"the padding mask has shape {tuple(mask.shape)}, the tokens {tuple(ids.shape)}")
        empty = (~mask.any(dim=1)).nonzero()
        if len(empty):
            raise ValueError(f"row {int(empty[0])} is all padding; leave it out")

    def _initialise(self) -> None:
        residual = SPREAD / math.sqrt(2 * self.config.layers)
        for name, module in self.named_modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=SPREAD)
            elif isinstance(module, nn.Linear) and "implicit_filter" not in name:
                nn.init.normal_(module.weight, std=residual if name.endswith(("out_proj", "fc2")) else SPREAD)
                nn.init.zeros_(module.bias)


def pool_mean(hidden: Tensor, mask: Tensor | None = None) -> Tensor:
    """[B, L, d] -> [B, d]: mean over the positions where mask [B, L] is True, or over all."""
    if mask is None:
        return hidden.mean(dim=1)
    weights = mask.to(hidden.dtype)[:, :, None]
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def train_last(backbone: HyenaDNA, layers: int | None) -> None:
    """Lets only the last `layers` blocks and the final norm behind them learn; 0 freezes the backbone, None trains all of it.

    Raises ValueError for more layers than there are.
    """
    total = len(backbone.layers)
    if layers is not None and not 0 <= layers <= total:
        raise ValueError(f"{backbone.config.name} has {total} layers, cannot train the last {layers}")
    backbone.requires_grad_(layers is None)
    if layers:
        for block in backbone.layers[total - layers :]:
            block.requires_grad_(True)
        backbone.ln_f.requires_grad_(True)


def count_published_numbers(config: HyenaConfig, parameters: int) -> int:
    """Numbers in the tensors of the published `-hf` checkpoint: weights, language-model head, and per layer the stored z, t and deltas."""
    return parameters + PADDED_SIZE * config.width + config.layers * ((FEATURES + 1) * config.longest + config.width)
