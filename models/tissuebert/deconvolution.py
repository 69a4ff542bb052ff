"""Shares of tissues in a mixture: task, quality beside non-negative least squares, and training in phases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.bench.case import Quantity
from assay.datasets.methylation_samples import BLOOD, Samples, Stage, draw_proportions, mask_blood, mix, solve_nnls
from assay.models.metrics import Metric, compute_mae, compute_r2, score_with_intervals
from assay.models.tissuebert.file_network import FileNetwork, FileShape, to_proportions
from assay.models.tissuebert.sample_recipes import TEST_MIXTURES
from assay.models.training import Batch, Splits, TrainingSession
from assay.models.workload import History, Progress

Array = np.ndarray

SEED = 42
"""Of the mixtures: they do not change with the training seed."""
HARD_THRESHOLDS = (0.05, 0.03)


class MixtureTask:
    """Predicts shares. A training batch is (shares,), mixed anew from the training samples each time; a test batch (shares, mixture)."""

    def __init__(self, shape: FileShape, stage: Stage, mixtures: int, train: Samples, test: Samples, device: torch.device) -> None:
        self._shape, self._stage = shape, stage
        self.start: Mapping[str, Tensor] | None = None
        """Weights to begin with; None: fresh ones."""
        order = np.argsort(train.label, kind="stable")
        self._samples = torch.from_numpy(train.methylation[order]).to(device)
        counts = np.bincount(train.label, minlength=len(np.unique(train.label)))
        self._counts = torch.from_numpy(counts).to(device)
        self._first = self._counts.cumsum(0) - self._counts
        shares = draw_proportions(stage, TEST_MIXTURES, SEED + 1)
        tested = mix(test, shares, SEED + 2)
        self.splits = Splits((torch.from_numpy(draw_proportions(stage, mixtures, SEED)),), None, (torch.from_numpy(shares), torch.from_numpy(tested)))
        masked = stage is Stage.BLOOD_MASKED
        baseline = solve_nnls(train, tested)
        self._truth = mask_blood(shares) if masked else shares
        self._baseline = mask_blood(baseline) if masked else baseline

    def build(self) -> nn.Module:
        network = FileNetwork(self._shape)
        if self.start is not None:
            network.load_state_dict(self.start)
        return network

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        shares = batch[0]
        mixture = batch[1] if len(batch) > 1 else self._mix(shares)
        return F.mse_loss(to_proportions(model(mixture).float()), self._mask(shares))

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        return to_proportions(model(batch[1]).float())

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_shares(self._truth, prediction, self._baseline)

    def _mix(self, shares: Tensor) -> Tensor:
        # of each tissue one sample at random, all mixtures in one product
        drawn = (torch.rand(shares.shape, device=shares.device) * self._counts).long() + self._first
        weights = torch.zeros(len(shares), len(self._samples), device=shares.device).scatter_(1, drawn, shares)
        return weights @ self._samples

    def _mask(self, shares: Tensor) -> Tensor:
        if self._stage is not Stage.BLOOD_MASKED:
            return shares
        others = torch.cat([shares[:, :BLOOD], shares[:, BLOOD + 1 :]], dim=1)
        return others / others.sum(dim=1, keepdim=True)


class PhasedSession:
    """Trains phases one after the other, each from the weights of the one before; steps, inference and quality are the last one's.

    Implements assay.models.workload.Session.
    """

    def __init__(self, phases: Sequence[tuple[MixtureTask, TrainingSession]]) -> None:
        self._phases, self._last = phases, phases[-1][1]
        self.card, self.conditions, self.unit = self._last.card, self._last.conditions, self._last.unit
        self.model = self._last.model

    def step(self) -> int:
        return self._last.step()

    def infer(self) -> int:
        return self._last.infer()

    def evaluate(self) -> Mapping[str, Quantity]:
        return self._last.evaluate()

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        """Every phase in full. `after_epoch` follows the last phase only: the others train another task."""
        histories: list[History] = []
        for number, (task, session) in enumerate(self._phases):
            task.start = self._phases[number - 1][1].model.state_dict() if number else None
            name = f"phase {number + 1}/{len(self._phases)}, "

            def report(done: int, total: int, note: str, name: str = name) -> None:
                progress(done, total, name + note)

            histories.append(session.fit(report, after_epoch if session is self._last else None))
        self.model = self._last.model  # a training builds its network anew
        return _join(histories)


def _join(histories: Sequence[History]) -> History:
    offsets = [0.0, *accumulate(history.seconds[-1] for history in histories)]
    seconds = [second + offset for history, offset in zip(histories, offsets, strict=False) for second in history.seconds]
    losses = [loss for history in histories for loss in history.train_loss]
    last = histories[-1]
    return History(losses, (), seconds, histories[0].first_loss, len(losses) - len(last.train_loss) + last.best_epoch, last.stopped_early)


def score_shares(truth: Array, prediction: Array, baseline: Array | None = None, groups: Array | None = None) -> Mapping[str, Quantity]:
    """MAE and R2 over all shares [n, tissues], those after each re-normalisation, and those of the NNLS baseline on the same mixtures."""
    scores = dict(score_with_intervals([Metric("mae", "share", compute_mae), Metric("r2", "R2", compute_r2)], truth, prediction, groups))
    others = {"nnls": baseline} if baseline is not None else {}
    if prediction.ndim > 1:
        others |= {f"hard{threshold}": cut_hard(prediction, threshold) for threshold in HARD_THRESHOLDS} | {"soft": cut_soft(prediction)}
    for name, shares in others.items():
        found = score_with_intervals([Metric("mae", "share", compute_mae), Metric("r2", "R2", compute_r2)], truth, shares, groups)
        scores |= {f"{metric}_{name}": value for metric, value in found.items()}
    return scores


def cut_hard(shares: Array, threshold: float) -> Array:
    """[n, tissues] shares below the threshold become 0, the others sum to 1; a row without any other keeps its largest."""
    kept = np.where((shares >= threshold) | (shares == shares.max(axis=1, keepdims=True)), shares, 0)
    return np.asarray(kept / kept.sum(axis=1, keepdims=True))


def cut_soft(shares: Array) -> Array:
    """[n, tissues] shares weighted by sigmoid((p - 0.05) x 10), then summing to 1."""
    weighted = shares / (1 + np.exp(-(shares - 0.05) * 10))
    return np.asarray(weighted / weighted.sum(axis=1, keepdims=True))
