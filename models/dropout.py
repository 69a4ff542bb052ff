"""Dropout whose masks are cheap on a CPU, for the open division."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # one random number of 64 bits decides for four elements


class QuickDropout(nn.Module):
    """nn.Dropout with another source of randomness; same distribution, a probability in steps of 2^-16.

    torch draws a Bernoulli number for each element, one by one: half of the forward pass of a small network on a CPU. Elsewhere, and in
    evaluation mode, this is torch's own. Random numbers come from torch's global generator. Raises ValueError for a probability outside [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.dropped = round(probability * LEVELS)
        if not 0 <= self.dropped < LEVELS:
            raise ValueError(f"a dropout probability is at least 0 and less than 1, got {probability!r}")

    def forward(self, x: Tensor) -> Tensor:
        """[...] -> the same shape, kept elements scaled so that the expectation stays."""
        if not self.training or not self.dropped:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.dropped / LEVELS)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)  # the whole range of 64 bits
        drawn = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = drawn >= self.dropped - LEVELS // 2
        return x * kept.to(x.dtype).mul_(LEVELS / (LEVELS - self.dropped))


def quicken_dropout(network: nn.Module) -> nn.Module:
    """The same network, with QuickDropout in the place of every nn.Dropout; names and values of weights stay."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, QuickDropout(child.p))
    return network
