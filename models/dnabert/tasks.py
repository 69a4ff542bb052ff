"""What the training loop needs to know of a classifier on the encoder, and the session of a frozen one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.bench.case import Precision, Quantity
from assay.models.dnabert.attention.registry import AttentionKind
from assay.models.dnabert.checkpoints import load_checkpoint
from assay.models.dnabert.network import DnabertEncoder, EncoderConfig, pack, pool_mean
from assay.models.dnabert.quality import score_classes
from assay.models.dnabert.recipes import L2
from assay.models.training import Batch, TrainingSession, autocast, take_in_order
from assay.models.workload import History, Progress

MAX_ITERATIONS = 500


class SequenceClassifier(nn.Module):
    """The encoder, the mean over its tokens, and one linear layer. Features are standardised where the encoder is frozen."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: EncoderConfig, classes: int, attention: AttentionKind) -> None:
        super().__init__()
        self.encoder = DnabertEncoder(config, attention)
        self.head = nn.Linear(config.hidden, classes)
        self.register_buffer("mean", torch.zeros(config.hidden))
        self.register_buffer("deviation", torch.ones(config.hidden))

    def embed(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids int64 [B, L], lengths int64 [B] in the host's memory -> float32 [B, hidden]."""
        tokens, packing = pack(ids, lengths)
        return pool_mean(self.encoder(tokens, packing), packing)

    def classify(self, embedding: Tensor) -> Tensor:
        """[B, hidden] -> logits [B, classes]."""
        logits: Tensor = self.head((embedding - self.mean) / self.deviation)
        return logits

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.embed(ids, lengths))


class ClassificationTask:
    """Implements assay.models.training.Task. A batch is (ids [B, L], lengths [B] in the host's memory, label [B])."""

    def __init__(self, config: EncoderConfig, classes: int, attention: AttentionKind, checkpoint: Path | None, label: np.ndarray) -> None:
        self._config, self._classes, self._attention, self._checkpoint, self._label = config, classes, attention, checkpoint, label

    def build(self) -> SequenceClassifier:
        model = SequenceClassifier(self._config, self._classes, self._attention)
        if self._checkpoint is not None:
            load_checkpoint(model.encoder, self._checkpoint)
        return model

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        ids, lengths, label = batch
        logits: Tensor = model(ids, lengths)
        return F.cross_entropy(logits.float(), label)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(*batch[:2])
        return logits.float().softmax(dim=-1)

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_classes(self._label, prediction, random_weights=self._checkpoint is None)


class FrozenSession(TrainingSession):
    """Implements assay.models.workload.Session: the encoder embeds, a logistic regression on standardised embeddings is solved.

    A step embeds one training batch, which is nearly all of the work; `fit` embeds all of them in the same order and solves.
    """

    def _restart(self) -> None:
        super()._restart()
        self._unread: list[Batch] = []

    def step(self) -> int:
        if not self._unread:
            self._unread = list(take_in_order(self._splits.train[:2], self._recipe.batch))[::-1]
        batch = self._unread.pop()
        self._embed(batch)
        return len(batch[0])

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        self._restart()
        began = time.perf_counter()
        *inputs, label = self._splits.train
        parts, done = [], 0
        for batch in take_in_order(tuple(inputs), self._recipe.batch):
            parts.append(self._embed(batch))
            done += len(parts[-1])
            progress(done, len(label), "embedding")
        first, last = solve_regression(self._classifier, torch.cat(parts), label)
        seconds = time.perf_counter() - began
        if after_epoch is not None:
            after_epoch()
        return History([last], [], [seconds], first, 0, stopped_early=False)

    @property
    def _classifier(self) -> SequenceClassifier:
        return cast(SequenceClassifier, self.model)

    def _embed(self, batch: Batch) -> Tensor:
        self.model.eval()
        with torch.no_grad(), autocast(self._device, self._precision):
            return self._classifier.embed(*batch).float()


def solve_regression(model: SequenceClassifier, embedding: Tensor, label: Tensor) -> tuple[float, float]:
    """Multinomial logistic regression with penalty 0.5 |w|^2 on standardised embeddings, solved by L-BFGS in float64.

    embedding: [n, hidden]; label: int64 [n]. Fills the model's mean, deviation and head; returns the mean log loss before and after.
    """
    wide = embedding.double()
    mean, deviation = wide.mean(dim=0), wide.std(dim=0, correction=0)
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))  # a constant feature stays out of the way
    features = (wide - mean) / deviation
    weight = torch.zeros_like(model.head.weight, dtype=torch.float64).requires_grad_()
    bias = torch.zeros_like(model.head.bias, dtype=torch.float64).requires_grad_()
    solver = torch.optim.LBFGS([weight, bias], max_iter=MAX_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def log_loss() -> Tensor:
        return F.cross_entropy(features @ weight.T + bias, label)

    def objective() -> Tensor:
        solver.zero_grad()
        value = log_loss() + 0.5 * L2 * weight.square().sum() / len(label)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    first = float(log_loss().detach())
    solver.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        model.mean.copy_(mean)
        model.deviation.copy_(deviation)
        model.head.weight.copy_(weight)
        model.head.bias.copy_(bias)
        return first, float(log_loss())


def element_type(precision: Precision) -> torch.dtype:
    """The dtype in which attention runs under a precision's autocast."""
    return {Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}.get(precision, torch.float32)
