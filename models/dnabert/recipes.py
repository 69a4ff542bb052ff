"""Recipes of the GUE evaluations: which task, which weights, and how the classifier is trained on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from assay.bench.case import Case, Division, Preset
from assay.datasets.gue import SHAPES, GueTask
from assay.models.dnabert.network import PUBLISHED, TINY, EncoderConfig
from assay.models.schedule import Schedule
from assay.models.training import Recipe

Mode = Literal["frozen", "fine-tuned"]
Weights = Literal["published", "random"]

FINE_TUNING = Recipe(
    optimiser="adamw", learning_rate=3e-5, weight_decay=0.0, batch=8, epochs=5, schedule=Schedule(kind="linear", rising=50), keep_best=True
)
"""DNABERT-2's settings for GUE: Hugging Face's AdamW and its linear schedule with 50 warm-up steps, five epochs of batches of eight."""
FROM_SCRATCH = replace(FINE_TUNING, learning_rate=1e-3, weight_decay=0.01, batch=32, epochs=10, schedule=Schedule())
FROZEN = Recipe(optimiser="adamw", learning_rate=0.0, weight_decay=0.0, batch=20, epochs=1)
"""Batches of 20 sequences, as DNABERT-S is evaluated. Nothing is optimised by steps: the regression is solved."""
L2 = 1.0
"""Weight of the logistic regression's penalty 0.5 |w|^2 against the summed log loss (scikit-learn's C = 1)."""

EPOCHS = {Preset.SMOKE: 1, Preset.STANDARD: 1, Preset.SCALE: 1}
TWIN_ROWS = {Preset.SMOKE: (32, 16, 32), Preset.STANDARD: (256, 32, 128)}  # scale takes as many rows as the task has; a CPU gets through these


@dataclass(frozen=True, slots=True, kw_only=True)
class DnabertRecipe:
    """Task, mode and optimisation of one variant; `resolve` settles what the preset decides."""

    task: GueTask
    mode: Mode
    training: Recipe
    weights: Weights = "published"
    network: EncoderConfig = PUBLISHED
    attention: str = "sdpa"  # or "fastest": whichever of the backends runs best on the device
    twin_rows: tuple[int, int, int] = (0, 0, 0)

    def to_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {**asdict(self), "pooling": "mean over all tokens, [CLS] and [SEP] included", "logistic_regression_l2": L2}


def resolve(recipe: DnabertRecipe, case: Case) -> DnabertRecipe:
    """The recipe as a case runs it. Smoke takes the tiny network and a small twin; only documented conditions train all epochs,
    as does training from scratch, which one epoch would leave untrained."""
    training = recipe.training
    if case.preset is not Preset.DOCUMENTED and (case.preset is Preset.SMOKE or recipe.weights == "published"):
        training = replace(training, epochs=EPOCHS[case.preset])
    return replace(
        recipe,
        training=replace(training, fused=case.division is Division.OPEN),
        network=TINY if case.preset is Preset.SMOKE else recipe.network,
        attention="fastest" if case.division is Division.OPEN else recipe.attention,
        twin_rows=TWIN_ROWS.get(case.preset, SHAPES[recipe.task].rows),
    )


def make_recipes() -> Mapping[str, DnabertRecipe]:
    """The variants of GUE by name."""
    found: dict[str, DnabertRecipe] = {}
    for task in GueTask:
        found[f"frozen-{task}"] = DnabertRecipe(task=task, mode="frozen", training=FROZEN)
        found[f"fine-tuned-{task}"] = DnabertRecipe(task=task, mode="fine-tuned", training=FINE_TUNING)
    return found


def make_controls() -> Mapping[str, DnabertRecipe]:
    """What the same architecture reaches on every task without pre-training, with 5-mers: it gives the pre-trained scores their scale."""
    return {f"from-scratch-{task}": DnabertRecipe(task=task, mode="fine-tuned", training=FROM_SCRATCH, weights="random", network=TINY) for task in GueTask}
