"""ContrastiveVAE-DEC: clusters of mouse audiograms by a variational autoencoder with contrastive and clustering losses (document 003)."""

from __future__ import annotations

from assay.bench.case import Division, Phase, Precision, Preset
from assay.models.audiogram.declaration import AudiogramWorkload
from assay.models.audiogram.recipes import RECIPES
from assay.models.workload import Variant

_LONGER = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE)
_OPEN_TOO = {Division.CLOSED: (Precision.FP32,), Division.OPEN: (Precision.FP32,)}
_FIXED = "signed outputs, all categories, DEC target over the data set, KL averaged, history detached"

audiogram_vae = AudiogramWorkload(
    name="audiogram-vae",
    summary="variational autoencoder of six ABR thresholds with metadata, contrastive by gene, clustered by DEC",
    source="003, Architecture and Training Configuration",
    variants={
        "base": Variant(name="base", summary="64-32-16, latent 10: 19,455 parameters", presets=_LONGER, precisions=_OPEN_TOO),
        "base-corrected": Variant(name="base-corrected", summary=f"base with {_FIXED}", presets=_LONGER),
        "memory-optimised": Variant(name="memory-optimised", summary="128-64-32, latent 24: 50,459 parameters"),
        "memory-optimised-corrected": Variant(name="memory-optimised-corrected", summary=f"memory-optimised with {_FIXED}", presets=_LONGER),
        "large": Variant(name="large", summary="256-128-64, latent 32: 172,315 parameters", phases=(Phase.TRAIN,)),
        "large-corrected": Variant(name="large-corrected", summary=f"large with {_FIXED}", phases=(Phase.TRAIN,), presets=_LONGER),
    },
    recipes=RECIPES,
)

WORKLOADS = (audiogram_vae,)
