"""Sessions of the attention cases: one layer's attention on ragged batches, and the published kernel's one fatal call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from assay.bench.case import Case, Precision, Preset, Quantity, Unsupported
from assay.datasets.card import DatasetCard, DatasetIdentity, hash_files, identify_twin
from assay.models.dnabert.attention import proof
from assay.models.dnabert.attention.packing import Packing, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, load_attention, require_attention
from assay.models.dnabert.network import PUBLISHED
from assay.models.dnabert.tasks import element_type
from assay.models.training import autocast
from assay.models.workload import History, Progress, Resources

SEQUENCES = 16
LONGEST = {Preset.STANDARD: 512, Preset.SCALE: 2048}
SHORTEST = 16
SEED = 42
EVERY_RELEASE = "no release from 2.0.0 to 3.9.0 takes trans_a or trans_b in tl.dot"  # read from the wheels of the Python Package Index
PUBLISHED_CALL = tuple(Path(proof.__file__).with_name(name) for name in ("published.py", "proof.py", "aot.py"))


def identify_lengths(preset: Preset) -> DatasetIdentity:
    """Identity of the ragged batch of a preset."""
    return identify_twin("ragged-batch", sequences=SEQUENCES, shortest=SHORTEST, longest=LONGEST[preset], seed=SEED)


def identify_published_call() -> DatasetIdentity:
    """The kernel's source is what is examined, by the tools beside it; nothing about it is synthetic."""
    return DatasetIdentity("published-kernel-call", hash_files(PUBLISHED_CALL), synthetic=False)


def draw_lengths(preset: Preset) -> Tensor:
    """int64 [16] lengths, log-uniform: as in collections of reads and contigs, short sequences are many and long ones few; one is the longest."""
    longest = LONGEST[preset]
    drawn = np.exp(np.random.default_rng(SEED).uniform(np.log(SHORTEST), np.log(longest), SEQUENCES)).astype(np.int64)
    drawn[0] = longest
    return torch.from_numpy(drawn)


class AttentionSession:
    """Implements assay.models.workload.Session: forward and backward of one attention layer at the published size."""

    unit = "sequences"

    def __init__(self, kind: AttentionKind, case: Case, resources: Resources) -> None:
        autocast(resources.device, case.precision)  # refuse an impossible precision before any work
        torch.backends.cuda.matmul.allow_tf32 = case.precision is Precision.TF32
        dtype = element_type(case.precision)
        self._backend = require_attention(kind, resources.device, dtype, needs_gradient=True)
        lengths = draw_lengths(case.preset)
        heads, width = PUBLISHED.heads, PUBLISHED.hidden // PUBLISHED.heads
        random = torch.Generator().manual_seed(resources.seed)
        tokens = int(lengths.sum())
        self._qkv = torch.randn(tokens, 3, heads, width, generator=random).to(resources.device, dtype).requires_grad_()
        self._upstream = torch.randn(tokens, heads, width, generator=random).to(resources.device, dtype)
        self._lengths, self._device = lengths, resources.device
        self._slopes = alibi_slopes(heads).to(resources.device)
        self.model: nn.Module = nn.Identity()
        padded = 1 - tokens / (SEQUENCES * int(lengths.max()))
        note = f"{SEQUENCES} sequences of {int(lengths.min())} to {int(lengths.max())} tokens, {tokens:,} in all; padding would be {padded:.0%}"
        self.card = DatasetCard(identify_lengths(case.preset), "standard normal queries, keys and values", "generated", {"test": SEQUENCES}, notes=(note,))
        self.conditions: Mapping[str, str | int | float] = {"attention": str(kind), "batch": SEQUENCES, "heads": heads, "head_width": width, "tokens": tokens}

    def step(self) -> int:
        out = self._backend.attend(self._qkv, self._pack(), self._slopes)
        torch.autograd.grad(out, self._qkv, self._upstream)
        return SEQUENCES

    def infer(self) -> int:
        with torch.inference_mode():
            self._backend.attend(self._qkv, self._pack(), self._slopes)
        return SEQUENCES

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        raise NotImplementedError("an attention case trains nothing")

    def evaluate(self) -> Mapping[str, Quantity]:
        """Largest differences of output and gradient from plain float32 attention."""
        reference = self._run(load_attention(AttentionKind.EAGER).attend, self._qkv.detach().float(), self._upstream.float())
        own = self._run(self._backend.attend, self._qkv.detach(), self._upstream)
        how = f"largest absolute difference from plain float32 attention, {self._qkv.dtype} inputs"
        names = ("output_difference", "gradient_difference")
        return {
            name: Quantity(float((mine.float() - theirs).abs().max()), "1", n=mine.numel(), how=how)
            for name, mine, theirs in zip(names, own, reference, strict=True)
        }

    def _run(self, attend: Callable[[Tensor, Packing, Tensor], Tensor], qkv: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
        leaf = qkv.clone().requires_grad_()
        out = attend(leaf, self._pack(), self._slopes)
        return out.detach(), torch.autograd.grad(out, leaf, upstream)[0]

    def _pack(self) -> Packing:
        """Anew for every pass: masks and biases are part of what a batch costs."""
        return Packing.of(self._lengths, self._device)


class PublishedCallSession:
    """Implements assay.models.workload.Session: compiles the call `tl.dot(..., trans_b=True)` for one architecture and reports 1 or 0."""

    unit = ""  # there is nothing to time
    conditions: Mapping[str, str | int | float]
    ARCH = 80  # the published kernel was "only tested on A100"

    def __init__(self) -> None:
        if not proof.is_installed():
            raise Unsupported("Triton is not installed, so its compiler cannot be asked; the GPU images have it")
        self.model: nn.Module = nn.Identity()
        self.card = DatasetCard(identify_published_call(), "DNABERT-S, flash_attn_triton.py: its call of tl.dot", "Apache-2.0", {}, notes=())
        self.conditions = {"arch": f"sm_{self.ARCH}"}

    def step(self) -> int:
        raise NotImplementedError("a kernel that does not compile has no steps")

    infer = step

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        raise NotImplementedError("an attention case trains nothing")

    def evaluate(self) -> Mapping[str, Quantity]:
        """triton_kernel_compiles: 1 or 0. Raises RuntimeError when the compiler fails for any other reason than the call itself."""
        compiled = proof.compile_apart("product_transposed", self.ARCH, "fp16")
        if compiled.failure is not None and "trans_b" not in compiled.failure:
            raise RuntimeError(f"the compiler failed before it came to the call: {compiled.failure}")
        how = f"Triton {compiled.triton}, ahead of time for sm_{self.ARCH}: {compiled.failure or 'compiles'}; {EVERY_RELEASE}"
        return {"triton_kernel_compiles": Quantity(float(compiled.failure is None), "1", how=how)}
