"""Plain attention as the published networks compute it: padded to the longest sequence, bias and scores materialised."""

from __future__ import annotations

import torch
from torch import Tensor

from assay.models.dnabert.attention.packing import Packing, alibi_bias

MASKED = -10_000.0
"""Added to the scores of padding keys, as in the published network; exp of it is zero in every dtype used here."""


def explain_absence(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:  # noqa: ARG001
    """Runs everywhere."""
    return None


def attend(qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
    """See assay.models.dnabert.attention.registry.Backend."""
    _, _, heads, width = qkv.shape
    batch, longest = len(packing.lengths), packing.longest
    rows = packing.remember("padded rows", lambda: packing.find_tokens(longest))
    mask = packing.remember("bias and mask", lambda: _bias_and_mask(packing, slopes))
    padded = qkv.new_zeros(batch * longest, 3, heads, width).index_copy(0, rows, qkv)
    query, key, value = padded.view(batch, longest, 3, heads, width).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(-1, -2) / width**0.5 + mask
    attended: Tensor = scores.softmax(dim=-1).to(value.dtype) @ value
    return attended.transpose(1, 2).reshape(batch * longest, heads, width).index_select(0, rows)


def _bias_and_mask(packing: Packing, slopes: Tensor) -> Tensor:
    """[B, heads, longest, longest], as the published network keeps it."""
    present = torch.arange(packing.longest, device=slopes.device) < packing.offsets.diff()[:, None]
    masked = torch.where(present, 0.0, MASKED)
    return alibi_bias(slopes, packing.longest)[None] + masked[:, None, None, :]
