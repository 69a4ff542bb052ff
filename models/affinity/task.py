"""What the training loop needs to know of the affinity networks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor, nn

from assay.bench.case import Quantity
from assay.models.affinity.data import AffinityData, take
from assay.models.affinity.loss import compute_class_weights, focal_mse, weigh_rows, weighted_mse
from assay.models.affinity.networks import AffinityNetwork
from assay.models.affinity.recipes import AffinityRecipe
from assay.models.affinity.scoring import score_affinity
from assay.models.dropout import quicken_dropout
from assay.models.training import Batch, Splits


class AffinityTask:
    """Predicts pKd. A batch is (features [B, 150], pKd [B], class weight [B]); weights are looked up once, not per step."""

    def __init__(self, recipe: AffinityRecipe, data: AffinityData) -> None:
        self._recipe = recipe
        self._truth = data.pkd[data.split.test]
        self._complexes = data.complexes[data.split.test]

    def build(self) -> nn.Module:
        network = AffinityNetwork(self._recipe.shape)
        return quicken_dropout(network) if self._recipe.quick_dropout else network

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        features, target, weight = batch
        prediction = model(features).float()  # squares of bfloat16 errors would lose what the extreme weights magnify
        if self._recipe.focal_gamma is None:
            return weighted_mse(prediction, target, weight)
        return focal_mse(prediction, target, weight, self._recipe.focal_gamma)

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        prediction: Tensor = model(batch[0])
        return prediction

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_affinity(self._truth, prediction, self._complexes)


def make_splits(recipe: AffinityRecipe, data: AffinityData) -> Splits:
    """The three splits as batches; class weights come from the training rows and apply to all three."""
    class_weights = compute_class_weights(data.pkd[data.split.train], recipe.extreme_factor)

    def as_batch(rows: np.ndarray) -> Batch:
        pkd = take(data.pkd, rows)
        return take(data.features, rows), pkd, weigh_rows(pkd, class_weights)

    return Splits(as_batch(data.split.train), as_batch(data.split.validation), as_batch(data.split.test))
