"""torch's scaled dot-product attention over buckets of equal length: no padding, no mask, the bias shared by the bucket."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.models.dnabert.attention.packing import Packing, alibi_bias
from assay.models.transfer import send


def explain_absence(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:  # noqa: ARG001
    """Runs everywhere."""
    return None


def attend(qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
    """See assay.models.dnabert.attention.registry.Backend."""
    _, _, heads, width = qkv.shape
    buckets = packing.remember("buckets", lambda: _bucket(packing))
    bias = packing.remember(("bias", qkv.dtype), lambda: alibi_bias(slopes, packing.longest).to(qkv.dtype))
    parts = []
    for length, rows in buckets:
        # one gather per bucket; a bucket that is the whole batch needs none
        part = (qkv if rows is None else qkv.index_select(0, rows)).view(-1, length, 3, heads, width)
        query, key, value = part.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[None, :, :length, :length])
        parts.append(attended.transpose(1, 2).reshape(-1, heads, width))
    if len(parts) == 1:
        return parts[0]
    return torch.cat(parts).index_select(0, packing.remember("unbucket", lambda: _invert(buckets)))


Buckets = list[tuple[int, Tensor | None]]


def _bucket(packing: Packing) -> Buckets:
    """(length, int64 rows of the packed batch) for every length that occurs; rows None where one bucket holds the whole batch."""
    starts: dict[int, list[int]] = {}
    start = 0
    for length in packing.lengths:
        starts.setdefault(length, []).append(start)
        start += length
    if len(starts) == 1:
        return [(packing.longest, None)]
    found = {length: (torch.tensor(firsts)[:, None] + torch.arange(length)).flatten() for length, firsts in sorted(starts.items())}
    rows = torch.split(send(torch.cat(list(found.values())), packing.offsets.device), [len(part) for part in found.values()])
    return list(zip(found, rows, strict=True))


def _invert(buckets: Buckets) -> Tensor:
    return torch.cat([rows for _, rows in buckets if rows is not None]).argsort()
