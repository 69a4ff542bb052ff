"""What the training loop needs to know of the read-level models, and the session that adds what only the document's test asks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.bench.case import Quantity
from assay.models.tissuebert.data import ReadData, fetch
from assay.models.tissuebert.quality import count_confusions, score_classes
from assay.models.tissuebert.recipes import ResolvedRead
from assay.models.training import Batch, TrainingSession
from assay.models.transfer import send, send_rows

FIRST_LOSSES = 8
"""Fresh trainings whose first loss is taken."""
_T_975 = 2.365  # Student's t of 7 degrees of freedom


class ReadTask:
    """Classifies reads. Implements assay.models.training.Task; a batch is (tokens, states, label), or (row,), in the host's memory, of a streamed source."""

    def __init__(self, resolved: ResolvedRead, data: ReadData) -> None:
        self._recipe, self._data = resolved.recipe, data
        self.build = resolved.build(padded=data.padded)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        tokens, states, label = self._read(model, batch)
        # in float32: 39 exponentials in bfloat16 would round the loss to two digits
        return F.cross_entropy(self._classify(model, tokens, states), label, label_smoothing=self._recipe.label_smoothing)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        tokens, states, _ = self._read(model, batch)
        return self._classify(model, tokens, states)

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_classes(self._data.label, prediction, self._data.groups)

    def tabulate(self, prediction: np.ndarray) -> Mapping[str, Sequence[float]]:
        """The confusion matrix of logits [n, classes], a row per true class that occurs."""
        names = [*self._data.test.classes, *(f"class {number}" for number in range(len(self._data.test.classes), prediction.shape[1]))]
        return count_confusions(self._data.label, prediction.argmax(axis=1), names)

    def _classify(self, model: nn.Module, tokens: Tensor, states: Tensor) -> Tensor:
        logits: Tensor = model(tokens, states) if self._recipe.states else model(tokens)
        return logits.float()

    def _read(self, model: nn.Module, batch: Batch) -> Batch:
        if len(batch) > 1:
            return batch
        # test rows are streamed too, and a streamed source without parts holds both
        source = self._data.train if model.training else self._data.test
        device = next(model.parameters()).device
        return tuple(send(tensor, device) for tensor in fetch(source, batch[0].numpy(), self._data.width))


class ReadSession(TrainingSession):
    """Leaves the confusion matrix beside the scores; on random tokens also the document's two other numbers."""

    curves: Mapping[str, Sequence[float]]
    first_losses: tuple[float, ...] = ()

    def evaluate(self) -> Mapping[str, Quantity]:
        prediction = self.predict_test()
        task = self._task
        if isinstance(task, ReadTask):
            self.curves = task.tabulate(prediction)
        scores = dict(task.score(prediction))
        if self.card.identity.name == "random-tokens":
            scores |= {"train_loss_first": self._predict_first_loss(), "vram_allocated_gb": self._measure_allocated()}
        return scores

    def _predict_first_loss(self) -> Quantity:
        """Where the first loss of one more training falls with 95 % probability: weights, dropout and batch are drawn anew each time."""
        if not self.first_losses:
            devices = [self._device] if self._device.type == "cuda" else []
            with torch.random.fork_rng(devices), torch.no_grad():
                self.first_losses = tuple(self._draw_first_loss(seed) for seed in range(FIRST_LOSSES))
        mean, spread = float(np.mean(self.first_losses)), float(np.std(self.first_losses, ddof=1))
        reach = _T_975 * spread * math.sqrt(1 + 1 / FIRST_LOSSES)
        how = f"mean of {FIRST_LOSSES} fresh trainings; 95 % prediction interval of one more"
        return Quantity(mean, "loss", FIRST_LOSSES, mean - reach, mean + reach, how)

    def _draw_first_loss(self, seed: int) -> float:
        torch.manual_seed(seed)
        model = self._task.build().to(self._device).train()
        (rows,) = send_rows([torch.randperm(len(self._splits.train[0]))[: self._recipe.batch]], self._device)
        return float(self._task.loss(model, tuple(map(rows.take, self._splits.train))))

    def _measure_allocated(self) -> Quantity:
        if self._device.type != "cuda":
            return Quantity.missing("GB", f"torch counts allocated memory on CUDA devices, this case ran on {self._device.type}")
        return Quantity(torch.cuda.memory_allocated(self._device) / 1e9, "GB", how="torch's allocation after the last step, not a peak")
