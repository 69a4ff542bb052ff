"""HyenaDNA's splice recipes: which backbone, how much of it learns, on what and how long, by preset.

Source: documents 000 and 001 with the origin's experiment log. What none of them names is taken from the GPU scripts, as said below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from assay.bench.case import Case, Preset
from assay.models.hyenadna.heads import HyenaEncoded, HyenaPredictor, PairedHyenaPredictor, make_binary_head, make_delta_head, make_paired_head
from assay.models.hyenadna.network import CONFIGS, HyenaConfig
from assay.models.hyenadna.tasks import HyenaBinaryTask, HyenaDeltaTask, HyenaPairedTask, HyenaTask
from assay.models.splice.recipes import BINARY, ResolvedRecipe, Run, SmokeSize, SpliceRecipe, resolve
from assay.models.training import Recipe

MAX_TRAIN, MAX_TEST = 50_000, 2_000  # asked for by the GPU scripts; the document gives no number for its HyenaDNA runs
EPOCHS = 100  # of the early-stopping runs, at most

# rate, decay and clipping of the frozen run are not documented: the GPU scripts'. No schedule is documented for any of the three
FROZEN = Recipe(optimiser="adamw", learning_rate=1e-4, weight_decay=0.01, batch=32, accumulate=2, epochs=EPOCHS, clip=1.0)
TUNED = replace(FROZEN, learning_rate=5e-5, batch=16, accumulate=4)
DEEP = replace(FROZEN, learning_rate=3e-5, batch=8, accumulate=8)
FROZEN_BINARY = replace(BINARY, batch=32, accumulate=2, epochs=EPOCHS)
TUNED_BINARY = replace(FROZEN_BINARY, learning_rate=5e-5, batch=16, accumulate=4)

SMOKE = SmokeSize(train=56)
"""Eight rows more than the other splice variants': the share held out to stop early."""
SMALL_SMOKE = SmokeSize(train=28, test=16, batch=8, epochs=1)

CONTEXT_TWIN_ROWS = 64
CONTEXT_RUN = Run(max_train=10, max_test=2, training=replace(TUNED, batch=1, accumulate=1, epochs=1))
"""Long-context cases measure speed and memory of a few rows as long as the model takes: 8 to train, whole batches, and 2 held out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HyenaRecipe(SpliceRecipe):
    """A variant. trained_layers: how many of the last blocks learn, None all, 0 none. whole_context: sequences as long as the model takes."""

    model: str
    network: Callable[..., HyenaEncoded] = HyenaPredictor
    task: type[HyenaTask] = HyenaDeltaTask
    head: Callable[[], nn.Module] = make_delta_head
    trained_layers: int | None = None
    encoder_rate: float = 1.0
    special_tokens: bool = False
    checkpointing: bool = False
    whole_context: bool = False
    stops_early: bool = True  # as all documented runs
    smoke: SmokeSize = SMOKE

    @property
    def config(self) -> HyenaConfig:
        """The backbone's size."""
        return CONFIGS[self.model]

    def build(self) -> HyenaEncoded:
        return self.network(
            self.config,
            self.head,
            trained_layers=self.trained_layers,
            encoder_rate=self.encoder_rate,
            special_tokens=self.special_tokens,
            checkpointing=self.checkpointing,
        )

    def to_dict(self) -> dict[str, object]:
        """What a record tells of the backbone, beside the splice recipe."""
        return {
            "model": f"hyenadna-{self.model}",
            "trained_layers": "all" if self.trained_layers is None else self.trained_layers,
            "encoder_rate": self.encoder_rate,
            "special_tokens": self.special_tokens,
            "gradient_checkpointing": self.checkpointing,
            "n_encoding": "token N",
        }


def make_delta_recipe(model: str, training: Recipe, trained_layers: int | None, encoder_rate: float = 1.0) -> HyenaRecipe:
    """Delta predictor: the alternative sequence without special tokens, as the documents' delta scripts feed it."""
    config = CONFIGS[model]
    return HyenaRecipe(
        model=model,
        documented=Run(max_train=MAX_TRAIN, max_test=MAX_TEST, training=training),
        hidden=config.width,
        layers=config.layers,
        trained_layers=trained_layers,
        encoder_rate=encoder_rate,
        standard_epochs=2 if config.layers > 4 else 4,
    )


def make_binary_recipe(model: str, training: Recipe, trained_layers: int | None, encoder_rate: float = 1.0) -> HyenaRecipe:
    """Binary classifier: the sequence as the published tokenizer gives it, between [CLS] and [SEP]. Early stopping watches the
    validation loss; the origin's watched the validation AUC."""
    delta = make_delta_recipe(model, training, trained_layers, encoder_rate)
    return replace(delta, task=HyenaBinaryTask, head=make_binary_head, special_tokens=True, smoke=SMALL_SMOKE)


def make_paired_recipe(model: str, training: Recipe, trained_layers: int | None) -> HyenaRecipe:
    """Paired delta predictor. Of its training the documents say nothing: the other delta predictors' settings."""
    delta = make_delta_recipe(model, training, trained_layers)
    return replace(delta, network=PairedHyenaPredictor, task=HyenaPairedTask, head=make_paired_head)


def fill_context(recipe: HyenaRecipe, batch: int) -> HyenaRecipe:
    """The variant on sequences as long as its model takes; from 160,000 nucleotides on with gradient checkpointing."""
    run = replace(CONTEXT_RUN, training=replace(CONTEXT_RUN.training, batch=batch))
    return replace(recipe, documented=run, whole_context=True, checkpointing=recipe.config.context >= CONFIGS["medium-160k"].context)


def resolve_hyena(variant: HyenaRecipe, case: Case) -> ResolvedRecipe:
    """The recipe of a case: as the splice family resolves it, with early stopping, and the weights of the last epoch.

    The documented scripts kept a shallow copy of the best weights, which is the last weights. The standard preset takes 64 rows a
    step, which is what the documented batches accumulate to.
    """
    resolved = resolve(variant, case)
    training = replace(resolved.run.training, keep_best=False)
    if case.preset is Preset.STANDARD:
        training = replace(training, accumulate=1)
    resolved = replace(resolved, run=replace(resolved.run, training=training))
    if variant.whole_context:
        length = variant.config.context - 1  # twins are odd: the variant stands in the middle
        return replace(resolved, twin_rows=CONTEXT_TWIN_ROWS, twin_length=length)
    return resolved
