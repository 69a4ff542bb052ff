"""A splice workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from assay.bench.case import Case, Quantity
from assay.datasets.card import DatasetIdentity
from assay.datasets.splice_variants import SpliceVariants, TargetRecipe
from assay.models.splice.data import SpliceData, identify_data, open_data
from assay.models.splice.recipes import ResolvedRecipe, SpliceRecipe, resolve
from assay.models.splice.tasks import SpliceTask
from assay.models.training import TrainingSession
from assay.models.workload import Resources, Target, Variant

Array = np.ndarray
Score = Callable[[Array, Array, Array | None], Mapping[str, Quantity]]


@dataclass(kw_only=True)
class SpliceWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    target: Target
    variants: Mapping[str, Variant]
    recipes: Mapping[str, SpliceRecipe]
    score_predictions: Score
    family: str = "splice"

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters; checkpoint_mb (10^6 bytes of float32 weights); delta_ceiling_double_softmax, the largest delta that
        base-model scores can show after a second softmax."""
        with torch.device("meta"):
            parameters = sum(weights.numel() for weights in self.recipes[variant].build().parameters())
        return {
            "parameters": float(parameters),
            "checkpoint_mb": parameters * torch.finfo(torch.float32).bits / 8 / 1e6,
            "delta_ceiling_double_softmax": find_double_softmax_ceiling(),
        }

    def recipe(self, case: Case) -> Mapping[str, object]:
        return self.resolve(case).to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_data(self.resolve(case), case, data)

    def open(self, case: Case, resources: Resources) -> TrainingSession:
        return self.open_on(open_data(self.resolve(case), case, resources.data, resources.cache), case, resources)

    def open_on(self, data: SpliceData, case: Case, resources: Resources) -> TrainingSession:
        """A session on data that are read already."""
        recipe = self.resolve(case)
        training = recipe.run.training if resources.batch is None else replace(recipe.run.training, batch=resources.batch)
        rows = data.card.rows
        return TrainingSession(
            self.make_task(case, data.test),
            data.splits,
            training,
            card=data.card,
            conditions={
                "dataset": data.card.identity.name,
                "targets": str(recipe.variant.targets),
                "n_train": rows["train"],
                "n_test": rows["test"],
                "length_nt": data.test.length,
                "epochs": training.epochs,
                "batch": training.batch,
            },
            unit="variants",
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    def make_task(self, case: Case, test: SpliceVariants, data: Path | None = None) -> SpliceTask:  # noqa: ARG002  # published weights may lie in `data`
        """The variant's network, loss and quality on `test`."""
        recipe = self.resolve(case)
        return recipe.variant.task(recipe.variant.build, test, n_as_a=recipe.variant.targets is TargetRecipe.DOCUMENTED)

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return self.score_predictions(truth, prediction, groups)

    def resolve(self, case: Case) -> ResolvedRecipe:
        """The recipe of a case."""
        return resolve(self.recipes[case.variant], case)


def find_double_softmax_ceiling() -> float:
    """Largest difference between two softmaxes over three probabilities that each sum to one: (e - 1) / (e + 2) = 0.3642."""
    certain = torch.eye(3, dtype=torch.float64).softmax(dim=-1)
    return float((certain[0] - certain[1]).max())
