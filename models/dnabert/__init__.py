"""DNABERT-2 and DNABERT-S: sequence embeddings on GUE, attention with ALiBi, and the kernel that no Triton release compiles (documents 001, 002)."""

from __future__ import annotations

from assay.bench.case import Division, Phase, Precision, Preset
from assay.models.dnabert.attention.registry import AttentionKind
from assay.models.dnabert.declaration import ATTENTION_PREFIX, KERNEL_VARIANT, DnabertWorkload
from assay.models.dnabert.recipes import make_controls, make_recipes
from assay.models.workload import CLOSED_AND_OPEN, Variant

_OPEN_TOO = {**CLOSED_AND_OPEN, Division.CLOSED: (Precision.FP32, Precision.FP16)}
_FP32_ONLY = {Division.CLOSED: (Precision.FP32,)}
_ATTENTION = (Phase.ATTENTION,)
_SIZES = (Preset.STANDARD, Preset.DOCUMENTED, Preset.SCALE)
_MODES = {"frozen": "logistic regression on frozen mean embeddings", "fine-tuned": "fine-tuned as a whole with a linear head"}
_TASKS = {
    "prom-core-tata": "core promoters with TATA box, 70 nt",
    "prom-300-tata": "promoters with TATA box, 300 nt",
    "splice": "acceptor, donor, neither, 400 nt",
}
_TINY_SMOKE = "; smoke takes a tiny network"


def _evaluation(mode: str, task: str, phases: tuple[Phase, ...] = (), presets: tuple[Preset, ...] = _SIZES) -> Variant:
    summary = f"{_TASKS[task]}: {_MODES[mode]}{_TINY_SMOKE if Preset.SMOKE in presets else ''}"
    precisions = _OPEN_TOO if mode == "fine-tuned" else _FP32_ONLY
    if Preset.SMOKE in presets:
        precisions = _FP32_ONLY
    return Variant(name=f"{mode}-{task}", summary=summary, phases=phases or (Phase.TRAIN, Phase.EVAL), presets=presets, precisions=precisions)


def _by_name(*variants: Variant) -> dict[str, Variant]:
    return {variant.name: variant for variant in variants}


_attentions = [
    Variant(
        name=f"{ATTENTION_PREFIX}{kind}",
        summary=f"forward and backward of one attention layer on a ragged batch: {kind}",
        phases=_ATTENTION,
        presets=(Preset.STANDARD, Preset.SCALE),
        precisions=_OPEN_TOO,
    )
    for kind in AttentionKind
]
_published_kernel = Variant(
    name=KERNEL_VARIANT, summary="does the published kernel's tl.dot(..., trans_b=True) compile", phases=_ATTENTION, presets=(Preset.STANDARD,)
)

splice_dnabert2 = DnabertWorkload(
    name="splice-dnabert2",
    summary="DNABERT-2-117M on three GUE tasks, splice sites among them",
    source="001, DNABERT-2 Encoder",
    model="DNABERT-2-117M",
    variants=_by_name(
        _evaluation("fine-tuned", "splice", phases=(Phase.TRAIN,), presets=tuple(Preset)),
        *(_evaluation(mode, task) for mode in _MODES for task in _TASKS if (mode, task) != ("fine-tuned", "splice")),
    ),
    recipes=make_recipes(),
)

dnabert_s = DnabertWorkload(
    name="dnabert-s",
    summary="DNABERT-S embeddings on three GUE tasks; attention backends; the published Triton kernel",
    source="002, Result 3 and Comparison to Other Models",
    model="DNABERT-S",
    variants=_by_name(
        _evaluation("frozen", "prom-core-tata", presets=tuple(Preset)),
        *(_evaluation(mode, task) for mode in _MODES for task in _TASKS if (mode, task) != ("frozen", "prom-core-tata")),
        *(
            Variant(name=name, summary=f"{_TASKS[recipe.task]}: control, a tiny network without pre-training, 5-mers for tokens", presets=(Preset.STANDARD,))
            for name, recipe in make_controls().items()
        ),
        *_attentions,
        _published_kernel,
    ),
    recipes={**make_recipes(), **make_controls()},
)

WORKLOADS = (splice_dnabert2, dnabert_s)
