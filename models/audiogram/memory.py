"""Where the documented out-of-memory comes from: what stays alive of each training step's graph (document 003, Problem Analysis)."""

from __future__ import annotations

from torch import Tensor
from torch.autograd.graph import Node


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
