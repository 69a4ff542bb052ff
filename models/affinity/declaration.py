"""An affinity workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import nn

from assay.bench.case import Case, Quantity
from assay.datasets.abag import SPLIT_FRACTIONS, SPLIT_SEED
from assay.datasets.abag_twin import DOCUMENTED_ROWS
from assay.datasets.card import DatasetIdentity
from assay.datasets.splits import split_random
from assay.models.affinity.data import identify_data, open_data
from assay.models.affinity.networks import AffinityNetwork, count_parameters
from assay.models.affinity.recipes import AffinityRecipe, find_restarts, resolve
from assay.models.affinity.scoring import score_affinity
from assay.models.affinity.task import AffinityTask, make_splits
from assay.models.training import TrainingSession
from assay.models.workload import Resources, Target, Variant

Array = np.ndarray
DOCUMENTED_STEPS = 180_900  # 100 epochs of ceil(231,532 / 128)


@dataclass(kw_only=True)
class AffinityWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    variants: Mapping[str, Variant]
    recipes: Mapping[str, AffinityRecipe]
    family: str = "affinity"
    target: Target = field(default_factory=lambda: Target(metric="spearman", higher_is_better=True))

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters, linear_parameters, checkpoint_mb (10^6 bytes of float32 weights and batch-norm statistics), rows per split of the
        documented table, and where the schedule restarts: first_restart_epoch and second_restart_epoch (0-based)."""
        recipe = self.recipes[variant]
        network = AffinityNetwork(recipe.shape)
        facts = {
            "parameters": float(count_parameters(network)),
            "linear_parameters": float(count_parameters(network, nn.Linear)),
            "checkpoint_mb": sum(tensor.nbytes for tensor in network.state_dict().values()) / 1e6,
        }
        for part, rows in split_random(DOCUMENTED_ROWS, SPLIT_FRACTIONS, SPLIT_SEED).sizes.items():
            facts[f"{part}_rows_of_{DOCUMENTED_ROWS}"] = float(rows)
        if recipe.training.schedule.kind == "cosine-restarts":
            facts["first_restart_epoch"], facts["second_restart_epoch"] = map(float, find_restarts(recipe.training))
        return facts

    def recipe(self, case: Case) -> Mapping[str, object]:
        return resolve(self.recipes[case.variant], case).to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_data(case.preset, data, self.recipes[case.variant])

    def open(self, case: Case, resources: Resources) -> TrainingSession:
        recipe = resolve(self.recipes[case.variant], case)
        training = recipe.training if resources.batch is None else replace(recipe.training, batch=resources.batch)
        data = open_data(case.preset, recipe, resources)
        rows = data.split.sizes
        steps = training.epochs * math.ceil(rows["train"] / training.batch)
        note = f"{steps:,} optimiser steps of {training.batch} pairs; the documented run takes {DOCUMENTED_STEPS:,} of 128"
        return TrainingSession(
            AffinityTask(recipe, data),
            make_splits(recipe, data),
            training,
            card=replace(data.card, notes=(*data.card.notes, note)),
            conditions={
                "dataset": data.card.identity.name,
                "split": recipe.split,
                "n_train": rows["train"],
                "n_test": rows["test"],
                "epochs": training.epochs,
                "batch": training.batch,
            },
            unit="pairs",
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return score_affinity(truth, prediction, groups)
