"""What the read-level models are trained with (document 002, Results 1-3 and step 3), and how much of it each preset takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from torch import nn

from assay.bench.case import Case, Division, Preset
from assay.models.schedule import Schedule
from assay.models.tissuebert.bert import BertShape, DocumentedBert, TissueBert
from assay.models.tissuebert.region import RegionNetwork, RegionShape
from assay.models.training import Recipe

BATCHES = (8, 32, 64, 128, 256)
DOCUMENTED_STEPS = 10

# optimiser and learning rate are the document's, the weight decay AdamW's default
TEST_MODEL = Recipe(optimiser="adamw", learning_rate=1e-4, weight_decay=0.01, batch=8, epochs=1)
REGION_MODEL = Recipe(optimiser="adamw", learning_rate=4e-4, weight_decay=0.01, batch=128, epochs=1, accumulate=4, schedule=Schedule(kind="warm-up", share=0.1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How many reads to train and test on, for how many epochs; None: all."""

    train: int | None
    test: int | None
    epochs: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRecipe:
    """A read-level model and its training. `states`: whether the model sees methylation, or DNA alone."""

    shape: BertShape | RegionShape
    training: Recipe
    label_smoothing: float = 0.0
    random_tokens: bool = False  # whether the document's own conditions are random tokens

    @property
    def states(self) -> bool:
        """Whether the model sees methylation, or the 3-mers alone."""
        return isinstance(self.shape, RegionShape)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRead:
    """Everything that decides a case, except the data folder."""

    recipe: ReadRecipe
    rows: Rows
    ours: bool  # the open division's own network
    bases: int  # of the twin's reads
    regions: int  # of the twin
    streamed: bool = False  # reads are drawn as they are needed and never all in memory

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, for records and hashes."""
        return {**asdict(self), "network": self.network}

    @property
    def network(self) -> str:
        """The class that is trained."""
        return RegionNetwork.__name__ if self.recipe.states else TissueBert.__name__ if self.ours else DocumentedBert.__name__

    def build(self, *, padded: bool) -> Callable[[], nn.Module]:
        """What makes a fresh network. padded: whether any read has padding."""
        shape = self.recipe.shape
        if isinstance(shape, RegionShape):
            return lambda: RegionNetwork(shape)
        return (lambda: TissueBert(shape, padded=padded)) if self.ours else (lambda: DocumentedBert(shape, padded=padded))


def make_test_model(batch: int) -> ReadRecipe:
    """The documented test model at a batch size."""
    return ReadRecipe(shape=BertShape(), training=replace(TEST_MODEL, batch=batch), random_tokens=True)


REGION = ReadRecipe(shape=RegionShape(), training=REGION_MODEL, label_smoothing=0.1)


def resolve(recipe: ReadRecipe, case: Case) -> ResolvedRead:
    """The recipe as a case runs it: the preset decides rows and epochs, the open division takes our network and the fused optimiser."""
    ours = case.division is Division.OPEN
    shape = replace(recipe.shape, attention_dropout=0.0) if ours and isinstance(recipe.shape, BertShape) else recipe.shape
    training, batch = replace(recipe.training, fused=ours), recipe.training.batch
    rows, bases, regions, streamed = Rows(train=16 * batch, test=4 * batch), 150, 51_089, False
    match case.preset:
        case Preset.SMOKE:  # one layer of the full width and short reads: seconds on one core
            shape, training = replace(shape, layers=1), replace(training, batch=4, accumulate=1)
            rows, bases, regions = Rows(train=8, test=8, epochs=2), 26, 8
        case Preset.STANDARD:
            rows, regions = Rows(train=640 if recipe.states else 320, test=160, epochs=2), 64
            training = replace(training, batch=min(batch, 32), accumulate=1)
        case Preset.DOCUMENTED:
            rows = Rows(train=DOCUMENTED_STEPS * batch, test=batch) if recipe.random_tokens else Rows(train=None, test=None)
            streamed = not recipe.random_tokens
        case Preset.SCALE:
            streamed = True
    training = replace(training, epochs=rows.epochs)
    return ResolvedRead(recipe=replace(recipe, shape=shape, training=training), rows=rows, ours=ours, bases=bases, regions=regions, streamed=streamed)
