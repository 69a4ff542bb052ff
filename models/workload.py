"""What a family of models implements, and the session that it returns. bench knows models only through this file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from torch import nn

from assay.bench.case import Case, Division, Phase, Precision, Preset, Quantity
from assay.datasets.card import DatasetCard, DatasetIdentity

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) at least once a second of work; it is also the sign of life that time-outs watch."""

Array = np.ndarray


def ignore_progress(done: int, total: int, note: str, /) -> None:
    """For those who do not watch."""


CLOSED_AND_OPEN: Mapping[Division, tuple[Precision, ...]] = MappingProxyType(
    {Division.CLOSED: (Precision.FP32,), Division.OPEN: (Precision.BF16, Precision.FP16, Precision.FP32)}
)
"""Documented in float32, and an open case in each precision of which a machine runs one: assay.bench.measure.precision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A documented size or setting of a workload, and the cases that it has."""

    name: str
    summary: str
    phases: tuple[Phase, ...] = (Phase.TRAIN, Phase.EVAL)
    presets: tuple[Preset, ...] = tuple(Preset)
    precisions: Mapping[Division, tuple[Precision, ...]] = field(default_factory=lambda: {Division.CLOSED: (Precision.FP32,)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The metric that ranks a workload, which way is better, and the documented value that time-to-quality waits for."""

    metric: str
    higher_is_better: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What a case is given to run with."""

    device: torch.device
    data: Path | None  # folder of real data, laid out as `bench data fetch` lays it out; None: synthetic twins
    batch: int | None  # the profile's batch size; None: the recipe's own
    seed: int
    cache: Path  # for derived features; safe to delete
    progress: Progress = ignore_progress  # of work that opening a session takes


@dataclass(frozen=True, slots=True)
class History:
    """What training left behind, one entry per epoch. `seconds` counts from the start of training."""

    train_loss: Sequence[float]
    validation_loss: Sequence[float]  # empty when the recipe has no validation split
    seconds: Sequence[float]
    first_loss: float  # of the very first batch, before any update
    best_epoch: int  # 0-based; the epoch whose weights are kept
    stopped_early: bool
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)  # what else a family followed, by name; kept in the record


class Session(Protocol):
    """A workload opened on a device: data, model and optimiser are there."""

    card: DatasetCard
    conditions: Mapping[str, str | int | float]  # what claims' `where` speak of: dataset, n_train, n_test, batch, epochs
    unit: str  # what one sample is: "pairs", "variants", "sequences"; empty: there is nothing to time
    model: nn.Module

    def step(self) -> int:
        """One optimiser update as `fit` does it, over all batches that the recipe accumulates for one; returns their samples.

        Does not synchronise the device."""

    def infer(self) -> int:
        """One forward pass on the next test batch without gradients; returns its samples. Does not synchronise."""

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        """The whole recipe from fresh, seeded weights, whatever steps were taken before. `after_epoch` may evaluate; its time does not count."""

    def evaluate(self) -> Mapping[str, Quantity]:
        """Quality of the present weights on the test split, with intervals."""


class Workload(Protocol):
    """The declaration of one model with its dataset and its training recipe."""

    name: str
    family: str
    summary: str
    source: str  # document and section
    target: Target
    variants: Mapping[str, Variant]

    def facts(self, variant: str) -> Mapping[str, float]:
        """Numbers that follow from the architecture alone: parameters, checkpoint size, formulae."""

    def recipe(self, case: Case) -> Mapping[str, object]:
        """The resolved hyper-parameters of a case, JSON-ready; part of the record and of the comparability key."""

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        """The data that `open` would use, found out cheaply. Raises MissingData where a preset needs data that is not there."""

    def open(self, case: Case, resources: Resources) -> Session:
        """Data, model and optimiser on the device."""

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        """The suite's metrics for predictions made elsewhere. truth and prediction: [n] floats (regression) or
        [n] labels 0/1 and scores (classification); groups: [n] labels for the bootstrap, None resamples rows."""
