"""Runs the Triton kernels in the interpreter beside plain attention and prints the largest differences as JSON; started by `proof`."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from assay.models.dnabert.attention import eager, fused
from assay.models.dnabert.attention.packing import Packing, alibi_slopes

LENGTHS = (1, 33, 64, 97)  # a single token, a tile and a bit, a whole tile, an odd one across tiles
HEADS, WIDTH = 3, 16


def measure(dtype: torch.dtype) -> dict[str, float]:
    """Largest absolute difference of output and gradient; inputs are standard normal, rounded to dtype for both."""
    torch.manual_seed(0)
    packing = Packing.of(torch.tensor(LENGTHS), torch.device("cpu"))
    qkv = torch.randn(packing.total, 3, HEADS, WIDTH).to(dtype)
    upstream = torch.randn(packing.total, HEADS, WIDTH).to(dtype)
    slopes = alibi_slopes(HEADS)
    out, grad = _run(fused, qkv, upstream, packing, slopes)
    reference_out, reference_grad = _run(eager, qkv.float(), upstream.float(), packing, slopes)
    return {"output": float((out - reference_out).abs().max()), "gradient": float((grad - reference_grad).abs().max())}


def _run(backend: object, qkv: Tensor, upstream: Tensor, packing: Packing, slopes: Tensor) -> tuple[Tensor, Tensor]:
    leaf = qkv.clone().requires_grad_()
    out: Tensor = backend.attend(leaf, packing, slopes)  # type: ignore[attr-defined]
    (grad,) = torch.autograd.grad(out, leaf, upstream)
    return out.detach().float(), grad.float()


def adapt_interpreter() -> None:
    """Lets the interpreter of Triton 3.6 count its loops under numpy 2.5, which makes an integer of no array but one without dimensions; 3.7 squeezes it."""
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patch_and_squeeze(tensor: Any, scope: Any) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._patch_lang_tensor = patch_and_squeeze


if __name__ == "__main__":
    if not fused.interprets():
        sys.exit("set TRITON_INTERPRET=1: on a CPU these kernels run in Triton's interpreter only")
    if version("triton").startswith("3.6."):
        adapt_interpreter()
    print(json.dumps(measure(getattr(torch, sys.argv[1]))))  # noqa: T201
