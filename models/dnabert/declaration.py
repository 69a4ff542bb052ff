"""A DNABERT workload: variants with their recipes, and how a case becomes a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from assay.bench.case import Case, Phase, Quantity
from assay.datasets.card import DatasetIdentity
from assay.models.dnabert.attention.registry import AttentionKind, choose_attention, require_attention
from assay.models.dnabert.data import identify_data, open_data
from assay.models.dnabert.network import PUBLISHED, TINY, DnabertEncoder, EncoderConfig
from assay.models.dnabert.quality import score_given
from assay.models.dnabert.recipes import DnabertRecipe, resolve
from assay.models.dnabert.tasks import ClassificationTask, FrozenSession, element_type
from assay.models.training import TrainingSession
from assay.models.workload import Resources, Session, Target, Variant

Array = np.ndarray
KERNEL_VARIANT = "published-kernel"
ATTENTION_PREFIX = "attention-"


@dataclass(kw_only=True)
class DnabertWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant that trains or evaluates."""

    name: str
    summary: str
    source: str
    model: str  # folder of the published weights below the data folder
    variants: Mapping[str, Variant]
    recipes: Mapping[str, DnabertRecipe]
    family: str = "dnabert"
    target: Target = field(default_factory=lambda: Target(metric="mcc", higher_is_better=True))

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters of the variant's encoder with its pooler, at the size of every preset but smoke; parameters_without_pooler;
        checkpoint_mb (10^6 bytes of float32 weights). Attention cases take the published sizes."""
        recipe = self.recipes.get(variant)
        return _count(PUBLISHED if recipe is None else recipe.network)

    def recipe(self, case: Case) -> Mapping[str, object]:
        if case.variant in self.recipes:
            return resolve(self.recipes[case.variant], case).to_dict()
        return {"variant": case.variant, "heads": PUBLISHED.heads, "head_width": PUBLISHED.hidden // PUBLISHED.heads}

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        if case.phase is Phase.ATTENTION:
            from assay.models.dnabert.attention_cases import identify_lengths, identify_published_call

            return identify_published_call() if case.variant == KERNEL_VARIANT else identify_lengths(case.preset)
        return identify_data(resolve(self.recipes[case.variant], case), case, data, self.model)

    def open(self, case: Case, resources: Resources) -> Session:
        if case.phase is Phase.ATTENTION:
            from assay.models.dnabert.attention_cases import AttentionSession, PublishedCallSession

            if case.variant == KERNEL_VARIANT:
                return PublishedCallSession()
            return AttentionSession(AttentionKind(case.variant.removeprefix(ATTENTION_PREFIX)), case, resources)
        return self._open_classifier(resolve(self.recipes[case.variant], case), case, resources)

    def _open_classifier(self, recipe: DnabertRecipe, case: Case, resources: Resources) -> TrainingSession:
        training = recipe.training if resources.batch is None else replace(recipe.training, batch=resources.batch)
        attention = self._settle_attention(recipe, case, resources.device)
        data = open_data(recipe, case, resources.data, self.model)
        rows = data.card.rows
        session = FrozenSession if recipe.mode == "frozen" else TrainingSession
        return session(
            ClassificationTask(recipe.network, data.classes, attention, data.checkpoint, data.splits.test[2].numpy()),
            data.splits,
            training,
            card=data.card,
            conditions={
                "dataset": data.card.identity.name,
                "weights": "random" if data.checkpoint is None else "published",
                "tokenizer": data.tokenizer,
                "network": name_network(recipe.network),
                "attention": str(attention),
                "n_train": rows["train"],
                "n_test": rows["test"],
                "epochs": training.epochs,
                "batch": training.batch,
            },
            unit="sequences",
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    @staticmethod
    def _settle_attention(recipe: DnabertRecipe, case: Case, device: torch.device) -> AttentionKind:
        dtype, needs_gradient = element_type(case.precision), recipe.mode == "fine-tuned"
        if recipe.attention == "fastest":
            return choose_attention(device, dtype, needs_gradient=needs_gradient)
        kind = AttentionKind(recipe.attention)
        require_attention(kind, device, dtype, needs_gradient=needs_gradient)
        return kind

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return score_given(truth, prediction, groups)


def name_network(config: EncoderConfig) -> str:
    """The size in words, for a record's conditions."""
    if config == PUBLISHED:
        return "117m"
    return "tiny, not a published size" if config == TINY else f"{config.layers} layers of {config.hidden}"


@cache
def _count(config: EncoderConfig) -> Mapping[str, float]:
    with torch.device("meta"):
        encoder = DnabertEncoder(config)
    total, pooler = (sum(weights.numel() for weights in module.parameters()) for module in (encoder, encoder.pooler))
    return {"parameters": float(total), "parameters_without_pooler": float(total - pooler), "checkpoint_mb": total * 4 / 1e6}
