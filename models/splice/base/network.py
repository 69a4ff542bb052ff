"""SpliceAI's network and the checkpoints that OpenSpliceAI publishes for it.

Source: Jaganathan et al. 2019 (SpliceAI-80nt to SpliceAI-10k: 32 channels, residual blocks in groups of four); Chao et al. 2025
(OpenSpliceAI: leaky ReLU of slope 0.1, names of the state dict). Output channels: neither, acceptor, donor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from assay.datasets.card import MissingData
from assay.models.weights import compare_weights, read_weights

CHANNELS = 32
CLASSES = ("neither", "acceptor", "donor")
GROUP = 4  # residual blocks between two skip connections
SLOPE = 0.1
PUBLISHED_MODELS = 5
WHERE = (
    "Download the five models of OpenSpliceAI-MANE-10000nt (github.com/Kuanhao-Chao/OpenSpliceAI, documentation, section on released models) "
    "and give their folder with --weights"
)
_SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True, slots=True)
class Architecture:
    """Kernel width and dilation of each group of four residual blocks."""

    groups: tuple[tuple[int, int], ...]

    @property
    def context(self) -> int:
        """Nucleotides that an output position sees beside itself, half on either side; the receptive field is one more."""
        return sum(2 * GROUP * (width - 1) * dilation for width, dilation in self.groups)


SPLICEAI_80NT = Architecture(((11, 1),))
SPLICEAI_400NT = Architecture(((11, 1), (11, 4)))
SPLICEAI_2K = Architecture(((11, 1), (11, 4), (21, 10)))
SPLICEAI_10K = Architecture(((11, 1), (11, 4), (21, 10), (41, 25)))


class ResidualUnit(nn.Module):
    """x + two times (batch normalisation, leaky ReLU, dilated convolution), without padding: (width - 1) * dilation fewer on either side."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.batchnorm1, self.batchnorm2 = nn.BatchNorm1d(CHANNELS), nn.BatchNorm1d(CHANNELS)
        self.conv1 = nn.Conv1d(CHANNELS, CHANNELS, width, dilation=dilation)
        self.conv2 = nn.Conv1d(CHANNELS, CHANNELS, width, dilation=dilation)
        self.lost = (width - 1) * dilation

    def forward(self, x: Tensor) -> Tensor:
        """[B, 32, L] -> [B, 32, L - 2 * lost]."""
        update = self.conv1(F.leaky_relu(self.batchnorm1(x), SLOPE))
        update = self.conv2(F.leaky_relu(self.batchnorm2(update), SLOPE))
        summed: Tensor = crop(x, update.shape[-1]) + update
        return summed


class Skip(nn.Module):
    """A 1x1 convolution on the way from the trunk to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(CHANNELS, CHANNELS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 32, L] -> [B, 32, L]."""
        projected: Tensor = self.conv(x)
        return projected


class SpliceAI(nn.Module):
    """Probabilities of neither, acceptor and donor for each nucleotide that has its whole context in the input.

    The published code pads every convolution and cuts half the context off either end of the output. What is left never saw the
    padding, so that convolutions without padding give the same numbers for about half the work. For inference only: in training,
    batch statistics would be taken over fewer positions than in the published code.
    """

    def __init__(self, architecture: Architecture = SPLICEAI_10K) -> None:
        super().__init__()
        self.architecture = architecture
        self.initial_conv = nn.Conv1d(4, CHANNELS, 1)
        self.initial_skip = Skip()
        units: list[nn.Module] = []
        for width, dilation in architecture.groups:
            units += [*(ResidualUnit(width, dilation) for _ in range(GROUP)), Skip()]
        self.residual_units = nn.ModuleList(units)
        self.final_conv = nn.Conv1d(CHANNELS, len(CLASSES), 1)

    def forward(self, x: Tensor) -> Tensor:
        """One-hot bases A, C, G, T [B, 4, context + P] -> probabilities [B, 3, P]."""
        wanted = x.shape[-1] - self.architecture.context
        if wanted < 1:
            raise ValueError(f"{x.shape[-1]} nucleotides are fewer than the receptive field of {self.architecture.context + 1}")
        x = self.initial_conv(x)
        skip = self.initial_skip(crop(x, wanted))
        for unit in self.residual_units:
            if isinstance(unit, Skip):
                skip = skip + unit(crop(x, wanted))
            else:
                x = unit(x)
        return F.softmax(self.final_conv(skip), dim=1)


class SpliceAIEnsemble(nn.Module):
    """The mean probability of several models."""

    def __init__(self, models: Sequence[SpliceAI]) -> None:
        super().__init__()
        if not models:
            raise ValueError("an ensemble needs a model")
        self.models = nn.ModuleList(models)
        self.architecture = models[0].architecture

    def forward(self, x: Tensor) -> Tensor:
        """One-hot bases [B, 4, context + P] -> mean probabilities [B, 3, P]."""
        total: Tensor = sum(model(x) for model in self.models)
        return total / len(self.models)


def crop(x: Tensor, length: int) -> Tensor:
    """The middle `length` positions of [..., L]."""
    start = (x.shape[-1] - length) // 2
    return x[..., start : start + length]


def load_ensemble(folder: Path, architecture: Architecture = SPLICEAI_10K) -> SpliceAIEnsemble:
    """Every checkpoint of a folder as one ensemble in eval mode. Raises MissingData without checkpoints, DataError for one of another architecture."""
    return SpliceAIEnsemble([load_model(path, architecture) for path in list_checkpoints(folder)]).eval()


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files of a folder, by name. Raises MissingData when there is none."""
    paths = sorted(path for path in folder.glob("*") if path.suffix in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise MissingData(folder, f"holds no checkpoint ({', '.join(_SUFFIXES)})", WHERE)
    return paths


def load_model(path: Path, architecture: Architecture = SPLICEAI_10K) -> SpliceAI:
    """One model from a state dict, safetensors or a torch file without code.

    Raises DataError that names the first differing key with both shapes, or a value that is not finite.
    """
    state = read_weights(path, WHERE)
    model = SpliceAI(architecture)
    compare_weights(path, state, model.state_dict(), WHERE)
    model.load_state_dict(state)
    return model.eval()
