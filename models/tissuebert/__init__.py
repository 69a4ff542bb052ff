"""Tissue of origin of cell-free DNA from its methylation (document 002)."""

from __future__ import annotations

from assay.bench.case import Phase, Preset
from assay.models.tissuebert.declaration import ReadWorkload
from assay.models.tissuebert.recipes import BATCHES, REGION, make_test_model
from assay.models.tissuebert.sample_declaration import SampleWorkload
from assay.models.tissuebert.sample_recipes import CLASSIFIERS, DECONVOLUTIONS
from assay.models.workload import CLOSED_AND_OPEN, Target, Variant


def _make_batch(batch: int) -> Variant:
    summary = f"the test model at batch {batch}"
    if batch == BATCHES[0]:
        return Variant(name="batch8", summary=f"{summary}, as documented", phases=(Phase.TRAIN,), precisions=CLOSED_AND_OPEN)
    presets = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE) if batch == BATCHES[1] else (Preset.DOCUMENTED, Preset.SCALE)
    return Variant(name=f"batch{batch}", summary=summary, presets=presets, precisions=CLOSED_AND_OPEN)


tissuebert = ReadWorkload(
    name="tissuebert",
    summary="39 tissues from the 3-mers of one read: the architecture test's BERT",
    source="002, Results 1 to 5",
    variants={variant.name: variant for variant in map(_make_batch, BATCHES)},
    recipes={f"batch{batch}": make_test_model(batch) for batch in BATCHES},
)

tissuebert_region = ReadWorkload(
    name="tissuebert-region",
    summary="22 tissues from DNA and methylation of one region, embedded side by side",
    source="002, step 3 (abandoned at about 6 % accuracy)",
    variants={"documented": Variant(name="documented", summary="17,852,694 parameters; batch 128, four batches an update", phases=(Phase.TRAIN,))},
    recipes={"documented": REGION},
)

_SAMPLE_PRESETS = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE)

tissuebert_file = SampleWorkload(
    name="tissuebert-file",
    summary="22 tissues from the methylation of a whole sample in 51,089 regions",
    source="002, final model (test accuracy 157 of 175)",
    target=Target(metric="accuracy", higher_is_better=True),
    variants={
        "bottleneck2048": Variant(name="bottleneck2048", summary="27,785,238 parameters, as configured", presets=_SAMPLE_PRESETS, precisions=CLOSED_AND_OPEN),
        "bottleneck1024": Variant(name="bottleneck1024", summary="27,235,350 parameters, the code's default", presets=_SAMPLE_PRESETS),
    },
    recipes=CLASSIFIERS,
)

tissuebert_deconvolution = SampleWorkload(
    name="tissuebert-deconvolution",
    summary="shares of 22 tissues in a mixture, beside non-negative least squares",
    source="002, deconvolution, phases 1 to 3 and stage 2",
    target=Target(metric="mae", higher_is_better=False),
    variants={
        name: Variant(name=name, summary=summary, presets=_SAMPLE_PRESETS)
        for name, summary in {
            "phase1": "mixtures of two tissues, 50/50 to 80/20, one in five pure",
            "phase2": "then 3 to 5 tissues",
            "phase3": "then 60 to 90 % blood and 2 to 6 others",
            "stage2": "blood masked: the shares of the 21 other tissues among themselves",
        }.items()
    },
    recipes=DECONVOLUTIONS,
)

WORKLOADS = (tissuebert, tissuebert_region, tissuebert_file, tissuebert_deconvolution)
