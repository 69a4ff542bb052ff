"""Sequence and variant encoders of the splice family.

Source: documents 000 and 001, "gated CNN" encoder. Sequences are channels-last throughout, [B, L, channels]: normalisation, linear
layers and convolution kernels then all read contiguous memory, and no block transposes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL = 15
N_CODE = 4


class BaseEncoding(nn.Module):
    """One-hot encoding of base codes. N reads as A in the documented recipe and as all zeros in the corrected one."""

    table: Tensor

    def __init__(self, *, n_as_a: bool) -> None:
        super().__init__()
        table = torch.cat([torch.eye(4), torch.zeros(1, 4)])
        if n_as_a:
            table[N_CODE, 0] = 1.0
        self.register_buffer("table", table, persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """uint8 [...] codes A 0, C 1, G 2, T 3, N 4 -> float32 [..., 4]."""
        return self.table[codes.long()]


class DilatedConvolution(nn.Conv1d):
    """`Conv1d` with "same" padding over channels-last input: [B, L, in] -> [B, L, out]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)

    def forward(self, x: Tensor) -> Tensor:
        # a 2-d convolution over a height of one: the only kind for which the backends have channels-last kernels
        image = x.transpose(1, 2).unsqueeze(2)
        y = F.conv2d(image, self.weight.unsqueeze(2), self.bias, padding=(0, int(self.padding[0])), dilation=(1, self.dilation[0]))
        return y.squeeze(2).transpose(1, 2)


class GatedResidualBlock(nn.Module):
    """x + dropout(LayerNorm(value * sigmoid(gate))), value and gate from one dilated convolution of kernel 15."""

    def __init__(self, hidden: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.conv = DilatedConvolution(hidden, 2 * hidden, KERNEL, dilation)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, hidden] -> [B, L, hidden]."""
        update: Tensor = self.dropout(self.norm(F.glu(self.conv(x), dim=-1)))
        return x + update


class GatedEncoder(nn.Module):
    """Embedding by a kernel of 1, then gated blocks with dilation 1, 2, 4, 8, 1, ..."""

    def __init__(self, hidden: int, layers: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.embed = nn.Conv1d(4, hidden, 1)
        self.blocks = nn.ModuleList(GatedResidualBlock(hidden, 2 ** (layer % 4), dropout) for layer in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """[B, L, 4] -> [B, L, hidden]."""
        x = F.linear(x, self.embed.weight.squeeze(-1), self.embed.bias)
        for block in self.blocks:
            x = block(x)
        return x


class AttentionPooling(nn.Module):
    """Weighted mean over positions; the weights are a softmax over L of Linear -> Tanh -> Linear."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(hidden, hidden // 2), nn.Tanh(), nn.Linear(hidden // 2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, L, hidden] -> ([B, hidden], weights [B, L])."""
        weights = F.softmax(self.score(x).squeeze(-1), dim=-1)
        return torch.einsum("bl,blh->bh", weights, x), weights


class VariantEmbedding(nn.Sequential):
    """Reference and alternative base, one-hot [B, 2, 4], -> [B, hidden]."""

    def __init__(self, hidden: int, dropout: float = 0.1) -> None:
        super().__init__(nn.Flatten(), nn.Linear(8, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden))
