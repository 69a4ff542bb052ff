"""A HyenaDNA workload: the splice family's data and metrics behind another network, and where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from assay.bench.case import Case, Preset, Quantity
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData, hash_files, join_identity
from assay.datasets.splice_variants import SpliceVariants
from assay.models.hyenadna.checkpoints import ENVIRONMENT, Weights, find_weights, load_weights
from assay.models.hyenadna.network import count_published_numbers
from assay.models.hyenadna.recipes import HyenaRecipe, resolve_hyena
from assay.models.hyenadna.tasks import HyenaTask
from assay.models.splice.data import SpliceData, identify_data, open_data
from assay.models.splice.declaration import Score
from assay.models.splice.recipes import ResolvedRecipe
from assay.models.training import TrainingSession
from assay.models.workload import Array, Resources, Target, Variant


@dataclass(kw_only=True)
class HyenaWorkload:
    """Implements assay.models.workload.Workload; `recipes` holds the recipe of each variant."""

    name: str
    summary: str
    source: str
    target: Target
    variants: Mapping[str, Variant]
    recipes: Mapping[str, HyenaRecipe]
    score_predictions: Score
    family: str = "splice"

    def facts(self, variant: str) -> Mapping[str, float]:
        """parameters: of the backbone; with_head and head: of the whole predictor and of what is not backbone; trained: those that
        the variant lets learn; published_numbers: in the tensors of the `-hf` checkpoint, tables included; checkpoint_mb: 10^6 bytes
        of float32 weights of the whole predictor; context_nt: longest sequence in nucleotides."""
        recipe = self.recipes[variant]
        with torch.device("meta"):
            model = recipe.build()
        whole = sum(p.numel() for p in model.parameters())
        backbone = sum(p.numel() for p in model.backbone.parameters())
        return {
            "parameters": float(backbone),
            "head_parameters": float(whole - backbone),
            "parameters_with_head": float(whole),
            "trained_parameters": float(sum(p.numel() for p in model.parameters() if p.requires_grad)),
            "published_numbers": float(count_published_numbers(recipe.config, backbone)),
            "checkpoint_mb": whole * torch.finfo(torch.float32).bits / 8 / 1e6,
            "context_nt": float(recipe.config.context),
        }

    def recipe(self, case: Case) -> Mapping[str, object]:
        return self.resolve(case).to_dict() | self.recipes[case.variant].to_dict()

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        identity, path = identify_data(self.resolve(case), case, data), self._find_weights(case, data)
        return join_identity(identity, None if path is None else hash_files([path]))

    def open(self, case: Case, resources: Resources) -> TrainingSession:
        self._find_weights(case, resources.data)  # before data are read for nothing
        return self.open_on(open_data(self.resolve(case), case, resources.data, resources.cache), case, resources)

    def open_on(self, data: SpliceData, case: Case, resources: Resources) -> TrainingSession:
        """A session on data that are read already."""
        variant, training = self.recipes[case.variant], self.resolve(case).run.training
        training = training if resources.batch is None else replace(training, batch=resources.batch)
        weights = self._load_weights(case, resources.data)
        return TrainingSession(
            variant.task(variant.build, data.test, weights),
            data.splits,
            training,
            card=_annotate(data.card, variant, weights),
            conditions={
                "dataset": data.card.identity.name,
                "targets": str(variant.targets),
                "weights": "random" if weights is None else "pretrained",
                "n_train": data.card.rows["train"],
                "n_test": data.card.rows["test"],
                "length_nt": data.test.length,
                "epochs": training.epochs,
                "batch": training.batch,
            },
            unit="variants",
            device=resources.device,
            precision=case.precision,
            seed=resources.seed,
        )

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return self.score_predictions(truth, prediction, groups)

    def _find_weights(self, case: Case, data: Path | None) -> Path | None:
        """The published weights, or None: random ones. Raises MissingData without them under documented conditions, which random weights are not."""
        folder = f"hyenadna-{self.recipes[case.variant].model}"
        path = find_weights(self.recipes[case.variant].config, data)
        if path is None and case.preset is Preset.DOCUMENTED:
            remedy = f"Put them into weights/{folder} in the data folder or ${ENVIRONMENT}/{folder}; the presets standard and scale run on random weights"
            raise MissingData(folder, "no published weights there, from which the documented training starts", remedy)
        return path

    def resolve(self, case: Case) -> ResolvedRecipe:
        """The recipe of a case."""
        return resolve_hyena(self.recipes[case.variant], case)

    def make_task(self, case: Case, test: SpliceVariants, data: Path | None = None) -> HyenaTask:
        """The variant's network, its published weights where `data` has them, loss and quality on `test`."""
        variant = self.recipes[case.variant]
        return variant.task(variant.build, test, self._load_weights(case, data))

    def _load_weights(self, case: Case, data: Path | None) -> Weights | None:
        path = self._find_weights(case, data)
        return None if path is None else load_weights(path, self.recipes[case.variant].config)


def _annotate(card: DatasetCard, variant: HyenaRecipe, weights: Weights | None) -> DatasetCard:
    if weights is None:
        folder = f"hyenadna-{variant.model}"
        note = f"backbone: random weights, because neither ${ENVIRONMENT}/{folder} nor weights/{folder} in the data folder is there"
    else:
        note = f"backbone: {weights.path.parent.name}/{weights.path.name}, sha256 {weights.sha256}"
    return replace(card, identity=join_identity(card.identity, None if weights is None else weights.sha256), notes=(*card.notes, note))
