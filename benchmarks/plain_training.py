"""The peer: how the documents' scripts train, as one would write it in plain PyTorch.

A TensorDataset behind a shuffling DataLoader, AdamW as it comes, `loss.item()` at every step, convolutions channels first on
one-hot floats. Parameters have the names of the suite's networks, so that both start from and compare the same weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assay.models.splice.encoder import KERNEL, GatedEncoder
from assay.models.splice.networks import DROPOUT, ValidatedDeltaPredictor
from assay.models.training import Recipe

Loss = Callable[[nn.Module, list[Tensor]], Tensor]
Rows = DataLoader[tuple[Tensor, ...]]
Scheduler = torch.optim.lr_scheduler.LRScheduler
CPU = torch.device("cpu")


class PlainGatedBlock(nn.Module):
    """The gated residual block of documents 000 and 001 on [B, hidden, L]."""

    def __init__(self, hidden: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(hidden, 2 * hidden, KERNEL, padding="same", dilation=dilation)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor) -> Tensor:
        """[B, hidden, L] -> the same shape."""
        value, gate = self.conv(x).chunk(2, dim=1)
        normed = self.norm((value * torch.sigmoid(gate)).transpose(1, 2)).transpose(1, 2)
        update: Tensor = self.dropout(normed)
        return x + update


class PlainEncoder(nn.Module):
    """The encoder on one-hot sequences [B, 4, L]."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(4, hidden, 1)
        self.blocks = nn.ModuleList(PlainGatedBlock(hidden, 2 ** (layer % 4)) for layer in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        """[B, 4, L] -> [B, L, hidden], as the head pools it."""
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return x.transpose(1, 2)


def make_plain_predictor(suites: ValidatedDeltaPredictor) -> ValidatedDeltaPredictor:
    """A predictor with the same weights and a plain encoder; its sequences are [B, 4, L]."""
    plain = copy.deepcopy(suites)
    encoder: GatedEncoder = plain.encoder
    replacement = PlainEncoder(encoder.embed.out_channels, len(encoder.blocks))
    replacement.load_state_dict(encoder.state_dict())
    plain.encoder = replacement  # type: ignore[assignment]
    return plain


def train_plain(
    model: nn.Module, loss_of: Loss, train: TensorDataset, validation: TensorDataset | None, recipe: Recipe, device: torch.device = CPU
) -> None:
    """Trains in place; with `keep_best`, the epoch of the best validation loss is left in the model. Rows are on the CPU, the model on `device`.

    Raises ValueError for a recipe that accumulates batches, which this loop does not.
    """
    if recipe.accumulate != 1:
        raise ValueError(f"the plain loop updates after every batch, the recipe after {recipe.accumulate}")
    loader = DataLoader(train, batch_size=recipe.batch, shuffle=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    scheduler = _make_scheduler(optimiser, recipe, len(loader))
    best, best_weights = math.inf, None
    for _ in range(recipe.epochs):
        watched = _train_epoch(model, loss_of, loader, optimiser, scheduler, recipe.clip, device)
        if validation is not None:
            watched = evaluate_plain(model, loss_of, validation, recipe.batch, device)
        if not isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR):
            scheduler.step()
        if recipe.keep_best and watched < best:
            best, best_weights = watched, copy.deepcopy(model.state_dict())
    if best_weights is not None:
        model.load_state_dict(best_weights)


def evaluate_plain(model: nn.Module, loss_of: Loss, rows: TensorDataset, batch: int, device: torch.device = CPU) -> float:
    """Mean loss per row."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for part in DataLoader(rows, batch_size=batch):
            total += loss_of(model, [tensor.to(device) for tensor in part]).item() * len(part[0])
    return total / len(rows)


def _train_epoch(
    model: nn.Module, loss_of: Loss, loader: Rows, optimiser: torch.optim.Optimizer, scheduler: Scheduler, clip: float | None, device: torch.device
) -> float:
    model.train()
    total = 0.0
    for batch in loader:
        optimiser.zero_grad()
        loss = loss_of(model, [tensor.to(device) for tensor in batch])
        loss.backward()  # type: ignore[no-untyped-call]
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        if isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR):
            scheduler.step()
        total += loss.item()
    return total / len(loader)


def _make_scheduler(optimiser: torch.optim.Optimizer, recipe: Recipe, steps_per_epoch: int) -> Scheduler:
    schedule = recipe.schedule
    match schedule.kind:
        case "one-cycle":
            return torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=schedule.peak, total_steps=steps_per_epoch * recipe.epochs)
        case "cosine-restarts":
            return torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimiser, schedule.first_cycle, schedule.cycle_growth, schedule.floor)
        case "constant":
            return torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
        case _:
            raise ValueError(f"the peer knows the schedules of affinity-v2, splice-validated and tissuebert-file, not {schedule.kind!r}")
