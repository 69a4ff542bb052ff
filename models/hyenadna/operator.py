"""The Hyena operator of order 2: a short causal convolution, two gates and a causal convolution as long as the sequence.

Source: Poli et al. 2023 (Hyena), Nguyen et al. 2023 (HyenaDNA). The long filter is the output of a small network of the position.
It depends on weights and length, never on the batch, so it is computed once per training step; where no gradient reaches it, its
spectrum is kept until the weights change. The tables that published checkpoints store (z, t, deltas) follow from formulas.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BANDS = 2
FEATURES = 1 + 2 * BANDS
FILTER_WIDTH = 64
SHORT_KERNEL = 3
FREQUENCY = 10.0
"""Start value of the sines' trainable frequency."""
SHIFT = 0.05
"""Least weight of the decay window: no lag is ever shut out."""
FAST_DECAY, SLOW_DECAY, DECAY_TARGET = 0.3, 1.5, 0.01
"""The window of the fastest channel falls to 0.01 at 0.3 of the longest sequence, that of the slowest at 1.5."""
KEPT_BYTES = 1 << 28
"""Largest spectrum or window that is kept. Beyond it memory is dearer than time: at such lengths the filter is a few percent of a step."""


def position_features(length: int, longest: int, device: torch.device | None = None) -> Tensor:
    """float32 [length, 5]: t, then cos and -sin of two bands. `longest` is l_max, of which `length` positions are used."""
    place = torch.arange(length, device=device, dtype=torch.float32)
    angle = (2 * math.pi / longest) * place[:, None] * torch.linspace(1e-4, BANDS - 1, BANDS, device=device)
    return torch.cat([_relative_time(place, longest)[:, None], angle.cos(), -angle.sin()], dim=1)


def decay_rates(channels: int, device: torch.device | None = None) -> Tensor:
    """float32 [channels] exponents per unit of relative time, from the slowest channel to the fastest (all negative)."""
    return torch.linspace(math.log(DECAY_TARGET) / SLOW_DECAY, math.log(DECAY_TARGET) / FAST_DECAY, channels, device=device)


def decay_window(channels: int, length: int, longest: int, device: torch.device | None = None) -> Tensor:
    """float32 [channels, length]: exp(-t |delta|) + 0.05."""
    time = _relative_time(torch.arange(length, device=device, dtype=torch.float32), longest)
    return torch.exp(-decay_rates(channels, device).abs()[:, None] * time) + SHIFT


def _relative_time(place: Tensor, longest: int) -> Tensor:
    return place / (longest - 1)


@lru_cache(maxsize=64)
def find_fast_length(least: int) -> int:
    """The smallest even product of powers of 2, 3 and 5 that is at least `least`: lengths that every FFT library has fast code for."""
    best = 1 << max(1, (least - 1).bit_length())
    for fives in range(least.bit_length()):
        for threes in range(least.bit_length()):
            odd = 5**fives * 3**threes
            if odd >= best:
                break
            twos = max(1, (-(-least // odd) - 1).bit_length())
            best = min(best, odd << twos)
    return best


class PositionGrid:
    """What the filters of all layers share: features and windows of the positions, kept for the last length."""

    def __init__(self, channels: int, longest: int) -> None:
        self.channels, self.longest = channels, longest
        self._kept: tuple[tuple[int, torch.device], tuple[Tensor, Tensor]] | None = None

    def lay_out(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """(features [length, 5], window [channels, length]), constants without gradient."""
        if self._kept is not None and self._kept[0] == (length, device):
            return self._kept[1]
        # tensors born in inference mode could not be used in training later
        with torch.inference_mode(False), torch.no_grad():
            laid = position_features(length, self.longest, device), decay_window(self.channels, length, self.longest, device)
        self._kept = ((length, device), laid) if laid[1].nbytes <= KEPT_BYTES else None
        return laid


class Sine(nn.Module):
    """sin(freq x); all sines of a filter have one frequency vector, stored under the first one's name."""

    def __init__(self) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, FILTER_WIDTH), FREQUENCY))

    def forward(self, x: Tensor) -> Tensor:
        """[L, 64] -> [L, 64]."""
        return torch.sin(self.freq * x)


class ImplicitFilter(nn.Module):
    """The long filter of one layer, as the spectrum that the convolution multiplies with."""

    def __init__(self, grid: PositionGrid) -> None:
        super().__init__()
        self.grid = grid
        self.bias = nn.Parameter(torch.randn(grid.channels))
        # names are the published ones; 3 and 5 are the sine of 1
        self.implicit_filter = nn.ModuleDict(
            {
                "0": nn.Linear(FEATURES, FILTER_WIDTH),
                "1": Sine(),
                "2": nn.Linear(FILTER_WIDTH, FILTER_WIDTH),
                "4": nn.Linear(FILTER_WIDTH, FILTER_WIDTH),
                "6": nn.Linear(FILTER_WIDTH, grid.channels, bias=False),
            }
        )
        self._kept: tuple[tuple[object, ...], Tensor] | None = None

    def forward(self, length: int) -> Tensor:
        """float32 [channels, length] filter, lag 0 first, without the skip connection's bias."""
        layers = self.implicit_filter
        x, window = self.grid.lay_out(length, self.bias.device)
        for name in ("0", "2", "4"):
            x = layers["1"](layers[name](x))
        # the last layer from the other side: channels come first, as the transform wants them
        last: Tensor = layers["6"].weight  # type: ignore[assignment]
        return (last @ x.T) * window

    def transform(self, length: int) -> Tensor:
        """complex64 [channels, n // 2 + 1] spectrum of filter and skip connection for sequences of `length`, n = find_fast_length(2 length).

        Computed anew where gradients may reach it; else kept until a weight, the length or the device changes.
        """
        parameters = list(self.parameters())
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            self._kept = None  # what follows may be an update by a fused optimiser, which leaves no trace in the weights' versions
            return self._transform(length)
        state = (length, *((p.data_ptr(), p._version) for p in parameters))
        if self._kept is not None and self._kept[0] == state:
            return self._kept[1]
        with torch.inference_mode(False), torch.no_grad():
            spectrum = self._transform(length)
        self._kept = (state, spectrum) if spectrum.nbytes <= KEPT_BYTES else None
        return spectrum

    def train(self, mode: bool = True) -> ImplicitFilter:  # noqa: FBT001, FBT002  # torch's signature
        """Forgets what was kept when training begins: weights are about to change, unless they are frozen."""
        if mode and any(p.requires_grad for p in self.parameters()):
            self._kept = None
        super().train(mode)
        return self

    def _transform(self, length: int) -> Tensor:
        with torch.autocast(self.bias.device.type, enabled=False):
            # a skip connection is a filter of one lag, whose spectrum is flat
            spectrum: Tensor = torch.fft.rfft(self(length), n=find_fast_length(2 * length))
            return spectrum + self.bias[:, None]


def convolve(x: Tensor, spectrum: Tensor) -> Tensor:
    """Causal convolution y[i] = sum over lags j <= i of h[j] x[i - j], plus the skip connection, in float32 whatever comes in.

    x: [B, channels, L]; spectrum: from ImplicitFilter.transform(L). The transform is at least 2 L long, so nothing wraps round.
    """
    length = x.shape[-1]
    with torch.autocast(x.device.type, enabled=False):
        n = find_fast_length(2 * length)
        y: Tensor = torch.fft.irfft(torch.fft.rfft(x.float().contiguous(), n=n) * spectrum, n=n)
    return y[..., :length]


class HyenaOperator(nn.Module):
    """Mixes positions, causally, in O(L log L).

    Padding: positions where `mask` is False send nothing to any other position, neither through the short convolution nor through the
    long one. What stands at them is meaningless, and a left-padded row has the values of the same row without padding.
    """

    def __init__(self, grid: PositionGrid) -> None:
        super().__init__()
        width = grid.channels
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.short_filter = nn.Conv1d(3 * width, 3 * width, SHORT_KERNEL, groups=3 * width, padding=SHORT_KERNEL - 1)
        self.filter_fn = ImplicitFilter(grid)

    def forward(self, u: Tensor, mask: Tensor | None = None) -> Tensor:
        """u: [B, L, d]; mask: bool [B, L], True at tokens, None: no padding. -> [B, L, d]."""
        seen = None if mask is None else mask[:, :, None]
        p = self.in_proj(u)
        if seen is not None:
            p = p * seen
        gate, other, value = self._shorten(p).chunk(3, dim=-1)
        w = value * other
        if seen is not None:
            w = w * seen  # the short filter's bias stands at the pads now
        y = convolve(w.transpose(1, 2), self.filter_fn.transform(u.shape[1]))
        mixed: Tensor = self.out_proj(y.transpose(1, 2) * gate)
        return mixed

    def _shorten(self, p: Tensor) -> Tensor:
        """The short causal convolution of [B, L, 3 d]. Channels stay last: only the long convolution pays for a transposed copy."""
        short = self.short_filter
        # a 2-d convolution over a height of one: the only kind for which the backends have channels-last kernels
        image = p.transpose(1, 2).unsqueeze(2)
        found = F.conv2d(image, short.weight.unsqueeze(2), short.bias, padding=(0, SHORT_KERNEL - 1), groups=short.groups)
        return found.squeeze(2).transpose(1, 2)[:, : p.shape[1]]
