"""Where the documented out-of-memory comes from: what stays alive of each training step's graph (document 003, Problem Analysis)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.autograd.graph import Node, saved_tensors_hooks

from assay.bench.case import Quantity

DOCUMENTED_BYTES = 31.36e9  # where the memory-optimised run ended, out of memory (origin's run 20250619_170021)


class GraphMeter:
    """Counts the autograd nodes that a tensor keeps alive; each call visits only those that are new since the last one."""

    def __init__(self) -> None:
        self._seen: set[Node] = set()

    def count(self, tensor: Tensor) -> int:
        """Nodes reachable from the tensor: 0 for a detached one. A tensor that was detached since starts again at 0."""
        if tensor.grad_fn is None:
            self._seen.clear()
            return 0
        waiting = [tensor.grad_fn]
        while waiting:
            node = waiting.pop()
            if node not in self._seen:
                self._seen.add(node)
                waiting += [following for following, _ in node.next_functions if following is not None]
        return len(self._seen)


def count_graph_bytes(compute: Callable[[], object], given: Iterable[Tensor]) -> int:
    """Bytes that autograd saves for the backward pass while `compute` runs, each storage once; those of `given` (weights, inputs) are there anyway."""
    known = {tensor.untyped_storage().data_ptr() for tensor in given}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in known:
            saved[place] = tensor  # held, so that no later tensor takes over its address
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = compute()
    total = sum(tensor.untyped_storage().nbytes() for tensor in saved.values())
    del result
    return total


def report_retention(graph_bytes: int, batch: int, *, detached: bool) -> dict[str, Quantity]:
    """graph_bytes_per_step, counted, and steps_to_documented_oom, an extrapolation from it that no run here has taken."""
    held = Quantity(graph_bytes, "bytes", how=f"saved tensors of one step's forward pass on {batch} mice, weights and inputs not counted")
    if detached:
        return {"graph_bytes_per_step": held, "steps_to_documented_oom": Quantity.missing("steps", "the history is detached: no step's graph outlives it")}
    formula = f"{DOCUMENTED_BYTES:.4g} bytes, where the documented run ended, over graph_bytes_per_step"
    how = f"extrapolation: {formula}; of steps whose graphs stay whole, as no backward pass frees them"
    return {"graph_bytes_per_step": held, "steps_to_documented_oom": Quantity(math.ceil(DOCUMENTED_BYTES / graph_bytes), "steps", how=how)}
