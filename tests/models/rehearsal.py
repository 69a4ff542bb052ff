"""A GPU that is not there: what would make the host wait for it is an error with its own line. Takes a CUDA build of torch, and no GPU.

Tensors on it have shapes but no values; tensors in the host's memory are real, since what a step reads there costs no waiting. autograd's
engine asks for a CUDA context that does not exist: `loss.backward()` needs a stand-in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_leaves

__all__ = ["DataDependentOutputException", "DynamicOutputShapeException", "Rehearsal", "WouldWait"]
_INDEXING = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default)


class WouldWait(Exception):
    """The host would wait for the device here."""


class Rehearsal(FakeTensorMode):
    """Within it tensors on `cuda` are fake. Copies that the host would wait for raise WouldWait where `strict`: opening a session may copy as it likes."""

    def __init__(self) -> None:
        torch._C._ensureCUDADeviceGuardSet()
        super().__init__(allow_non_fake_inputs=True)
        self.strict = False

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        given = {**(kwargs or {})}
        if func.namespace == "aten":
            with self:  # in inference mode operators that are made of others come whole
                composed = func.decompose(*args, **given)
            if composed is not NotImplemented:
                return composed
        tensors = [leaf for leaf in tree_leaves((args, given)) if isinstance(leaf, Tensor)]
        if self.strict:
            _refuse_waiting(func, given, tensors)
        target = given.get("device")
        if not any(isinstance(tensor, FakeTensor) for tensor in tensors) and (target is None or torch.device(target).type == "cpu"):
            return func(*args, **given)  # on the host alone
        return super().__torch_dispatch__(func, types, args, given)


def _refuse_waiting(func: Any, given: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """FakeTensorMode refuses what reads values; copies between host and device it takes as harmless."""
    places = [tensor.device.type for tensor in tensors]
    if func is torch.ops.aten._to_copy.default and given.get("device") is not None:
        target = torch.device(given["device"]).type
        if target != places[0] and (target == "cpu" or not given.get("non_blocking")):
            raise WouldWait(f"a copy from {places[0]} to {target}")
    if func is torch.ops.aten.copy_.default and len({*places}) > 1 and tensors[1].ndim:
        raise WouldWait(f"a copy from {places[1]} to {places[0]}")
    if func in _INDEXING and len({*places}) > 1:
        raise WouldWait("an index in the host's memory")
