"""Ensembles and cross-validation of splice workloads as workloads: any inner workload and variant, k members or k folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from assay.bench.case import Case, Quantity
from assay.datasets.card import DatasetCard, DatasetIdentity
from assay.datasets.splice_variants import SpliceVariants
from assay.datasets.splits import assign_folds
from assay.models.splice.data import SpliceData, open_data, read_variants, split_variants
from assay.models.splice.ensemble.session import EnsembleSession, Kind
from assay.models.splice.ensemble.training import choose_lanes, measure_memory
from assay.models.splice.quality import score_given_deltas
from assay.models.splice.recipes import ResolvedRecipe
from assay.models.splice.tasks import SpliceTask
from assay.models.training import TrainingSession
from assay.models.workload import Resources, Target, Variant, ignore_progress

Array = np.ndarray

class Inner(Protocol):
    """A splice workload of which several can be trained: any that opens a session on rows that were chosen beforehand."""

    name: str

    def facts(self, variant: str) -> Mapping[str, float]:
        """As assay.models.workload.Workload has it; so have recipe and identify."""

    def recipe(self, case: Case) -> Mapping[str, object]:
        """The resolved hyper-parameters of a case."""

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        """The data that a case would use."""

    def resolve(self, case: Case) -> ResolvedRecipe:
        """The recipe of a case."""

    def open_on(self, data: SpliceData, case: Case, resources: Resources) -> TrainingSession:
        """A session on data that are read already."""

    def make_task(self, case: Case, test: SpliceVariants, data: Path | None = None) -> SpliceTask:
        """Network, loss and quality on `test`; data: where published weights may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnsembleRecipe:
    """count members or folds of a variant of a splice workload; member i trains with the case's seed + i."""

    inner: Inner
    variant: str
    kind: Kind
    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError(f"an ensemble has two {self.kind} or more, got {self.count}")

    def inner_case(self, case: Case) -> Case:
        """The case of the inner workload that one member is."""
        return Case(self.inner.name, self.variant, case.phase, case.preset, case.division, case.precision)


@dataclass(kw_only=True)
class EnsembleWorkload:
    """Implements assay.models.workload.Workload; `recipes` says what each variant is made of."""

    name: str
    summary: str
    source: str
    target: Target
    variants: Mapping[str, Variant]
    recipes: Mapping[str, EnsembleRecipe]
    family: str = "splice"

    def facts(self, variant: str) -> Mapping[str, float]:
        """members; parameters and checkpoint_mb of all of them together, heads included."""
        recipe = self.recipes[variant]
        inner = recipe.inner.facts(recipe.variant)
        parameters = inner.get("parameters_with_head", inner["parameters"])
        return {str(recipe.kind): float(recipe.count), "parameters": recipe.count * parameters, "checkpoint_mb": recipe.count * inner["checkpoint_mb"]}

    def recipe(self, case: Case) -> Mapping[str, object]:
        recipe = self.recipes[case.variant]
        inner = recipe.inner.recipe(recipe.inner_case(case))
        return {"kind": str(recipe.kind), "count": recipe.count, "inner": f"{recipe.inner.name}/{recipe.variant}", "member": dict(inner)}

    def identify(self, case: Case, data: Path | None) -> DatasetIdentity:
        recipe = self.recipes[case.variant]
        return recipe.inner.identify(recipe.inner_case(case), data)

    def open(self, case: Case, resources: Resources) -> EnsembleSession:
        recipe = self.recipes[case.variant]
        variants, parts = self._split(case, resources)
        # on the device once: members share the rows that they have in common
        on_device = {id(part): replace(part, splits=part.splits.to(resources.device)) for part in parts}
        parts = [on_device[id(part)] for part in parts]
        members = [self._open_on(part, case, resources, index) for index, part in enumerate(parts)]
        test = parts[0].test if recipe.kind is Kind.MEMBERS else variants.take(np.concatenate([part.test_rows for part in parts]))
        return EnsembleSession(
            members,
            recipe.kind,
            task=recipe.inner.make_task(recipe.inner_case(case), test, resources.data),
            test=test,
            card=parts[0].card if recipe.kind is Kind.MEMBERS else _merge_cards(variants, parts),
            conditions=dict(members[0].conditions)
            | {"n_train": round(np.mean([part.card.rows["train"] for part in parts])), "n_test": len(test)}
            | {str(recipe.kind): recipe.count, "seeds": " ".join(str(resources.seed + index) for index in range(recipe.count))},
            open_member=partial(self.open_member, case, replace(resources, progress=ignore_progress)),
            lanes=choose_lanes(recipe.count, resources.device, measure_memory(members[0], resources.device)),
        )

    def open_member(self, case: Case, resources: Resources, index: int) -> TrainingSession:
        """One member by itself, as a process of its own opens it."""
        return self._open_on(self._split(case, resources)[1][index], case, resources, index)

    def score(self, truth: Array, prediction: Array, groups: Array | None = None) -> Mapping[str, Quantity]:
        return score_given_deltas(truth, prediction, groups)

    def _open_on(self, part: SpliceData, case: Case, resources: Resources, index: int) -> TrainingSession:
        recipe = self.recipes[case.variant]
        return recipe.inner.open_on(part, recipe.inner_case(case), replace(resources, seed=resources.seed + index))

    def _split(self, case: Case, resources: Resources) -> tuple[SpliceVariants, list[SpliceData]]:
        """Every variant (of members: the test rows), and the rows of each member."""
        recipe = self.recipes[case.variant]
        inner, resolved = recipe.inner_case(case), recipe.inner.resolve(recipe.inner_case(case))
        if recipe.kind is Kind.MEMBERS:
            shared = open_data(resolved, inner, resources.data, resources.cache)
            return shared.test, [shared] * recipe.count
        variants = read_variants(resolved, inner, resources.data, resources.cache)
        folds = assign_folds(variants.chromosome, recipe.count, variants.path)
        return variants, [split_variants(variants, resolved, fold) for fold in folds]


def _merge_cards(variants: SpliceVariants, folds: Sequence[SpliceData]) -> DatasetCard:
    tested = sum(fold.card.rows["test"] for fold in folds)
    rows = {"train": round(np.mean([fold.card.rows["train"] for fold in folds])), "test": tested}
    notes = tuple(f"fold {number}: {fold.card.notes[-1]}" for number, fold in enumerate(folds, start=1))
    dropped = {**variants.dropped, "in no fold's test rows": len(variants) - tested}
    return replace(folds[0].card, rows=rows, dropped=dropped, notes=(*variants.notes, "training rows: mean over the folds", *notes))
