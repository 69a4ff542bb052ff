"""What the training loop needs to know of each splice network: its loss, its predictions, its quality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.bench.case import Quantity
from assay.datasets.splice_variants import SpliceVariants
from assay.models.splice.encoder import BaseEncoding
from assay.models.splice.quality import choose_groups, score_deltas, score_effects, score_probabilities
from assay.models.splice.siamese import CLASSIFICATION_WEIGHT, REPORTED_TAU, TAUS, pinball_loss, read_out
from assay.models.training import Batch

EFFECT_WEIGHT = 0.5


class VariantBatch(NamedTuple):
    """Rows of SpliceVariants as tensors."""

    alternative: Tensor  # uint8 [B, L]
    reference: Tensor  # uint8 [B, L]
    bases: Tensor  # uint8 [B, 2], reference and alternative base
    position: Tensor  # int64 [B]
    target: Tensor  # float32 [B, 3]
    label: Tensor  # float32 [B]
    effect: Tensor  # int64 [B]

    @classmethod
    def of(cls, variants: SpliceVariants) -> VariantBatch:
        """Every variant, in order."""
        bases = np.stack([variants.reference_base, variants.alternative_base], axis=1)
        arrays = (variants.alternative, variants.reference, bases, variants.position, variants.target, variants.label.astype(np.float32), variants.effect)
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


class EncodedNetwork(nn.Module):
    """A network behind the one-hot encoding of its input."""

    def __init__(self, network: nn.Module, *, n_as_a: bool) -> None:
        super().__init__()
        self.encoding = BaseEncoding(n_as_a=n_as_a)
        self.network = network

    def forward(self, *codes: Tensor) -> Any:
        """The network's output for its inputs as base codes."""
        return self.network(*(self.encoding(code) for code in codes))


class SpliceTask(ABC):
    """Implements assay.models.training.Task for a network and the test variants that it is judged on."""

    def __init__(self, make_network: Callable[[], nn.Module], test: SpliceVariants, *, n_as_a: bool) -> None:
        self._make_network, self._n_as_a = make_network, n_as_a
        self._label, self._effect = test.label, test.effect
        self._size = np.abs(test.target).max(axis=1)
        self._groups = choose_groups(test)

    def build(self) -> nn.Module:
        return EncodedNetwork(self._make_network(), n_as_a=self._n_as_a)

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Scalar loss of a batch."""

    @abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        """[B, ...] predictions of a batch."""

    def rank(self, prediction: np.ndarray) -> np.ndarray:
        """[n, ...] predictions -> [n] one number per variant, larger for one that is more likely Splice-altering."""
        largest: np.ndarray = np.abs(prediction).max(axis=1)
        return largest

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_deltas(self._label, self._size, self.rank(prediction), self._groups)


class DeltaTask(SpliceTask):
    """Mean squared error of three deltas from one pass over the alternative sequence; judged by the largest magnitude."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(self.predict(model, batch), VariantBatch(*batch).target)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        output = model(rows.alternative, rows.bases)
        deltas: Tensor = output[0] if isinstance(output, tuple) else output  # the attention variant returns its weights too
        return deltas.float()


class ClassifierTask(SpliceTask):
    """Binary cross-entropy of the Splice-altering probability."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.binary_cross_entropy_with_logits(self._logits(model, batch), VariantBatch(*batch).label)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        return torch.sigmoid(self._logits(model, batch))

    def rank(self, prediction: np.ndarray) -> np.ndarray:
        return prediction

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_probabilities(self._label, prediction, self._groups)

    @staticmethod
    def _logits(model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        logits: Tensor = model(rows.alternative, rows.bases)
        return logits.float().squeeze(-1)


class EffectTask(SpliceTask):
    """Cross-entropy over the six effect types; the share not given to Normal is the Splice-altering probability."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(self.predict(model, batch), VariantBatch(*batch).effect)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        logits: Tensor = model(rows.alternative, rows.bases)
        return logits.float()

    def rank(self, prediction: np.ndarray) -> np.ndarray:
        altering: np.ndarray = 1 - torch.from_numpy(prediction).softmax(dim=-1)[:, 0].numpy()
        return altering.clip(0, 1)

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        binary = score_probabilities(self._label, self.rank(prediction), self._groups)
        return {**binary, **score_effects(self._effect, prediction, self._groups)}


class UnifiedTask(EffectTask):
    """Binary cross-entropy plus half the cross-entropy of the effect types."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        logits = self.predict(model, batch)
        binary = F.binary_cross_entropy_with_logits(logits[:, 0], rows.label)
        return binary + EFFECT_WEIGHT * F.cross_entropy(logits[:, 1:], rows.effect)

    def rank(self, prediction: np.ndarray) -> np.ndarray:
        altering: np.ndarray = torch.from_numpy(prediction[:, 0]).sigmoid().numpy()
        return altering

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        binary = score_probabilities(self._label, self.rank(prediction), self._groups)
        return {**binary, **score_effects(self._effect, prediction[:, 1:], self._groups)}


class PairedTask(SpliceTask):
    """Mean squared error of donor and acceptor delta, read out near the variant from deltas per position."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.mse_loss(self.predict(model, batch), VariantBatch(*batch).target[:, :2])

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        return read_out(model(rows.reference, rows.alternative).float(), rows.position)


class QuantileTask(SpliceTask):
    """Pinball loss averaged over the quantiles; the reported prediction is the 0.9 quantile."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        deltas = model(rows.reference, rows.alternative).float()
        losses = [pinball_loss(read_out(each, rows.position), rows.target[:, :2], tau) for tau, each in zip(TAUS, deltas, strict=True)]
        return torch.stack(losses).mean()

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        return read_out(model(rows.reference, rows.alternative)[TAUS.index(REPORTED_TAU)].float(), rows.position)


class HybridTask(SpliceTask):
    """0.7 times the mean squared error of the deltas plus 0.3 times the binary cross-entropy of the class."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        deltas, logits = model(rows.reference, rows.alternative)
        regression = F.mse_loss(read_out(deltas.float(), rows.position), rows.target[:, :2])
        classification = F.binary_cross_entropy_with_logits(logits.float(), rows.label)
        return (1 - CLASSIFICATION_WEIGHT) * regression + CLASSIFICATION_WEIGHT * classification

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        rows = VariantBatch(*batch)
        return read_out(model(rows.reference, rows.alternative)[0].float(), rows.position)
