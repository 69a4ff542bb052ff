"""HyenaDNA, a DNA language model of long context, as encoder of splice predictors (documents 000 and 001).

The backbone is written from the paper's formulas and takes the published checkpoints by their keys; no published implementation is
installed here, so equality is tested against the formulas, worked out one position and one lag at a time, and not against its outputs.
torch's counter of floating-point operations knows no Fourier transform: MFU counts linear layers and short convolutions alone.
"""

from __future__ import annotations

from assay.bench.case import Phase, Preset
from assay.models.hyenadna.declaration import HyenaWorkload
from assay.models.hyenadna.recipes import (
    DEEP,
    FROZEN,
    FROZEN_BINARY,
    TUNED,
    TUNED_BINARY,
    fill_context,
    make_binary_recipe,
    make_delta_recipe,
    make_paired_recipe,
)
from assay.models.splice.ensemble import EnsembleRecipe, EnsembleWorkload, Kind
from assay.models.splice.quality import score_given_deltas, score_given_probabilities
from assay.models.workload import CLOSED_AND_OPEN, Target, Variant

_TRAIN = (Phase.TRAIN,)
_DOCUMENTED = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE)
# rows a step: as many as keep a GPU of 24 GB busy at the short contexts, one where a row alone fills a larger one
_CONTEXT_BATCH = {"tiny-1k": 8, "small-32k": 2, "medium-160k": 1, "medium-450k": 1, "large-1m": 1}


def _whole_context(model: str) -> Variant:
    summary = f"{model} on sequences as long as it takes, last 2 layers trained: speed and memory of long context"
    return Variant(name=f"{model}-context", summary=summary, presets=(Preset.SCALE,), precisions=CLOSED_AND_OPEN)


def _by_name(*variants: Variant) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants}


_tuned = {model: make_delta_recipe(model, TUNED, trained_layers=2, encoder_rate=0.1) for model in _CONTEXT_BATCH}

splice_hyenadna = HyenaWorkload(
    name="splice-hyenadna",
    summary="three delta scores from HyenaDNA's mean hidden state over the alternative sequence",
    source="001, HyenaDNA encoder; origin's experiment log",
    target=Target(metric="pearson_sa", higher_is_better=True),
    variants=_by_name(
        Variant(name="tiny-1k", summary="2 layers of 128, all trained", presets=(Preset.SMOKE, Preset.STANDARD, Preset.SCALE)),
        Variant(name="small-32k", summary="4 layers of 256, frozen", presets=_DOCUMENTED, precisions=CLOSED_AND_OPEN),
        Variant(name="small-32k-paired", summary="4 layers of 256, frozen: deltas from alternative minus reference", phases=_TRAIN, presets=_DOCUMENTED),
        Variant(name="medium-160k", summary="8 layers of 256, the last 2 trained at a tenth of the head's rate", phases=_TRAIN, presets=_DOCUMENTED),
        Variant(name="medium-160k-last4", summary="the last 4 trained at a twentieth of the head's rate", phases=_TRAIN, presets=_DOCUMENTED),
        Variant(name="medium-450k", summary="8 layers of 256, frozen; the documents' `large`", phases=_TRAIN, presets=(Preset.STANDARD, Preset.SCALE)),
        Variant(name="large-1m", summary="8 layers of 256, frozen", phases=_TRAIN, presets=(Preset.STANDARD, Preset.SCALE)),
        *(_whole_context(model) for model in _CONTEXT_BATCH),
    ),
    recipes={
        "tiny-1k": make_delta_recipe("tiny-1k", TUNED, trained_layers=None, encoder_rate=0.1),
        "small-32k": make_delta_recipe("small-32k", FROZEN, trained_layers=0),
        "small-32k-paired": make_paired_recipe("small-32k", FROZEN, trained_layers=0),
        "medium-160k": _tuned["medium-160k"],
        "medium-160k-last4": make_delta_recipe("medium-160k", DEEP, trained_layers=4, encoder_rate=0.05),
        "medium-450k": make_delta_recipe("medium-450k", FROZEN, trained_layers=0),
        "large-1m": make_delta_recipe("large-1m", FROZEN, trained_layers=0),
        **{f"{model}-context": fill_context(_tuned[model], batch) for model, batch in _CONTEXT_BATCH.items()},
    },
    score_predictions=score_given_deltas,
)

splice_hyenadna_binary = HyenaWorkload(
    name="splice-hyenadna-binary",
    summary="probability that a variant is Splice-altering, from HyenaDNA's mean hidden state",
    source="origin's experiment log, HyenaDNA binary classifier",
    target=Target(metric="auroc", higher_is_better=True),
    variants=_by_name(
        Variant(name="small-32k", summary="frozen backbone, head of 265,985 parameters", phases=_TRAIN, presets=tuple(Preset)),
        Variant(name="small-32k-last2", summary="the last 2 layers trained", phases=_TRAIN, presets=_DOCUMENTED),
    ),
    recipes={
        "small-32k": make_binary_recipe("small-32k", FROZEN_BINARY, trained_layers=0),
        "small-32k-last2": make_binary_recipe("small-32k", TUNED_BINARY, trained_layers=2, encoder_rate=0.1),
    },
    score_predictions=score_given_probabilities,
)

splice_hyenadna_ensemble = EnsembleWorkload(
    name="splice-hyenadna-ensemble",
    summary="several trainings of one HyenaDNA predictor: seeds whose predictions are averaged, or chromosome folds",
    source="001 and the origin's experiment log for the models; ensembles and folds are not documented",
    target=Target(metric="auroc", higher_is_better=True),
    variants=_by_name(
        *(
            Variant(name=f"{name}-5-{kind}", summary=f"five {kind} of {name}", phases=_TRAIN, presets=(Preset.DOCUMENTED, Preset.SCALE))
            for name in ("small-32k", "binary-small-32k")
            for kind in Kind
        ),
    ),
    recipes={
        f"{name}-5-{kind}": EnsembleRecipe(inner=inner, variant="small-32k", kind=kind, count=5)
        for name, inner in (("small-32k", splice_hyenadna), ("binary-small-32k", splice_hyenadna_binary))
        for kind in Kind
    },
)

WORKLOADS = (splice_hyenadna, splice_hyenadna_binary, splice_hyenadna_ensemble)
