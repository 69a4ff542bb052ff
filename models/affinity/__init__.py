"""Antibody-antigen affinity from 150 sequence features: v1, v2 and what each of v2's changes buys (document 004)."""

from __future__ import annotations

from dataclasses import replace

from assay.bench.case import Phase, Preset
from assay.models.affinity.declaration import AffinityWorkload
from assay.models.affinity.recipes import ABLATIONS, V1, V2
from assay.models.workload import CLOSED_AND_OPEN, Variant

_DOCUMENTED = "the documented random split; rows of one complex are on both sides"
_BY_COMPLEX = "whole complexes held out: what is left of the score when the test complexes are new"
_ESM2 = Variant(
    name="esm2", summary="ESM-2 embeddings of the sequences instead of k-mer counts; needs the model on disk", presets=(Preset.STANDARD,)
)


def _make_ablation(name: str, summary: str) -> Variant:
    return Variant(name=name, summary=f"v2 minus one change: {summary}", phases=(Phase.TRAIN,), presets=(Preset.SMOKE, Preset.STANDARD, Preset.DOCUMENTED))


affinity_v1 = AffinityWorkload(
    name="affinity-v1",
    summary="150-256-128-1 with ReLU, weighted MSE, Adam and a plateau schedule",
    source="004, Deeper Architecture and Expected Performance (v1)",
    variants={
        "documented": Variant(name="documented", summary=_DOCUMENTED),
        "by-complex": Variant(name="by-complex", summary=_BY_COMPLEX),
        "esm2": _ESM2,
    },
    recipes={"documented": V1, "by-complex": replace(V1, split="by-complex"), "esm2": replace(V1, features="esm2-pca")},
)

affinity_v2 = AffinityWorkload(
    name="affinity-v2",
    summary="150-512-256-128-64-1 with GELU, focal MSE, tenfold extreme weights, AdamW and cosine restarts",
    source="004, Deeper Architecture and Expected Performance (v2)",
    variants={
        "documented": Variant(name="documented", summary=_DOCUMENTED, precisions=CLOSED_AND_OPEN),
        "by-complex": Variant(name="by-complex", summary=_BY_COMPLEX),
        "esm2": _ESM2,
        **{name: _make_ablation(name, summary) for name, (summary, _) in ABLATIONS.items()},
    },
    recipes={
        "documented": V2,
        "by-complex": replace(V2, split="by-complex"),
        "esm2": replace(V2, features="esm2-pca"),
        **{name: recipe for name, (_, recipe) in ABLATIONS.items()},
    },
)

WORKLOADS = (affinity_v1, affinity_v2)
