"""The ContrastiveVAE-DEC network (document 003): frequency attention, encoder, decoder, cluster centres and a contrastive projection."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.datasets.audiograms import COMPONENTS, FREQUENCIES, Encoding, count_metadata

ABR = len(FREQUENCIES)
DROPOUT = 0.2
LOG_VARIANCE_BOUND = 10.0
LARGEST_OUTPUT = 100.0  # of the documented decoder, which takes z-scores for decibels
HISTORY = 100  # steps whose mean assignment the documented clustering layer keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """Widths of a configuration, and the corrections of the network."""

    hidden: tuple[int, int, int]
    heads: int
    head_width: int
    abr_width: int
    context_width: int
    latent: int
    projection: int
    clusters: int = 12
    encoding: Encoding = "ten-columns"
    signed_output: bool = False  # False: ReLU and clamp 0 to 100, although half of all z-scores are negative
    detached_history: bool = False  # False: every step's graph stays alive through the history buffer


BASE = NetworkShape(hidden=(64, 32, 16), heads=2, head_width=8, abr_width=16, context_width=24, latent=10, projection=64)
MEMORY_OPTIMISED = NetworkShape(hidden=(128, 64, 32), heads=4, head_width=16, abr_width=32, context_width=48, latent=24, projection=64)
LARGE = NetworkShape(hidden=(256, 128, 64), heads=8, head_width=32, abr_width=64, context_width=96, latent=32, projection=128)


class Outputs(NamedTuple):
    """What one pass gives for B mice."""

    abr: Tensor  # [B, 6] reconstructed z-scores
    context: Tensor  # [B, metadata + 2]
    mean: Tensor  # [B, latent] posterior mean
    log_variance: Tensor  # [B, latent]
    assignment: Tensor  # [B, K] soft assignment q
    projection: Tensor  # [B, projection], unit length


class FrequencyAttention(nn.Module):
    """Multi-head attention over the six thresholds, each a token of one number: [B, 6] -> [B, 6]. No residual, norm or position.

    Q = x w_q + b_q and K = x w_k + b_k have rank one per token, hence every score is a bilinear form of two numbers with one
    coefficient per token and head, and the weighted sum of V needs only the weighted sum of x, because the weights sum to one. This is the very
    same function as the textbook form, without ever building [B, heads, 6, width].
    """

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.query = nn.Linear(1, heads * width)
        self.key = nn.Linear(1, heads * width)
        self.value = nn.Linear(1, heads * width)
        self.out = nn.Linear(heads * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 6] -> [B, 6]."""
        per_head = (self.heads, self.width)
        query, key, value = (layer.weight.view(per_head) for layer in (self.query, self.key, self.value))
        query_bias, value_bias = (layer.bias.view(per_head) for layer in (self.query, self.value))
        both, second = (query * key).sum(-1) * self.width**-0.5, (query_bias * key).sum(-1) * self.width**-0.5
        # terms of the score that are the same for every key, those of the key's bias among them, cancel in the softmax
        rows = x[:, None, :] * both[:, None] + second[:, None]  # [B, heads, 6]: token i's coefficient of x_j
        # keys come first: over the outermost axis softmax and sum run over contiguous numbers, which is five times faster than over six
        keys = x.T[:, :, None, None]
        weights = torch.softmax(rows * keys, dim=0)  # [6, B, heads, 6]
        attended = (weights * keys).sum(0)  # [B, heads, 6]
        out = self.out.weight.view(per_head)
        gain, offset = (out * value).sum(-1), (out * value_bias).sum() + self.out.bias
        return (attended * gain[:, None]).sum(1) + offset


class ContrastiveVae(nn.Module):
    """19,455 parameters in BASE, 50,459 in MEMORY_OPTIMISED, 172,315 in LARGE (document 003; the first two from the origin's checkpoints)."""

    history: Tensor

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        context = count_metadata(shape.encoding) + COMPONENTS
        self.attention = FrequencyAttention(shape.heads, shape.head_width)
        self.abr_in = _stack([ABR, shape.abr_width])
        self.context_in = nn.Sequential(nn.Linear(context, shape.context_width), nn.ReLU(), nn.Dropout(DROPOUT))
        self.encoder = _stack([shape.abr_width + shape.context_width, *shape.hidden])
        self.mean = nn.Linear(shape.hidden[-1], shape.latent)
        self.log_variance = nn.Linear(shape.hidden[-1], shape.latent)
        self.decoder = _stack([shape.latent, *reversed(shape.hidden)])
        self.abr_out = nn.Sequential(_stack([shape.hidden[0], 32, 16]), nn.Linear(16, ABR))
        self.context_out = nn.Sequential(_stack([shape.hidden[0], 24, 16]), nn.Linear(16, context))
        self.projection = nn.Sequential(nn.Linear(shape.latent, shape.projection), nn.ReLU(), nn.Linear(shape.projection, shape.projection))
        self.centres = nn.Parameter(nn.init.xavier_uniform_(torch.empty(shape.clusters, shape.latent)))
        self.forget()
        self.register_load_state_dict_pre_hook(_resize_centres)  # type: ignore[no-untyped-call]

    def forward(self, abr: Tensor, context: Tensor) -> Outputs:
        """abr: [B, 6] z-scores; context: [B, metadata + 2]. In training mode the latent is sampled, else it is the mean."""
        mean, log_variance = self.encode(abr, context)
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp() if self.training else mean
        hidden = self.decoder(latent)
        shown = self.abr_out(hidden)
        if not self.shape.signed_output:
            shown = shown.relu().clamp(max=LARGEST_OUTPUT)
        return Outputs(shown, self.context_out(hidden), mean, log_variance, self.assign(mean), F.normalize(self.projection(mean), dim=1))

    def encode(self, abr: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and log variance, both [B, latent]."""
        heard = self.abr_in(self.attention(abr))
        hidden = self.encoder(torch.cat([heard, self.context_in(context)], dim=1))
        return self.mean(hidden), self.log_variance(hidden).clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)

    def assign(self, mean: Tensor) -> Tensor:
        """[B, K] soft assignment: Student's t with one degree of freedom around each centre, normalised over centres (DEC)."""
        distance = (mean**2).sum(1, keepdim=True) - 2 * mean @ self.centres.T + (self.centres**2).sum(1)
        kernel = 1 / (1 + distance.clamp(min=0))
        return kernel / kernel.sum(1, keepdim=True)

    def remember(self, assignment: Tensor) -> None:
        """Writes the batch's mean assignment [K] into the history, a ring of HISTORY steps.

        As documented it is not detached. Writing into a part of a tensor chains the new graph to all earlier ones, so that no step's graph
        is ever freed, not even when its row is overwritten: the documented out-of-memory. A backward pass frees what the graph's nodes have
        saved but not the nodes, some 60 kB of a host's memory per step; a forward pass without a backward one would keep its activations too.
        """
        shown = assignment.mean(0)
        self.history[self.remembered % HISTORY] = shown.detach() if self.shape.detached_history else shown
        self.remembered += 1

    def forget(self) -> None:
        """An empty history for the present number of centres."""
        self.remembered = 0
        self.register_buffer("history", torch.zeros(HISTORY, len(self.centres), device=self.centres.device), persistent=False)

    def set_centres(self, centres: Tensor) -> None:
        """New centres [K, latent], also of another K than the configuration's."""
        self.centres = nn.Parameter(centres.detach().clone().to(self.centres))
        self.forget()


def count_parameters(shape: NetworkShape) -> int:
    """Trainable numbers of a configuration."""
    with torch.device("meta"):
        return sum(weights.numel() for weights in ContrastiveVae(shape).parameters())


def _stack(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers)


def _resize_centres(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Trained weights may have the number of centres that the search found, not the configuration's twelve."""
    found = state.get(f"{prefix}centres")
    if isinstance(module, ContrastiveVae) and found is not None and found.ndim == 2 and found.shape[1] == module.shape.latent:
        module.set_centres(found)
