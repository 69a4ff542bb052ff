"""The suite's own Triton kernels as an attention backend with gradients."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from assay.models.dnabert.attention.packing import Packing

WIDTHS = (16, 32, 64, 128)
"""Head widths that the kernels take: a power of two, and no smaller than a tensor core's tile."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Tile of rows and columns, and the launch options of a kernel."""

    rows: int
    columns: int
    warps: int = 4
    stages: int = 2


FORWARD = {2: Blocks(128, 64, warps=8), 4: Blocks(64, 32)}
BACKWARD = {2: Blocks(64, 64, warps=8), 4: Blocks(32, 32)}
"""By bytes of an element. In half precision within the 101,376 bytes of shared memory of sm_86 and sm_89 and without register spills; `proof`
checks both. Full float32 products run without tensor cores and do spill: that path is for exactness, not for speed."""


def explain_absence(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:  # noqa: ARG001
    """The kernels need Triton and a CUDA device, or Triton's interpreter."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; the GPU images have it"
    if device.type == "cpu" and not interprets():
        return "Triton kernels need a CUDA device; on a CPU only the interpreter runs them (TRITON_INTERPRET=1)"
    if dtype is torch.bfloat16 and interprets():
        return "Triton's interpreter returns garbage for bfloat16 products"
    if dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return f"the kernels compute in float16, bfloat16 and float32, not in {dtype}"
    return None


def interprets() -> bool:
    """Whether Triton runs kernels in its interpreter instead of compiling them."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def attend(qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
    """See assay.models.dnabert.attention.registry.Backend. Raises ValueError for a head width that the kernels do not take."""
    if qkv.shape[-1] not in WIDTHS:
        raise ValueError(f"the Triton kernels take heads of {', '.join(map(str, WIDTHS))} channels, not of {qkv.shape[-1]}; choose another attention")
    return cast(Tensor, _FusedAttention.apply(qkv.contiguous(), packing, slopes))  # type: ignore[no-untyped-call]


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
        from assay.models.dnabert.attention import kernels

        tokens, _, heads, width = qkv.shape
        out = qkv.new_empty(tokens, heads, width)
        statistics = torch.empty(tokens, heads, dtype=torch.float32, device=qkv.device)
        blocks = FORWARD[qkv.element_size()]
        kernels.attention_forward[_grid(packing, heads, blocks.rows)](
            qkv, out, statistics, slopes, packing.offsets, width**-0.5, heads, qkv.stride(0), out.stride(0), **_launch(blocks, width)
        )
        ctx.save_for_backward(qkv, out, statistics, slopes)
        ctx.packing = packing
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        from assay.models.dnabert.attention import kernels

        qkv, out, statistics, slopes = ctx.saved_tensors
        packing, grad_out = ctx.packing, grads[0].contiguous()
        heads, width = out.shape[1:]
        grad_qkv = torch.empty_like(qkv)
        delta = (grad_out.float() * out.float()).sum(dim=-1)
        blocks = BACKWARD[qkv.element_size()]
        inputs = (qkv, grad_out, grad_qkv, statistics, delta, slopes, packing.offsets, width**-0.5, heads, qkv.stride(0), grad_out.stride(0))
        kernels.attention_backward_key_value[_grid(packing, heads, blocks.columns)](*inputs, **_launch(blocks, width))
        kernels.attention_backward_query[_grid(packing, heads, blocks.rows)](*inputs, **_launch(blocks, width))
        return grad_qkv, None, None


def _grid(packing: Packing, heads: int, block: int) -> tuple[int, int]:
    return -(-packing.longest // block), len(packing.lengths) * heads


def _launch(blocks: Blocks, width: int) -> dict[str, Any]:
    # float32 products in full precision: TF32 would not equal the reference
    return {"BLOCK_M": blocks.rows, "BLOCK_N": blocks.columns, "D": width, "TF32": False, "num_warps": blocks.warps, "num_stages": blocks.stages}
