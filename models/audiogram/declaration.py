"""The audiogram workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from assay.bench.case import Case, Quantity
from assay.datasets.card import DatasetIdentity
from assay.models.audiogram.data import identify_data, open_data
from assay.models.audiogram.networks import ContrastiveVae, count_parameters
from assay.models.audiogram.quality import score_thresholds
from assay.models.audiogram.recipes import AudiogramRecipe, resolve
from assay.models.audiogram.session import AudiogramSession
from assay.models.workload import Resources, Target, Variant

Array = np.ndarray


@dataclass(kw_only=True)
class AudiogramWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    variants: Mapping[str, Variant]
    recipes: Mapping[str, AudiogramRecipe]
    family: str = "audiogram"
    target: Target = field(default_factory=lambda: Target(metric="abr_rmse", higher_is_better=False))

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters; checkpoint_mb (10^6 bytes of float32 weights and batch-norm statistics); weights_gb (10^9 bytes of the parameters)."""
        shape = self.recipes[variant].shape
        parameters = count_parameters(shape)
        return {
            "parameters": float(parameters),
            "checkpoint_mb": sum(tensor.nbytes for tensor in ContrastiveVae(shape).state_dict().values()) / 1e6,
            "weights_gb": 4 * parameters / 1e9,
        }

    def recipe(self, case: Case) -> Mapping[str, object]:
        return resolve(self.recipes[case.variant], case).to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_data(case.preset, data)

    def open(self, case: Case, resources: Resources) -> AudiogramSession:
        recipe = resolve(self.recipes[case.variant], case)
        if resources.batch is not None:
            recipe = replace(recipe, batch=resources.batch)
        data = open_data(case.preset, recipe, resources.data, resources.device)
        return AudiogramSession(
            recipe,
            data,
            conditions={
                "dataset": data.card.identity.name,
                "n_train": len(data.train),
                "n_test": len(data.test),
                "epochs": recipe.pretrain_epochs + recipe.joint_epochs,
                "batch": recipe.batch,
                "recipe": "corrected" if recipe.whole_target else "original",
            },
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return score_thresholds(truth, prediction, groups)
