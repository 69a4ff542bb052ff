"""The one training loop: every workload's recipe is data for it.

All splits live on the device as tensors and batches are gathered by a device-side permutation, so that a step costs no
host copy and no Python per row; losses stay on the device until an epoch ends, so that no step waits for one. What a step
reads on the host, such as lengths, stays in its memory from the start.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from assay.bench.case import Precision, Quantity, Unsupported
from assay.datasets.card import DatasetCard
from assay.models.checkpoint import Parts, Place, load_training, save_training
from assay.models.schedule import Schedule, advance_epoch, advance_update, make_scheduler
from assay.models.transfer import Rows, send_rows
from assay.models.workload import History, Progress

Batch = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything about training that is not the network, the loss or the data."""

    optimiser: Literal["adam", "adamw"]
    learning_rate: float
    weight_decay: float
    batch: int
    epochs: int
    schedule: Schedule = field(default_factory=Schedule)
    clip: float | None = None  # largest gradient norm
    accumulate: int = 1  # batches per optimiser update
    patience: int | None = None  # epochs without improvement before stopping; None never stops early
    min_delta: float = 0.0
    keep_best: bool = False  # weights of the epoch with the best validation loss, else of the last one
    fused: bool = False  # one kernel for the whole optimiser step (open division)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, for records and hashes."""
        return asdict(self)


class Task(Protocol):
    """What the loop needs to know of a model."""

    def build(self) -> nn.Module:
        """A fresh network; its weights follow from torch's global seed."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, ...] predictions of a batch; the model is in eval mode and gradients are off."""

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        """Quality of predictions for the whole test split, in its order."""


@runtime_checkable
class Grouped(Protocol):
    """A network whose parts learn at rates of their own."""

    def group_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """The optimiser's parameter groups for a recipe's learning rate; what is in no group stays as it is."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Training, validation and test rows as tensors that share their first dimension."""

    train: Batch
    validation: Batch | None
    test: Batch
    host: frozenset[int] = frozenset()  # columns whose values a step reads on the host: to fetch them from a GPU it would wait

    def to(self, device: torch.device) -> Splits:
        """The same rows on a device, those of the host's columns in its memory."""
        validation = None if self.validation is None else self._move(self.validation, device)
        return Splits(self._move(self.train, device), validation, self._move(self.test, device), self.host)

    def _move(self, batch: Batch, device: torch.device) -> Batch:
        return tuple(tensor if column in self.host else tensor.to(device) for column, tensor in enumerate(batch))


def seed_everything(seed: int) -> None:
    """Seeds python, numpy and torch on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which forward passes of a precision run. Raises Unsupported where the device has none."""
    match precision:
        case Precision.FP32:
            return nullcontext()
        case Precision.TF32 | Precision.FP16 if device.type != "cuda":
            raise Unsupported(f"{precision} needs a CUDA device, this case runs on {device.type}")
        case Precision.TF32:
            return nullcontext()
        case Precision.BF16:
            return torch.autocast(device.type, torch.bfloat16)
        case Precision.FP16:
            return torch.autocast(device.type, torch.float16)


class TrainingSession:
    """A task opened on a device: implements assay.models.workload.Session for every family that trains by batches of rows."""

    def __init__(
        self,
        task: Task,
        splits: Splits,
        recipe: Recipe,
        *,
        card: DatasetCard,
        conditions: Mapping[str, str | int | float],
        unit: str,
        device: torch.device,
        precision: Precision,
        seed: int,
    ) -> None:
        self.card, self.conditions, self.unit = card, conditions, unit
        self._task, self._recipe, self._device, self._precision, self._seed = task, recipe, device, precision, seed
        autocast(device, precision)  # refuse an impossible precision before any work
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision is Precision.TF32
        self._splits = splits.to(device)
        self._steps_per_epoch = math.ceil(len(self._splits.train[0]) / recipe.batch)
        self._restart()

    def _restart(self) -> None:
        seed_everything(self._seed)
        self.model = self._task.build().to(self._device).train()  # called, not presumed: it leaves frozen parts in evaluation mode
        self._optimiser = _make_optimiser(self.model, self._recipe)
        updates = math.ceil(self._steps_per_epoch / self._recipe.accumulate) * self._recipe.epochs
        self._scheduler = make_scheduler(self._optimiser, self._recipe.schedule, self._recipe.epochs, updates)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._precision is Precision.FP16)
        self._shuffle = torch.Generator().manual_seed(self._seed)
        self._pending: list[Sequence[Rows]] = []
        self._inference_at = 0
        self._place, self._resumed, self._began = Place(), False, time.perf_counter()

    def step(self) -> int:
        if not self._pending:
            self._pending = self._group(self._epoch_order())[::-1]
        if not self.model.training:  # after `infer` or `evaluate`; asked first, because setting it walks through every module
            self.model.train()
        batches = self._pending.pop()
        self._take_update(batches, [])
        return sum(map(len, batches))

    def infer(self) -> int:
        test, batch = self._splits.test, self._recipe.batch
        start = self._inference_at
        self._inference_at = start + batch if start + batch < len(test[0]) else 0
        self.model.eval()
        with torch.inference_mode(), autocast(self._device, self._precision):
            self._task.predict(self.model, tuple(t[start : start + batch] for t in test))
        return min(batch, len(test[0]) - start)

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        """The whole recipe, or what is left of it after `load_checkpoint`. `progress` may call `save_checkpoint`."""
        if not self._resumed:
            self._restart()
        self._resumed = False
        at, recipe = self._place, self._recipe
        self._began = time.perf_counter() - at.elapsed
        while at.epoch < recipe.epochs and not at.stopped:
            loss = self._train_epoch(at, _EpochProgress(progress, at.epoch, recipe.epochs, self._steps_per_epoch))
            validation = None if self._splits.validation is None else self._mean_loss(self._splits.validation)
            seconds = time.perf_counter() - self._began
            if after_epoch is not None:
                after_epoch()
                self._began += time.perf_counter() - self._began - seconds  # what after_epoch took is not training
            self._close_epoch(at, loss, validation, seconds)
        if at.best_weights is not None:
            self.model.load_state_dict(at.best_weights)
        kept = at.best_epoch if recipe.keep_best else len(at.train_loss) - 1
        return History(at.train_loss, at.validation_loss, at.seconds, at.first, kept, at.stopped)

    def _close_epoch(self, at: Place, loss: float, validation: float | None, seconds: float) -> None:
        watched = loss if validation is None else validation
        at.first = float(at.losses[0].double()) if at.epoch == 0 else at.first
        at.train_loss.append(loss)
        at.seconds.append(seconds)
        if validation is not None:
            at.validation_loss.append(validation)
        advance_epoch(self._scheduler, watched)
        if watched < at.best - self._recipe.min_delta:
            at.best, at.best_epoch = watched, at.epoch
            # a deep copy: state_dict() alone shares storage and would "restore" the latest weights
            at.best_weights = copy.deepcopy(self.model.state_dict()) if self._recipe.keep_best else None
        elif self._recipe.patience is not None and at.epoch - at.best_epoch >= self._recipe.patience:
            at.stopped = True
        at.epoch, at.batches, at.losses = at.epoch + 1, [], []

    def save_checkpoint(self, path: Path) -> None:
        """Everything that `load_checkpoint` needs to go on as if nothing had happened, to the last bit. For use between batches of `fit`."""
        self._place.elapsed = time.perf_counter() - self._began
        save_training(path, self._parts(), self._place, self._identify())

    def load_checkpoint(self, path: Path) -> None:
        """The next `fit` goes on from there. Raises DataError for a damaged file and for one of another network, recipe, precision or seed."""
        self._restart()
        self._place = load_training(path, self._parts(), self._identify())
        self._resumed = True

    def _parts(self) -> Parts:
        return Parts(self.model, self._optimiser, self._scheduler, self._scaler, self._shuffle, self._device)

    def _identify(self) -> dict[str, object]:
        rows = len(self._splits.train[0])
        recipe = self._recipe.to_dict()
        return {"recipe": recipe, "precision": str(self._precision), "seed": self._seed, "rows": rows, "data": self.card.identity.sha256}

    def evaluate(self) -> Mapping[str, Quantity]:
        return self._task.score(self.predict_test())

    def predict_test(self) -> np.ndarray:
        """[n_test, ...] float64 predictions of the present weights, in the test split's order."""
        self.model.eval()
        with torch.inference_mode(), autocast(self._device, self._precision):
            parts = (self._task.predict(self.model, batch) for batch in take_in_order(self._splits.test, self._recipe.batch))
            return _join(parts, len(self._splits.test[0])).cpu().numpy()

    def _epoch_order(self) -> list[Tensor]:
        order = torch.randperm(len(self._splits.train[0]), generator=self._shuffle)
        batches = [order[start : start + self._recipe.batch] for start in range(0, len(order), self._recipe.batch)]
        # batch normalisation cannot train on a single row: fold such a tail into the batch before it
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches

    def _group(self, batches: Sequence[Tensor], done: int = 0) -> list[Sequence[Rows]]:
        """An epoch's batches by the update that they belong to, without the first `done` batches."""
        every, rows = self._recipe.accumulate, send_rows(batches, self._device)
        return [rows[max(start, done) : start + every] for start in range(done - done % every, len(rows), every)]

    def _take_update(self, batches: Sequence[Rows], losses: list[Tensor], advance: Callable[[int], None] = lambda _: None) -> None:
        """One optimiser update, in training and in what is timed alike: the gradients of these batches, which `losses` grows by, then one step.

        `advance` is called with the length of `losses` after every batch, and after the update for its last one.
        """
        for number, rows in enumerate(batches, start=1):
            losses.append(self._accumulate(rows))
            if number == len(batches):
                self._update()
            advance(len(losses))

    def _accumulate(self, rows: Rows) -> Tensor:
        batch = tuple(map(rows.take, self._splits.train))
        with autocast(self._device, self._precision):
            loss = self._task.loss(self.model, batch)
        scaled: Tensor = self._scaler.scale(loss / self._recipe.accumulate)
        scaled.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _update(self) -> None:
        if self._recipe.clip is not None:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.clip)
        # in float16 the scaler asks the device once an update whether a gradient overflowed: only a fused optimiser skips the update there by itself
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad(set_to_none=True)
        advance_update(self._scheduler)

    def _train_epoch(self, at: Place, advance: Callable[[int], None]) -> float:
        self.model.train()
        if not at.batches:
            at.batches = self._epoch_order()
        for batches in self._group(at.batches, len(at.losses)):
            self._take_update(batches, at.losses, advance)
        stacked = torch.stack(at.losses).double().cpu()
        bad = (~torch.isfinite(stacked)).nonzero()
        if len(bad):
            raise FloatingPointError(f"the training loss became {stacked[bad[0]].item()} at batch {int(bad[0]) + 1} of an epoch")
        weights = torch.tensor([len(rows) for rows in at.batches], dtype=torch.float64)
        return float((stacked * weights).sum() / weights.sum())

    def _mean_loss(self, split: Batch) -> float:
        self.model.eval()
        batches = take_in_order(split, self._recipe.batch)
        with torch.inference_mode(), autocast(self._device, self._precision):
            losses = torch.stack([self._task.loss(self.model, batch) for batch in batches]).tolist()  # one wait for all of them
        total = 0.0
        for loss, batch in zip(losses, batches, strict=True):
            total += loss * len(batch[0])
        return total / len(split[0])


@dataclass(frozen=True, slots=True)
class _EpochProgress:
    report: Progress
    epoch: int
    epochs: int
    steps_per_epoch: int

    def __call__(self, done: int) -> None:
        self.report(self.epoch * self.steps_per_epoch + done, self.epochs * self.steps_per_epoch, f"epoch {self.epoch + 1}/{self.epochs}")


def _join(parts: Iterable[Tensor], rows: int) -> Tensor:
    """[b, ...] parts as one float64 [rows, ...], filled as they come: a list of them beside their sum would take twice the memory."""
    joined, done = torch.empty(0), 0
    for part in parts:
        joined = joined if done else part.new_empty((rows, *part.shape[1:]), dtype=torch.float64)
        joined[done : done + len(part)] = part
        done += len(part)
    return joined[:done]


def take_in_order(tensors: Batch, batch: int) -> Sequence[Batch]:
    """All rows in batches, in the order in which they stand."""
    return [tuple(tensor[start : start + batch] for tensor in tensors) for start in range(0, len(tensors[0]), batch)]


def _make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    parameters = model.group_parameters(recipe.learning_rate) if isinstance(model, Grouped) else model.parameters()
    return kind(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=recipe.fused or None)
