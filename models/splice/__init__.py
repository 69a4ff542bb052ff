"""Splice variant effect: delta predictors, paired networks with their calibrations, and classifiers (documents 000 and 001)."""

from __future__ import annotations

from dataclasses import replace

from assay.bench.case import Division, Phase, Precision, Preset
from assay.models.splice.declaration import SpliceWorkload
from assay.models.splice.ensemble import EnsembleRecipe, EnsembleWorkload, Kind
from assay.models.splice.networks import (
    EffectTypeClassifier,
    SpliceInducingClassifier,
    UnifiedSpliceClassifier,
    ValidatedDeltaPredictor,
    ValidatedDeltaPredictorWithAttention,
)
from assay.models.splice.quality import score_given_deltas, score_given_probabilities
from assay.models.splice.recipes import (
    CLASSIFIER,
    EIGHT_K,
    FULL_AS_DOCUMENTED,
    FULL_AS_SCRIPTED,
    FULL_EARLY_STOP,
    ONE_K,
    ONE_K_AS_DOCUMENTED,
    PAIRED,
    TWO_K,
    SmokeSize,
    SpliceRecipe,
    correct,
)
from assay.models.splice.siamese import (
    HybridDeltaPredictor,
    QuantileDeltaPredictor,
    ScaledDeltaPredictor,
    SimpleCNNDeltaPredictor,
    TemperatureDeltaPredictor,
)
from assay.models.splice.tasks import ClassifierTask, DeltaTask, EffectTask, HybridTask, PairedTask, QuantileTask, UnifiedTask
from assay.models.workload import CLOSED_AND_OPEN, Target, Variant

_SMALL, _LARGE = "hidden128-layers6", "hidden256-layers8"
_FP32_ONLY = {Division.CLOSED: (Precision.FP32,)}
_DOCUMENTED_AMP = {Division.CLOSED: (Precision.FP32, Precision.FP16)}  # the GPU scripts train under float16 autocast
_TRAIN = (Phase.TRAIN,)
_SIZES = (Preset.DOCUMENTED, Preset.SCALE)
_NOT_DOCUMENTED = (Preset.SMOKE, Preset.STANDARD, Preset.SCALE)
_BEYOND_SMOKE = (Preset.STANDARD, *_SIZES)
_NO_ASSAY = (Preset.SMOKE, Preset.DOCUMENTED, Preset.SCALE)
_CORRECTED = "single softmax, right channels, the gene's strand, N all-zero, early stop with the best weights kept"


_LARGE_SMOKE = SmokeSize(train=16, test=16, batch=8, epochs=1)
_validated = SpliceRecipe(network=ValidatedDeltaPredictor, task=DeltaTask, documented=FULL_AS_DOCUMENTED)
_validated_large = replace(_validated, hidden=256, layers=8, documented=FULL_AS_SCRIPTED, standard_epochs=4, smoke=_LARGE_SMOKE)
_paired = SpliceRecipe(
    network=SimpleCNNDeltaPredictor, task=PairedTask, documented=PAIRED, standard_epochs=8, smoke=SmokeSize(train=24, test=16, batch=8, epochs=1)
)
_classifier = SpliceRecipe(network=SpliceInducingClassifier, task=ClassifierTask, documented=CLASSIFIER)
_effects = SpliceRecipe(network=EffectTypeClassifier, task=EffectTask, documented=CLASSIFIER, assay=None)


def _size(name: str, summary: str) -> Variant:
    return Variant(name=name, summary=summary, presets=_SIZES, precisions=_DOCUMENTED_AMP if name in {"1k", "full", "early-stop"} else _FP32_ONLY)


def _only_train(name: str, summary: str, presets: tuple[Preset, ...]) -> Variant:
    return Variant(name=name, summary=summary, phases=_TRAIN, presets=presets)


def _by_name(*variants: Variant) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants}


splice_validated = SpliceWorkload(
    name="splice-validated",
    summary="three delta scores from one pass of the gated CNN over the alternative sequence",
    source="000; 001, ValidatedDeltaPredictor",
    target=Target(metric="pearson_sa", higher_is_better=True),
    variants=_by_name(
        Variant(name=_SMALL, summary="the size that document 000 names for its full run", precisions=CLOSED_AND_OPEN),
        _only_train(f"{_SMALL}-corrected", _CORRECTED, tuple(Preset)),
        Variant(name=_LARGE, summary="the size of the 64 MB checkpoint", presets=(Preset.SMOKE, Preset.STANDARD)),
        _only_train(f"{_LARGE}-corrected", _CORRECTED, (Preset.STANDARD, *_SIZES)),
        _only_train("attention", "position attention in place of average pooling; no result is documented", _NOT_DOCUMENTED),
        _only_train("attention-corrected", _CORRECTED, (Preset.STANDARD, *_SIZES)),
        Variant(name="vexseq", summary="128x6 on Vex-seq", presets=(Preset.STANDARD,)),
        Variant(name="mfass", summary="128x6 on MFASS; needs genome/hg38.fa", presets=(Preset.STANDARD,)),
        _size("1k", "1,000 rows, 128x6: the script's 10 epochs at batch 64"),
        _size("1k-as-documented", "the same for the 40 epochs at batch 32 of document 000"),
        _size("2k", "2,000 rows, 128x6, the M1 script"),
        _size("8k", "8,000 rows, 128x6, the M1 script"),
        _size("full", "all 22,132 balanced rows, 256x8, batch 128: the script and the checkpoint, not the 128x6 at batch 64 of document 000"),
        _size("early-stop", "the same for up to 100 epochs, 15 % of the rows held out to stop after 7 epochs without a gain"),
    ),
    recipes={
        _SMALL: _validated,
        f"{_SMALL}-corrected": correct(_validated),
        _LARGE: _validated_large,
        f"{_LARGE}-corrected": correct(_validated_large),
        "attention": replace(_validated, network=ValidatedDeltaPredictorWithAttention),
        "attention-corrected": correct(replace(_validated, network=ValidatedDeltaPredictorWithAttention)),
        "vexseq": replace(_validated, assay="vex-seq", needs_assay=True),
        "mfass": replace(_validated, assay="mfass", needs_assay=True),
        "1k": replace(_validated, documented=ONE_K),
        "1k-as-documented": replace(_validated, documented=ONE_K_AS_DOCUMENTED),
        "2k": replace(_validated, documented=TWO_K),
        "8k": replace(_validated, documented=EIGHT_K),
        "full": replace(_validated_large, documented=FULL_AS_SCRIPTED),
        "early-stop": replace(_validated_large, documented=FULL_EARLY_STOP, stops_early=True),
    },
    score_predictions=score_given_deltas,
)

splice_simple_cnn = SpliceWorkload(
    name="splice-simple-cnn",
    summary="paired CNN: deltas per position from the difference of alternative and reference features",
    source="001, SimpleCNNDeltaPredictor",
    target=Target(metric="pearson_sa", higher_is_better=True),
    variants=_by_name(Variant(name=_SMALL, summary="3,070,210 parameters")),
    recipes={_SMALL: _paired},
    score_predictions=score_given_deltas,
)

splice_classifier = SpliceWorkload(
    name="splice-classifier",
    summary="probability that a variant is Splice-altering, from the gated CNN",
    source="001, SpliceInducingClassifier",
    target=Target(metric="auroc", higher_is_better=True),
    variants=_by_name(
        Variant(name=_SMALL, summary="3,020,033 parameters"),
        Variant(name=_LARGE, summary="16,003,585 parameters", presets=(Preset.STANDARD, *_SIZES)),
    ),
    recipes={_SMALL: _classifier, _LARGE: replace(_classifier, hidden=256, layers=8, standard_epochs=4, smoke=_LARGE_SMOKE)},
    score_predictions=score_given_probabilities,
)

splice_effect_type = SpliceWorkload(
    name="splice-effect-type",
    summary="six effect types: Normal, gain or loss of a donor or acceptor, Complex",
    source="001, EffectTypeClassifier",
    target=Target(metric="effect_macro_f1", higher_is_better=True),
    variants=_by_name(_only_train(_SMALL, "types derived from corrected deltas: the documents' effect_type column does not exist", _NO_ASSAY)),
    recipes={_SMALL: correct(_effects)},
    score_predictions=score_given_probabilities,
)

splice_unified = SpliceWorkload(
    name="splice-unified",
    summary="Splice-altering and effect type from one encoder with attention pooling",
    source="001, UnifiedSpliceClassifier",
    target=Target(metric="auroc", higher_is_better=True),
    variants=_by_name(_only_train(_SMALL, "loss: binary cross-entropy + 0.5 cross-entropy", _NO_ASSAY)),
    recipes={_SMALL: correct(replace(_effects, network=UnifiedSpliceClassifier, task=UnifiedTask))},
    score_predictions=score_given_probabilities,
)

splice_calibrated = SpliceWorkload(
    name="splice-calibrated",
    summary="four ways to mend the paired CNN's too small deltas",
    source="001, calibration experiments",
    target=Target(metric="pearson_sa", higher_is_better=True),
    variants=_by_name(
        _only_train("scaled", "deltas times a learned factor, from 2.5", tuple(Preset)),
        _only_train("temperature", "deltas over a learned temperature, from 0.5", tuple(Preset)),
        _only_train("quantile", "pinball loss at 0.1, 0.5 and 0.9; the 0.9 quantile is reported", tuple(Preset)),
        _only_train("hybrid", "0.7 regression + 0.3 classification", tuple(Preset)),
    ),
    recipes={
        "scaled": replace(_paired, network=ScaledDeltaPredictor),
        "temperature": replace(_paired, network=TemperatureDeltaPredictor),
        "quantile": replace(_paired, network=QuantileDeltaPredictor, task=QuantileTask),
        "hybrid": replace(_paired, network=HybridDeltaPredictor, task=HybridTask),
    },
    score_predictions=score_given_deltas,
)

# two members must not take longer than two other smoke cases
_smaller = replace(splice_classifier, recipes={_SMALL: replace(_classifier, smoke=SmokeSize(train=32, test=16, epochs=1))})

_others: dict[str, tuple[SpliceWorkload, str]] = {
    "simple-cnn": (splice_simple_cnn, _SMALL),
    "effect-type": (splice_effect_type, _SMALL),
    "unified": (splice_unified, _SMALL),
    **{f"calibrated-{variant}": (splice_calibrated, variant) for variant in splice_calibrated.variants},
}

splice_ensemble = EnsembleWorkload(
    name="splice-ensemble",
    summary="several trainings of one splice model: seeds whose predictions are averaged, or chromosome folds",
    source="000 and 001 for the models; ensembles and folds are not documented",
    target=Target(metric="auroc", higher_is_better=True),
    variants=_by_name(
        _only_train("validated-5-members", "five seeds of splice-validated 128x6, deltas averaged", _BEYOND_SMOKE),
        _only_train("classifier-5-members", "five seeds of splice-classifier 128x6, probabilities averaged", _BEYOND_SMOKE),
        _only_train("validated-5-folds", "splice-validated 128x6, each fifth of the chromosomes held out once", _BEYOND_SMOKE),
        _only_train("classifier-5-folds", "splice-classifier 128x6, each fifth of the chromosomes held out once", _SIZES),
        *(
            _only_train(f"{name}-5-{kind}", f"five {kind} of {inner.name}, {variant}", _SIZES)
            for name, (inner, variant) in _others.items()
            for kind in Kind
        ),
        _only_train("classifier-2-members", "two seeds of splice-classifier 128x6: whether the family runs", (Preset.SMOKE,)),
    ),
    recipes={
        "validated-5-members": EnsembleRecipe(inner=splice_validated, variant=_SMALL, kind=Kind.MEMBERS, count=5),
        "classifier-5-members": EnsembleRecipe(inner=splice_classifier, variant=_SMALL, kind=Kind.MEMBERS, count=5),
        "validated-5-folds": EnsembleRecipe(inner=splice_validated, variant=_SMALL, kind=Kind.FOLDS, count=5),
        "classifier-5-folds": EnsembleRecipe(inner=splice_classifier, variant=_SMALL, kind=Kind.FOLDS, count=5),
        **{
            f"{name}-5-{kind}": EnsembleRecipe(inner=inner, variant=variant, kind=kind, count=5)
            for name, (inner, variant) in _others.items()
            for kind in Kind
        },
        "classifier-2-members": EnsembleRecipe(inner=_smaller, variant=_SMALL, kind=Kind.MEMBERS, count=2),
    },
)

WORKLOADS = (splice_validated, splice_simple_cnn, splice_classifier, splice_effect_type, splice_unified, splice_calibrated, splice_ensemble)
