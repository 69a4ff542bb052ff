"""A file-level TissueBERT workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.bench.case import Case, Quantity
from assay.datasets.card import DatasetIdentity
from assay.datasets.methylation import TISSUES
from assay.datasets.methylation_samples import Samples
from assay.models.dropout import quicken_dropout
from assay.models.tissuebert.deconvolution import MixtureTask, PhasedSession, score_shares
from assay.models.tissuebert.file_network import FileNetwork, FileShape
from assay.models.tissuebert.quality import count_confusions, score_classes, score_given_classes
from assay.models.tissuebert.sample_data import SampleData, identify_samples, open_samples
from assay.models.tissuebert.sample_recipes import SampleRecipe, resolve
from assay.models.training import Batch, Recipe, Splits, TrainingSession
from assay.models.workload import Resources, Session, Target, Variant

Array = np.ndarray


class FileTask:
    """Classifies whole samples. A batch is (methylation [B, regions], label [B])."""

    def __init__(self, recipe: SampleRecipe, test: Samples) -> None:
        self._recipe, self._label = recipe, test.label

    def build(self) -> nn.Module:
        network = FileNetwork(self._recipe.shape)
        return quicken_dropout(network) if self._recipe.quick_dropout else network

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        return F.cross_entropy(model(batch[0]).float(), batch[1])

    def predict(self, model: nn.Module, batch: Batch) -> Tensor:
        logits: Tensor = model(batch[0])
        return logits.float()

    def score(self, prediction: np.ndarray) -> Mapping[str, Quantity]:
        return score_classes(self._label, prediction)

    def tabulate(self, prediction: np.ndarray) -> Mapping[str, Sequence[float]]:
        """The confusion matrix of logits [n, 22], a row per true class that occurs."""
        return count_confusions(self._label, prediction.argmax(axis=1), TISSUES)


class FileSession(TrainingSession):
    """Leaves the confusion matrix beside the scores."""

    curves: Mapping[str, Sequence[float]]

    def evaluate(self) -> Mapping[str, Quantity]:
        prediction = self.predict_test()
        if isinstance(self._task, FileTask):
            self.curves = self._task.tabulate(prediction)
        return self._task.score(prediction)


@cache
def count_parameters(shape: FileShape) -> int:
    """Trainable numbers of the network of a shape."""
    with torch.device("meta"):
        return sum(weights.numel() for weights in FileNetwork(shape).parameters())


@dataclass(kw_only=True)
class SampleWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    target: Target
    variants: Mapping[str, Variant]
    recipes: Mapping[str, SampleRecipe]
    family: str = "tissuebert"

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters, checkpoint_mb (10^6 bytes of float32 parameters), regions and chance_loss ln(classes), all of the documented network."""
        shape = self.recipes[variant].shape
        parameters = float(count_parameters(shape))
        return {"parameters": parameters, "checkpoint_mb": parameters * 4 / 1e6, "regions": float(shape.regions), "chance_loss": math.log(shape.classes)}

    def recipe(self, case: Case) -> Mapping[str, object]:
        return resolve(self.recipes[case.variant], case).to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_samples(resolve(self.recipes[case.variant], case), case, data)

    def open(self, case: Case, resources: Resources) -> Session:
        recipe = resolve(self.recipes[case.variant], case)
        data = open_samples(recipe, case, resources.data)
        if recipe.task == "classify":
            splits = Splits(_as_batch(data.train), None, _as_batch(data.test))
            return _open(FileSession, FileTask(recipe, data.test), splits, recipe.training, data, case, resources)
        phases = []
        for phase in recipe.phases:
            task = MixtureTask(recipe.shape, phase.stage, phase.mixtures, data.train, data.test, resources.device)
            phases.append((task, _open(TrainingSession, task, task.splits, phase.training, data, case, resources)))
        return PhasedSession(phases)

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        if self.target.metric == "mae":
            return score_shares(truth, prediction, groups=groups)
        return score_given_classes(truth, prediction, groups)


def _open(
    kind: type[TrainingSession], task: FileTask | MixtureTask, splits: Splits, training: Recipe, data: SampleData, case: Case, resources: Resources
) -> TrainingSession:
    training = training if resources.batch is None else replace(training, batch=resources.batch)
    return kind(
        task,
        splits,
        training,
        card=data.card,
        conditions={
            "dataset": data.card.identity.name,
            "n_train": len(splits.train[0]),
            "n_test": len(splits.test[0]),
            "regions": data.train.methylation.shape[1],
            "epochs": training.epochs,
            "batch": training.batch,
        },
        unit="samples" if isinstance(task, FileTask) else "mixtures",
        device=resources.device,
        precision=case.precision,
        seed=resources.seed,
    )


def _as_batch(samples: Samples) -> Batch:
    return torch.from_numpy(samples.methylation), torch.from_numpy(samples.label)
