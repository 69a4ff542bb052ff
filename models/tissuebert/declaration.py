"""A read-level TissueBERT workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from assay.bench.case import Case, Quantity
from assay.datasets.card import DatasetIdentity
from assay.datasets.methylation import PAD, tokenise
from assay.models.tissuebert.bert import BertShape, TissueBert
from assay.models.tissuebert.data import identify_reads, open_reads
from assay.models.tissuebert.quality import score_given_classes
from assay.models.tissuebert.recipes import ReadRecipe, resolve
from assay.models.tissuebert.region import RegionNetwork, RegionShape
from assay.models.tissuebert.task import ReadSession, ReadTask
from assay.models.workload import Resources, Target, Variant

Array = np.ndarray


@cache
def count_parameters(shape: BertShape | RegionShape) -> int:
    """Trainable numbers of the network of a shape."""
    with torch.random.fork_rng(devices=[]):  # on the CPU, not on torch's meta device, whose first use takes a second
        network = RegionNetwork(shape) if isinstance(shape, RegionShape) else TissueBert(shape)
    return sum(weights.numel() for weights in network.parameters())


@dataclass(kw_only=True)
class ReadWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    variants: Mapping[str, Variant]
    recipes: Mapping[str, ReadRecipe]
    family: str = "tissuebert"
    target: Target = field(default_factory=lambda: Target(metric="accuracy", higher_is_better=True))

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters; checkpoint_mb and gradients_gb (10^6 and 10^9 bytes of float32); tokens_of_150_bases; chance_loss, the cross-entropy of
        a model that knows nothing: ln(classes). All of the documented network, also where the smoke preset trains one layer of it."""
        shape = self.recipes[variant].shape
        parameters = count_parameters(shape)
        size = parameters * torch.finfo(torch.float32).bits / 8
        tokens = tokenise(np.zeros((1, 150), dtype=np.uint8))
        return {
            "parameters": float(parameters),
            "checkpoint_mb": size / 1e6,
            "gradients_gb": size / 1e9,
            "tokens_of_150_bases": float((tokens != PAD).sum()),
            "chance_loss": math.log(shape.classes),
        }

    def recipe(self, case: Case) -> Mapping[str, object]:
        return resolve(self.recipes[case.variant], case).to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        return identify_reads(resolve(self.recipes[case.variant], case), case, data)

    def open(self, case: Case, resources: Resources) -> ReadSession:
        resolved = resolve(self.recipes[case.variant], case)
        training = resolved.recipe.training
        if resources.batch is not None:
            training = replace(training, batch=resources.batch)
        data = open_reads(resolved, case, resources.data)
        rows = data.card.rows
        return ReadSession(
            ReadTask(resolved, data),
            data.splits,
            training,
            card=data.card,
            conditions={
                "dataset": data.card.identity.name,
                "n_train": rows["train"],
                "n_test": rows["test"],
                "classes": resolved.recipe.shape.classes,
                "tokens": data.width,
                "epochs": training.epochs,
                "batch": training.batch,
            },
            unit="sequences",
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return score_given_classes(truth, prediction, groups)
