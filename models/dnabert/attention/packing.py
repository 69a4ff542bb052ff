"""Ragged batches without padding: all tokens of a batch behind one another, and where each sequence starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, cast

import torch
from torch import Tensor

from assay.models.transfer import send

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Packing:
    """Where the sequences of a packed batch of T tokens lie.

    offsets: int32 [B + 1] on the tokens' device, ascending from 0 to T (flash-attn calls it cu_seqlens); lengths: the same on the host.
    """

    offsets: Tensor
    lengths: tuple[int, ...]
    _kept: dict[Hashable, object] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> Packing:
        """lengths: int [B] in the host's memory, each at least 1; device: the tokens'.

        Raises ValueError for a sequence without tokens, naming its row: attention over nothing has no value.
        """
        host = tuple(lengths.tolist())
        if not host or min(host) < 1:
            empty = next((row for row, length in enumerate(host) if length < 1), None)
            raise ValueError("the batch is empty" if empty is None else f"sequence {empty} of the batch has no token: every position is padding")
        offsets = torch.zeros(len(host) + 1, dtype=torch.int32)
        torch.cumsum(lengths, 0, dtype=torch.int32, out=offsets[1:])
        return cls(send(offsets, device), host)

    @property
    def total(self) -> int:
        """Tokens of the batch."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)

    def find_tokens(self, width: int) -> Tensor:
        """int64 [T] on the tokens' device: the place of each token in the batch padded to `width` columns, row after row."""
        # on the host: a GPU would have to say how many there are before it goes on
        present = torch.arange(width) < torch.tensor(self.lengths)[:, None]
        return send(present.flatten().nonzero().squeeze(1), self.offsets.device)

    def remember(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, made once per batch: every layer attends over the same lengths."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(T, self._kept[key])


def alibi_slopes(heads: int) -> Tensor:
    """float32 [heads] slopes of Press et al. 2022 (arXiv 2108.12409): 2^-8/n, 2^-16/n, ... for n a power of two.

    For other numbers, the slopes of the power of two below, then every other slope of the power of two above.
    """
    below = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / below) for head in range(below)]
    extra = [2 ** (-8 * (head + 1) / (2 * below)) for head in range(0, 2 * below, 2)]
    return torch.tensor((slopes + extra)[:heads], dtype=torch.float32)


def alibi_bias(slopes: Tensor, length: int) -> Tensor:
    """[heads, length, length] symmetric bias -slope x |i - j|, in the slopes' dtype. slopes: [heads]."""
    position = torch.arange(length, device=slopes.device, dtype=slopes.dtype)
    return -slopes[:, None, None] * (position[:, None] - position[None, :]).abs()
