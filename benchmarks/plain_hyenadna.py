"""The peer: HyenaDNA's backbone as its paper's code computes it, in plain PyTorch.

The filter's network runs at every call, in training and in inference, from stored tables; the transform is exactly twice the sequence long;
the skip connection is a product of its own. Parameters have the names of the suite's backbone, so that both hold the same weights.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from assay.models.hyenadna.network import HyenaDNA
from assay.models.hyenadna.operator import HyenaOperator, decay_rates, position_features


class PlainOperator(nn.Module):
    """The Hyena operator with its filter per call."""

    z: Tensor
    t: Tensor
    deltas: Tensor

    def __init__(self, suites: HyenaOperator, width: int, longest: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj, self.short_filter = suites.in_proj, suites.out_proj, suites.short_filter
        self.filter_fn = suites.filter_fn
        features = position_features(longest, longest)
        self.register_buffer("z", features[None], persistent=False)
        self.register_buffer("t", features[None, :, :1].clone(), persistent=False)
        self.register_buffer("deltas", decay_rates(width)[None, None], persistent=False)

    def forward(self, u: Tensor, mask: None = None) -> Tensor:  # noqa: ARG002  # as the suite's operator is called
        """[B, L, d] -> [B, L, d]; knows no padding."""
        length = u.shape[1]
        p = self.short_filter(self.in_proj(u).transpose(1, 2))[..., :length]
        x0, x1, v = p.chunk(3, dim=1)
        y = self._convolve(v * x1, self._filter(length))
        mixed: Tensor = self.out_proj((y * x0).transpose(1, 2))
        return mixed

    def _filter(self, length: int) -> Tensor:
        layers = self.filter_fn.implicit_filter
        h = self.z[:, :length]
        for name in ("0", "2", "4"):
            h = layers["1"](layers[name](h))
        taps: Tensor = layers["6"](h) * (torch.exp(-self.t[:, :length] * self.deltas.abs()) + 0.05)
        return taps[0].transpose(0, 1)

    def _convolve(self, x: Tensor, h: Tensor) -> Tensor:
        length = x.shape[-1]
        size = 2 * length
        spectrum = torch.fft.rfft(h, n=size) / size
        y: Tensor = torch.fft.irfft(torch.fft.rfft(x.float(), n=size) * spectrum, n=size, norm="forward")[..., :length]
        return y + x * self.filter_fn.bias[:, None]


def make_plain_backbone(suites: HyenaDNA) -> HyenaDNA:
    """A backbone of the same weights whose operators work as the published ones do. It takes no padding mask."""
    plain = copy.deepcopy(suites)
    for block in plain.layers:
        block.mixer = PlainOperator(block.mixer, suites.config.width, suites.config.longest)  # type: ignore[arg-type]
    return plain
