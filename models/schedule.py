"""Learning-rate schedules: a recipe names one, torch's own schedulers run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Scheduler = torch.optim.lr_scheduler.LRScheduler

_BY_UPDATE = (torch.optim.lr_scheduler.OneCycleLR, torch.optim.lr_scheduler.LambdaLR)  # all other schedules advance by epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A learning-rate schedule by its standard name; fields that a kind does not use are ignored by it."""

    kind: Literal["constant", "plateau", "cosine", "cosine-restarts", "one-cycle", "warm-up", "linear"] = "constant"
    factor: float = 0.5  # plateau
    patience: int = 5  # plateau, in epochs
    first_cycle: int = 20  # cosine-restarts: T_0, in epochs
    cycle_growth: int = 2  # cosine-restarts: T_mult
    floor: float = 0.0  # cosine kinds: eta_min
    peak: float = 0.0  # one-cycle: the maximum learning rate
    share: float = 0.1  # warm-up: of all updates, in which the learning rate rises in a straight line; constant afterwards
    rising: int = 0  # linear: updates of the rise; from there a straight line down, to 0 after the last update


def make_scheduler(optimiser: torch.optim.Optimizer, schedule: Schedule, epochs: int, updates: int) -> Scheduler | None:
    """torch's scheduler for a training of so many epochs and optimiser updates; None where the rate stays as it is."""
    library = torch.optim.lr_scheduler
    match schedule.kind:
        case "constant":
            return None
        case "plateau":
            return library.ReduceLROnPlateau(optimiser, factor=schedule.factor, patience=schedule.patience)
        case "cosine":
            return library.CosineAnnealingLR(optimiser, T_max=epochs, eta_min=schedule.floor)
        case "cosine-restarts":
            return library.CosineAnnealingWarmRestarts(optimiser, schedule.first_cycle, schedule.cycle_growth, schedule.floor)
        case "one-cycle":
            return library.OneCycleLR(optimiser, max_lr=schedule.peak, total_steps=updates)
        case "warm-up":
            rising = max(1, round(updates * schedule.share))
            return library.LambdaLR(optimiser, lambda update: min(1.0, (update + 1) / rising))
        case "linear":
            # steps that are timed after the last update keep its rate: at 0 they would train nothing
            return library.LambdaLR(optimiser, lambda update: _rise_and_fall(min(update, max(0, updates - 1)), schedule.rising, updates))


def advance_update(scheduler: Scheduler | None) -> None:
    """After an optimiser update. Steps may be timed for longer than the recipe trains: the rate then stays as it was at the end."""
    if isinstance(scheduler, torch.optim.lr_scheduler.OneCycleLR) and scheduler.last_epoch >= scheduler.total_steps:
        return
    if isinstance(scheduler, _BY_UPDATE):
        scheduler.step()


def advance_epoch(scheduler: Scheduler | None, watched: float) -> None:
    """After an epoch; `watched`: the loss that a plateau is found by."""
    if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
        scheduler.step(watched)
    elif scheduler is not None and not isinstance(scheduler, _BY_UPDATE):
        scheduler.step()


def _rise_and_fall(update: int, rising: int, updates: int) -> float:
    """The factor of one update, counted from 0, as Hugging Face's `linear` has it: 0 at the first and after the last one."""
    if update < rising:
        return update / rising
    return max(0.0, (updates - update) / max(1, updates - rising))
