"""The splice family's recipes: what a variant trains, on which rows, how long, by preset.

Source: documents 000 and 001 with the origin's run scripts. Where the two disagree, the comment says which one is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

from torch import nn

from assay.bench.case import Case, Division, Preset
from assay.datasets.splice_twin import DOCUMENTED_ROWS
from assay.datasets.splice_variants import TargetRecipe
from assay.datasets.splice_windows import WINDOW
from assay.models.schedule import Schedule
from assay.models.splice.tasks import SpliceTask
from assay.models.training import Recipe

Assay = Literal["mapsy", "vex-seq", "mfass"]

GPU_QUICK = Recipe(optimiser="adamw", learning_rate=1e-4, weight_decay=0.01, batch=64, epochs=10, schedule=Schedule(kind="one-cycle", peak=1e-3), clip=1.0)
GPU_FULL = replace(GPU_QUICK, batch=128, epochs=50)
GPU_EARLY_STOP = replace(GPU_FULL, epochs=100)  # at most
M1_SCRIPT = Recipe(optimiser="adamw", learning_rate=5e-5, weight_decay=0.02, batch=32, epochs=40, schedule=Schedule(kind="one-cycle", peak=5e-4), clip=1.0)
# batch, epochs and clipping of the classifier runs are not documented: the M1 script's
BINARY = replace(M1_SCRIPT, learning_rate=1e-4, weight_decay=0.01, schedule=Schedule(kind="cosine", floor=1e-6))

STANDARD_TRAIN = 640  # ten equal batches
SMOKE_TWIN = (3_000, 61)
"""Table rows and nucleotides of the smoke twin: short sequences, so that a case takes seconds."""
STANDARD_TWIN = (6_000, 201)
SCALE_TWIN = (DOCUMENTED_ROWS, WINDOW)
VALIDATION_SHARE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Balanced rows to train and test on (None: all that balance allows) and how to train."""

    max_train: int | None
    max_test: int | None
    training: Recipe


ONE_K = Run(max_train=1_000, max_test=200, training=GPU_QUICK)
ONE_K_AS_DOCUMENTED = replace(ONE_K, training=replace(GPU_QUICK, batch=32, epochs=40))  # document 000, where the script says 10 epochs at batch 64
# the test size of the M1 delta runs is not documented; the M1 classifier's confusion matrix has 500 rows
TWO_K = Run(max_train=2_000, max_test=500, training=M1_SCRIPT)
EIGHT_K = Run(max_train=8_000, max_test=500, training=M1_SCRIPT)
PAIRED = Run(max_train=1_500, max_test=500, training=M1_SCRIPT)
CLASSIFIER = Run(max_train=2_000, max_test=500, training=BINARY)
FULL_AS_SCRIPTED = Run(max_train=50_000, max_test=2_000, training=GPU_FULL)
FULL_EARLY_STOP = replace(FULL_AS_SCRIPTED, training=GPU_EARLY_STOP)
# document 000 names 128x6, batch 64 and 5,000 test rows for the run whose script and checkpoint are 256x8, batch 128 and 2,000
FULL_AS_DOCUMENTED = Run(max_train=50_000, max_test=5_000, training=replace(GPU_FULL, batch=64))


@dataclass(frozen=True, slots=True, kw_only=True)
class SmokeSize:
    """How much of the smoke preset a variant bears in seconds on one CPU core. Whole batches: timing settles on steps of one size."""

    train: int = 48
    test: int = 32
    batch: int = 16
    epochs: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SpliceRecipe:
    """A variant: network, task, targets, and the run of the documents that it stands for.

    stops_early: whether a validation split is held out, to stop early and to keep the best weights. assay: real data of the standard
    and smoke presets; None for models whose targets no assay gives. needs_assay: whether the standard preset is skipped without that
    data instead of falling back to the twin. standard_epochs keeps the standard preset below four minutes on two CPU cores.
    """

    network: Callable[[int, int], nn.Module]
    task: type[SpliceTask]
    documented: Run
    hidden: int = 128
    layers: int = 6
    targets: TargetRecipe = TargetRecipe.DOCUMENTED
    stops_early: bool = False
    assay: Assay | None = "mapsy"
    needs_assay: bool = False
    standard_epochs: int = 10
    smoke: SmokeSize = SmokeSize()

    def build(self) -> nn.Module:
        """A fresh network."""
        return self.network(self.hidden, self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedRecipe:
    """Everything that decides a case's training and test rows, except the data folder."""

    variant: SpliceRecipe
    run: Run
    twin_rows: int
    twin_length: int

    def to_dict(self) -> dict[str, object]:
        """JSON-ready, for records and hashes."""
        variant = self.variant
        return {
            "network": variant.network.__name__,
            "hidden": variant.hidden,
            "layers": variant.layers,
            "task": variant.task.__name__,
            "targets": str(variant.targets),
            "n_encoding": "A" if variant.targets is TargetRecipe.DOCUMENTED else "zeros",
            "assay": variant.assay,
            "max_train": self.run.max_train,
            "max_test": self.run.max_test,
            "validation_share": VALIDATION_SHARE if variant.stops_early else 0.0,
            "twin_rows": self.twin_rows,
            "twin_length": self.twin_length,
            "training": asdict(self.run.training),
        }


def correct(recipe: SpliceRecipe) -> SpliceRecipe:
    """The variant with the documents' mistakes mended: one softmax, right channels, the gene's strand, N all-zero, best weights kept."""
    with_validation = round(recipe.smoke.train / (1 - VALIDATION_SHARE))
    return replace(recipe, targets=TargetRecipe.CORRECTED, stops_early=True, smoke=replace(recipe.smoke, train=with_validation))


def resolve(variant: SpliceRecipe, case: Case) -> ResolvedRecipe:
    """The recipe of a case: its preset's rows and epochs, its division's optimiser."""
    run, twin = _choose_run(variant, case.preset)
    training = run.training
    if variant.stops_early:  # patience and least improvement of the documented early-stopping run
        training = replace(training, patience=7, min_delta=1e-5, keep_best=True)
    if case.division is Division.OPEN:
        training = replace(training, fused=True)
    return ResolvedRecipe(variant=variant, run=replace(run, training=training), twin_rows=twin[0], twin_length=twin[1])


def _choose_run(variant: SpliceRecipe, preset: Preset) -> tuple[Run, tuple[int, int]]:
    match preset:
        case Preset.SMOKE:
            size = variant.smoke
            return Run(
                max_train=size.train, max_test=size.test, training=replace(variant.documented.training, batch=size.batch, epochs=size.epochs)
            ), SMOKE_TWIN
        case Preset.STANDARD:
            # the GPU-quick row on real data that is open; only rows and epochs differ
            training = replace(variant.documented.training, batch=GPU_QUICK.batch, epochs=variant.standard_epochs)
            return Run(max_train=STANDARD_TRAIN, max_test=None, training=training), STANDARD_TWIN
        case Preset.DOCUMENTED:
            return variant.documented, SCALE_TWIN
        case Preset.SCALE:
            return replace(variant.documented, training=replace(variant.documented.training, epochs=1)), SCALE_TWIN
