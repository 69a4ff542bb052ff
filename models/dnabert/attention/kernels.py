"""Attention with symmetric ALiBi over a packed batch as three Triton kernels: forward, key and value gradients, query gradients.

One source for Triton 2.1 and 3.x. What that forbids: `trans_a` and `trans_b` of `tl.dot` (no release ever had them), a store that is
loaded again in the same kernel, a log-sum-exp carried through the loop (the recurrence here is the classic one of running maximum, sum and
accumulator), an early return, and transposed results: only operands that were just loaded are transposed.

The bias costs no memory: slope x |i - j| is computed in float32 registers. All kernels take qkv [T, 3, heads, D] and offsets int32 [B + 1];
row_qkv and row_out are the strides of T in qkv and in [T, heads, D]; statistics are float32 [T, heads].
Sources: Dao 2023 (FlashAttention-2), Press et al. 2022 (ALiBi).
"""

# ruff: noqa: ANN001, ANN201, N803, D103  (the compiler reads signatures, not annotations)
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-decorators=False

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def attention_forward(
    qkv, out, statistics, slopes, offsets, scale, heads, row_qkv, row_out,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, TF32: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    sequence = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    start = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - start
    end = tl.where(block * BLOCK_M < length, length, 0)  # a block beyond its sequence loops over nothing
    slope = tl.load(slopes + head)
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    width = tl.arange(0, D)
    query = qkv + start.to(tl.int64) * row_qkv + head * D
    key = query + heads * D
    value = key + heads * D
    q = tl.load(query + rows[:, None] * row_qkv + width[None, :], mask=rows[:, None] < length, other=0.0)
    largest = tl.zeros([BLOCK_M], dtype=tl.float32) - 1e30
    total = tl.zeros([BLOCK_M], dtype=tl.float32)
    mixed = tl.zeros([BLOCK_M, D], dtype=tl.float32)
    for first in range(0, end, BLOCK_N):
        columns = first + tl.arange(0, BLOCK_N)
        k = tl.load(key + columns[:, None] * row_qkv + width[None, :], mask=columns[:, None] < length, other=0.0)
        score = tl.dot(q, tl.trans(k), allow_tf32=TF32) * scale
        score -= slope * tl.abs((rows[:, None] - columns[None, :]).to(tl.float32))
        score = tl.where(columns[None, :] < length, score, -1e30)
        larger = tl.maximum(largest, tl.max(score, 1))
        p = tl.exp(score - larger[:, None])
        shrink = tl.exp(largest - larger)
        total = total * shrink + tl.sum(p, 1)
        v = tl.load(value + columns[:, None] * row_qkv + width[None, :], mask=columns[:, None] < length, other=0.0)
        mixed = mixed * shrink[:, None] + tl.dot(p.to(v.dtype), v, allow_tf32=TF32)
        largest = larger
    total = tl.where(rows < length, total, 1.0)
    mixed = mixed / total[:, None]
    to = out + start.to(tl.int64) * row_out + head * D
    tl.store(to + rows[:, None] * row_out + width[None, :], mixed.to(q.dtype), mask=rows[:, None] < length)
    tl.store(statistics + (start.to(tl.int64) + rows) * heads + head, largest + tl.log(total), mask=rows < length)


@triton.jit
def attention_backward_key_value(
    qkv, grad_out, grad_qkv, statistics, delta, slopes, offsets, scale, heads, row_qkv, row_out,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, TF32: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    sequence = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    start = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - start
    end = tl.where(block * BLOCK_N < length, length, 0)
    slope = tl.load(slopes + head)
    columns = block * BLOCK_N + tl.arange(0, BLOCK_N)
    width = tl.arange(0, D)
    query = qkv + start.to(tl.int64) * row_qkv + head * D
    upstream = grad_out + start.to(tl.int64) * row_out + head * D
    at = columns[:, None] * row_qkv + width[None, :]
    k = tl.load(query + heads * D + at, mask=columns[:, None] < length, other=0.0)
    v = tl.load(query + 2 * heads * D + at, mask=columns[:, None] < length, other=0.0)
    grad_k = tl.zeros([BLOCK_N, D], dtype=tl.float32)
    grad_v = tl.zeros([BLOCK_N, D], dtype=tl.float32)
    for first in range(0, end, BLOCK_M):
        rows = first + tl.arange(0, BLOCK_M)
        q = tl.load(query + rows[:, None] * row_qkv + width[None, :], mask=rows[:, None] < length, other=0.0)
        do = tl.load(upstream + rows[:, None] * row_out + width[None, :], mask=rows[:, None] < length, other=0.0)
        row = (start.to(tl.int64) + rows) * heads + head
        lse = tl.load(statistics + row, mask=rows < length, other=0.0)
        change = tl.load(delta + row, mask=rows < length, other=0.0)
        # all of it transposed, [BLOCK_N, BLOCK_M], so that no result has to be
        score = tl.dot(k, tl.trans(q), allow_tf32=TF32) * scale
        score -= slope * tl.abs((columns[:, None] - rows[None, :]).to(tl.float32))
        inside = (columns[:, None] < length) & (rows[None, :] < length)
        p = tl.exp(tl.where(inside, score - lse[None, :], -1e30))
        grad_v += tl.dot(p.to(do.dtype), do, allow_tf32=TF32)
        grad_p = tl.dot(v, tl.trans(do), allow_tf32=TF32)
        grad_score = p * (grad_p - change[None, :]) * scale
        grad_k += tl.dot(grad_score.to(q.dtype), q, allow_tf32=TF32)
    to = grad_qkv + start.to(tl.int64) * row_qkv + head * D + at
    tl.store(to + heads * D, grad_k.to(k.dtype), mask=columns[:, None] < length)
    tl.store(to + 2 * heads * D, grad_v.to(k.dtype), mask=columns[:, None] < length)


@triton.jit
def attention_backward_query(
    qkv, grad_out, grad_qkv, statistics, delta, slopes, offsets, scale, heads, row_qkv, row_out,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, D: tl.constexpr, TF32: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0)
    sequence = tl.program_id(1) // heads
    head = tl.program_id(1) % heads
    start = tl.load(offsets + sequence)
    length = tl.load(offsets + sequence + 1) - start
    end = tl.where(block * BLOCK_M < length, length, 0)
    slope = tl.load(slopes + head)
    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    width = tl.arange(0, D)
    query = qkv + start.to(tl.int64) * row_qkv + head * D
    upstream = grad_out + start.to(tl.int64) * row_out + head * D
    q = tl.load(query + rows[:, None] * row_qkv + width[None, :], mask=rows[:, None] < length, other=0.0)
    do = tl.load(upstream + rows[:, None] * row_out + width[None, :], mask=rows[:, None] < length, other=0.0)
    row = (start.to(tl.int64) + rows) * heads + head
    lse = tl.load(statistics + row, mask=rows < length, other=0.0)
    change = tl.load(delta + row, mask=rows < length, other=0.0)
    grad_q = tl.zeros([BLOCK_M, D], dtype=tl.float32)
    for first in range(0, end, BLOCK_N):
        columns = first + tl.arange(0, BLOCK_N)
        at = columns[:, None] * row_qkv + width[None, :]
        k = tl.load(query + heads * D + at, mask=columns[:, None] < length, other=0.0)
        v = tl.load(query + 2 * heads * D + at, mask=columns[:, None] < length, other=0.0)
        score = tl.dot(q, tl.trans(k), allow_tf32=TF32) * scale
        score -= slope * tl.abs((rows[:, None] - columns[None, :]).to(tl.float32))
        inside = (rows[:, None] < length) & (columns[None, :] < length)
        p = tl.exp(tl.where(inside, score - lse[:, None], -1e30))
        grad_p = tl.dot(do, tl.trans(v), allow_tf32=TF32)
        grad_score = p * (grad_p - change[:, None]) * scale
        grad_q += tl.dot(grad_score.to(k.dtype), k, allow_tf32=TF32)
    to = grad_qkv + start.to(tl.int64) * row_qkv + head * D
    tl.store(to + rows[:, None] * row_qkv + width[None, :], grad_q.to(q.dtype), mask=rows[:, None] < length)
