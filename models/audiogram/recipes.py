"""What the three configurations are trained with, as documented and corrected (document 003, Training Configuration)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from assay.bench.case import Case, Division, Preset
from assay.datasets.audiogram_twin import DOCUMENTED_MICE
from assay.datasets.audiograms import SPLIT_FRACTIONS, SPLIT_SEED
from assay.models.audiogram import losses
from assay.models.audiogram.clustering import CANDIDATES, RESTARTS
from assay.models.audiogram.networks import BASE, LARGE, MEMORY_OPTIMISED, NetworkShape

PRETRAIN_EPOCHS, JOINT_EPOCHS = 50, 150
# scale: two epochs of either stage measure speed and memory; smoke: the fewest epochs that pass through all four stages
EPOCHS = {Preset.SMOKE: (1, 1), Preset.STANDARD: (PRETRAIN_EPOCHS, JOINT_EPOCHS), Preset.DOCUMENTED: (PRETRAIN_EPOCHS, JOINT_EPOCHS), Preset.SCALE: (2, 2)}
TWIN_MICE = {Preset.SMOKE: 960, Preset.STANDARD: 6_000, Preset.SCALE: DOCUMENTED_MICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class AudiogramRecipe:
    """Network, four stages and optimisation of one variant."""

    shape: NetworkShape
    batch: int
    recentre_every: int  # joint epochs between two k-means initialisations of the centres
    whole_target: bool = False  # DEC's target over the training split once an epoch, its KL averaged; False: over each batch, summed, as documented
    prior_averaged: bool = False  # KL from the prior averaged over dimensions, as the reconstruction is; False: summed, as documented
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    floor: float = 1e-6  # of the cosine schedule
    clip: float = 1.0
    patience: int = 30  # joint epochs without a better validation total
    min_delta: float = 1e-4
    pretrain_epochs: int = PRETRAIN_EPOCHS
    joint_epochs: int = JOINT_EPOCHS
    search_restarts: int = RESTARTS
    mixture_baseline: bool = True
    fused: bool = False  # one kernel for the whole optimiser step (open division)
    quick_dropout: bool = False  # masks by assay.models.dropout (open division)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, with the constants that every audiogram recipe shares."""
        return {
            **asdict(self),
            "optimiser": "adam",
            "schedule": "one cosine over both trainings",
            "cluster_candidates": [CANDIDATES[0], CANDIDATES[-1]],
            "cluster_rule": "median of silhouette, Davies-Bouldin, Calinski-Harabasz and elbow",
            "weights": {name: value for name, value in vars(losses).items() if name.endswith("_WEIGHT")},
            "temperature": losses.TEMPERATURE,
            "split": "by gene",
            "split_fractions": list(SPLIT_FRACTIONS),
            "split_seed": SPLIT_SEED,
        }

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted over both trainings: one cosine from learning_rate to floor."""
        total = self.pretrain_epochs + self.joint_epochs
        return self.floor + (self.learning_rate - self.floor) * (1 + math.cos(math.pi * epoch / total)) / 2


def correct(recipe: AudiogramRecipe) -> AudiogramRecipe:
    """The recipe without its known errors: history detached, signed output, all categories, target over the data set,
    KL from the prior averaged over dimensions as the reconstruction is over columns (summed, it outweighs ten latent dimensions)."""
    shape = replace(recipe.shape, detached_history=True, signed_output=True, encoding="all-categories")
    return replace(recipe, shape=shape, whole_target=True, prior_averaged=True)


DOCUMENTED: Mapping[str, AudiogramRecipe] = {
    "base": AudiogramRecipe(shape=BASE, batch=512, recentre_every=10),
    "memory-optimised": AudiogramRecipe(shape=MEMORY_OPTIMISED, batch=256, recentre_every=50),
    "large": AudiogramRecipe(shape=LARGE, batch=512, recentre_every=10),
}
RECIPES: Mapping[str, AudiogramRecipe] = {**DOCUMENTED, **{f"{name}-corrected": correct(recipe) for name, recipe in DOCUMENTED.items()}}


def resolve(recipe: AudiogramRecipe, case: Case) -> AudiogramRecipe:
    """The recipe as a case runs it: the preset decides the epochs, the open division takes the fused optimiser and cheap dropout masks."""
    pretrain, joint = EPOCHS[case.preset]
    small = case.preset is Preset.SMOKE
    once = case.preset in (Preset.SMOKE, Preset.SCALE)  # neither speaks of quality, which more starts of k-means would serve
    return replace(
        recipe,
        pretrain_epochs=pretrain,
        joint_epochs=joint,
        fused=case.division is Division.OPEN,
        quick_dropout=case.division is Division.OPEN,
        search_restarts=1 if once else RESTARTS,
        mixture_baseline=not once,
        batch=min(recipe.batch, 128) if small else recipe.batch,
    )
