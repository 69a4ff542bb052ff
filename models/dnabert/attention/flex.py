"""torch's FlexAttention over the packed batch as one long row; a block mask keeps sequences apart."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from assay.models.dnabert.attention.packing import Packing


def explain_absence(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:  # noqa: ARG001
    """FlexAttention came with torch 2.5, and has no backward pass on a CPU."""
    if not hasattr(torch.nn, "attention") or importlib.util.find_spec("torch.nn.attention.flex_attention") is None:
        return f"torch {torch.__version__} has no FlexAttention; 2.5 and later have it"
    if device.type == "cpu" and needs_gradient:
        return "FlexAttention has no backward pass on a CPU; choose sdpa, or run without gradients"
    return None


def attend(qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
    """See assay.models.dnabert.attention.registry.Backend."""
    query, key, value = (part.transpose(0, 1)[None] for part in qkv.unbind(1))
    mask = packing.remember("block mask", lambda: _make_block_mask(packing, qkv.device))

    def add_bias(score: Tensor, _batch: Tensor, head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        # within one sequence the distance in the packed row is the distance in the sequence
        return score - slopes[head] * (row - column).abs()

    attended = _load(qkv.device.type)(query, key, value, score_mod=add_bias, block_mask=mask)
    return cast(Tensor, attended)[0].transpose(0, 1)


@cache
def _load(device: str) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    attention: Any = flex_attention
    # on a CPU the compiler takes most of a minute for what is there a reference only
    return cast(Callable[..., Any], attention if device == "cpu" else torch.compile(attention, dynamic=True))


def _make_block_mask(packing: Packing, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    # told how long the result is, a GPU need not be asked
    member = torch.repeat_interleave(torch.arange(len(packing.lengths), device=device), packing.offsets.diff(), output_size=packing.total)

    def same_sequence(_batch: Tensor, _head: Tensor, row: Tensor, column: Tensor) -> Tensor:
        return member[row] == member[column]

    return create_block_mask(same_sequence, None, None, packing.total, packing.total, device=device)
