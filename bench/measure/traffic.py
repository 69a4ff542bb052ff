"""How many bytes a step moves between memory and chip, operation by operation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from assay.bench.case import Quantity

ALLOCATIONS = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})  # reserve, and move nothing
OVERWRITERS = frozenset({"bernoulli_", "copy_", "fill_", "normal_", "random_", "uniform_", "zero_"})  # write without reading what was there
LOOK_UPS = frozenset({"embedding", "gather", "index", "index_select", "take"})  # of their table they read as much as they give back

Piece = tuple[int, tuple[int, ...], tuple[int, ...]]  # offset in a storage, shape, strides


class TrafficCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered.

    Every operation reads its arguments and writes its results, as kernels do that are not fused: `total`. Of that, only tensors that are
    older than the step must cross the memory's bus, each read and each written once: `least`. What the step itself makes and uses up
    may stay in a cache. Kernels that torch does not dispatch (Triton, C++ extensions) are not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0
        self._made: set[int] = set()  # storages by address; one that is freed and taken again was made here all the same
        self._read: dict[int, dict[Piece, int]] = {}
        self._written: dict[int, dict[Piece, int]] = {}
        self._sizes: dict[int, int] = {}

    @property
    def least(self) -> int:
        """Bytes of older tensors that were read, and of those that were written; overlapping views count no more than their storage."""
        return sum(min(sum(pieces.values()), self._sizes[place]) for found in (self._read, self._written) for place, pieces in found.items())

    def quantities(self) -> dict[str, Quantity]:
        """bytes_per_step and least_bytes_per_step [bytes]."""
        if not self.total:
            absent = Quantity.missing("bytes", "torch dispatched no operation of the step")
            return {"bytes_per_step": absent, "least_bytes_per_step": absent}
        return {
            "bytes_per_step": Quantity(self.total, "bytes", how="arguments and results of every operation of one step, as if no two were fused"),
            "least_bytes_per_step": Quantity(self.least, "bytes", how="tensors older than the step, each read and each written once"),
        }

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        named = dict(kwargs or {})
        result = func(*args, **named)
        name = func._schema.name.rpartition("::")[2].removeprefix("_foreach_")  # an operator has no public name or signature
        if name not in ALLOCATIONS:
            self._count(name, func._schema.arguments, args, named, _tensors(result))
        return result

    def _count(self, name: str, signature: Sequence[Any], args: Sequence[Any], named: Mapping[str, Any], results: Sequence[torch.Tensor]) -> None:
        given = [(argument, value) for argument, value in zip(signature, args, strict=False)]
        given += [(argument, named[argument.name]) for argument in signature if argument.name in named]
        changed = [t for argument, value in given if _is_written(argument) for t in _tensors(value)]
        kept = [t for argument, value in given if not _is_written(argument) for t in _tensors(value)]
        known = {_place(t) for t in (*changed, *kept)}
        fresh = [t for t in results if _place(t) not in known]
        if not changed and not fresh and results:  # a view
            return
        for tensor in fresh:
            self._made.add(_place(tensor))
            self.total += _size(tensor)
        given_back = sum(map(_size, fresh))
        for number, tensor in enumerate(kept):
            self._note(self._read, tensor, min(_size(tensor), given_back) if name in LOOK_UPS and number == 0 else _size(tensor))
        for tensor in changed:
            if name not in OVERWRITERS:
                self._note(self._read, tensor, _size(tensor))
            self._note(self._written, tensor, _size(tensor))

    def _note(self, found: dict[int, dict[Piece, int]], tensor: torch.Tensor, size: int) -> None:
        self.total += size
        if (place := _place(tensor)) not in self._made:
            self._sizes[place] = tensor.untyped_storage().nbytes()
            found.setdefault(place, {})[int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride()] = size


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def _tensors(tree: object) -> list[torch.Tensor]:
    leaves, _ = tree_flatten(tree)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.layout is torch.strided]


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _size(tensor: torch.Tensor) -> int:
    """Bytes without repetition: an expanded dimension is read once."""
    return tensor.element_size() * math.prod(length for length, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
