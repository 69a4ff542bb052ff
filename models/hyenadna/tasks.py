"""What the training loop needs to know of HyenaDNA's splice predictors, and how published weights get into them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from torch import nn

from assay.bench.case import Quantity
from assay.datasets.splice_variants import SpliceVariants
from assay.models.hyenadna.checkpoints import Weights
from assay.models.hyenadna.heads import HyenaEncoded
from assay.models.splice.tasks import ClassifierTask, DeltaTask, PairedTask, SpliceTask


class HyenaTask(SpliceTask):
    """A splice task whose backbone starts from published weights, or from random ones; quality of the latter says so."""

    def __init__(self, make_predictor: Callable[[], HyenaEncoded], test: SpliceVariants, weights: Weights | None = None) -> None:
        super().__init__(make_predictor, test, n_as_a=False)
        self._make_predictor, self._weights = make_predictor, weights

    def build(self) -> nn.Module:
        model = self._make_predictor()
        if self._weights is not None:
            model.backbone.load_state_dict(self._weights.tensors)
        return model

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        scores = super().score(prediction)
        if self._weights is not None:
            return scores
        return {name: replace(quantity, how=f"backbone from random weights; {quantity.how}") for name, quantity in scores.items()}


class HyenaDeltaTask(HyenaTask, DeltaTask):
    """Three deltas, judged by the largest magnitude."""


class HyenaBinaryTask(HyenaTask, ClassifierTask):
    """The probability that a variant is Splice-altering."""


class HyenaPairedTask(HyenaTask, PairedTask):
    """Donor and acceptor delta, read out near the variant."""
