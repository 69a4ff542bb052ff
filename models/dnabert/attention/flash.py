"""flash-attn's variable-length kernel with ALiBi slopes (Dao-AILab, from 2.4.0 on)."""

from __future__ import annotations

import importlib.util
from typing import Any, cast

import torch
from torch import Tensor

from assay.models.dnabert.attention.packing import Packing

MIN_CAPABILITY = (8, 0)


def explain_absence(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:  # noqa: ARG001
    """flash-attn is a wheel of its own and computes in half precision on Ampere and later."""
    if device.type != "cuda":
        return f"flash-attn needs a CUDA device, this is {device.type}"
    if importlib.util.find_spec("flash_attn") is None:
        return "flash-attn is not installed; the GPU image has it"
    if dtype not in (torch.float16, torch.bfloat16):
        return f"flash-attn computes in float16 and bfloat16, not in {dtype}"
    if torch.cuda.get_device_capability(device) < MIN_CAPABILITY:
        return "flash-attn needs compute capability 8.0 or later"
    return None


def attend(qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
    """See assay.models.dnabert.attention.registry.Backend."""
    import flash_attn  # type: ignore[import-not-found, unused-ignore]

    library = cast(Any, flash_attn)
    # non-causal: its bias is -slope x |i - j|, the symmetric form
    return cast(Tensor, library.flash_attn_varlen_qkvpacked_func(qkv.contiguous(), packing.offsets, packing.longest, alibi_slopes=slopes))
