"""Tissue of origin of cell-free DNA from its methylation (document 002)."""

from __future__ import annotations

from bench.case import Division, Phase, Precision, Preset
from models.tissuebert.declaration import ReadWorkload
from models.tissuebert.recipes import BATCHES, REGION, make_test_model
from models.workload import Variant

_BOTH = {Division.CLOSED: (Precision.FP32,), Division.OPEN: (Precision.BF16,)}


def _make_batch(batch: int) -> Variant:
    summary = f"the test model at batch {batch}"
    if batch == BATCHES[0]:
        return Variant(name="batch8", summary=f"{summary}, as documented", phases=(Phase.TRAIN,), precisions=_BOTH)
    presets = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE) if batch == BATCHES[1] else (Preset.DOCUMENTED, Preset.SCALE)
    return Variant(name=f"batch{batch}", summary=summary, presets=presets, precisions=_BOTH)


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

WORKLOADS = (tissuebert, tissuebert_region)
