"""The call on which the published DNABERT-S kernel fails, cut down to itself.

`trans_b` existed only in Triton's source before its rewrite of December 2022; no released wheel has it, 2.x included.
"""

# ruff: noqa: ANN001, ANN201, N803, D103  (the compiler reads signatures, not annotations)
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def product_transposed(left, right, out, N: tl.constexpr):
    place = tl.arange(0, N)
    at = place[:, None] * N + place[None, :]
    product = tl.dot(tl.load(left + at), tl.load(right + at), trans_b=True)
    tl.store(out + at, product)
