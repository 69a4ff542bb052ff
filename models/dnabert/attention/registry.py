"""Every way to compute attention by name, behind one interface."""

from __future__ import annotations

import importlib
from enum import StrEnum
from typing import Protocol, cast

import torch
from torch import Tensor

from assay.bench.case import Unsupported
from assay.models.dnabert.attention.packing import Packing


class AttentionKind(StrEnum):
    """The backends."""

    EAGER = "eager"  # plain, padded, bias materialised: the reference
    SDPA = "sdpa"
    FLEX = "flex"
    FLASH = "flash"
    TRITON = "triton"


class Backend(Protocol):
    """One way to compute softmax(q k^T / sqrt(D) - slope |i - j|) v within each sequence of a packed batch."""

    def explain_absence(self, device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> str | None:
        """None where it can run, else the reason and what would help."""

    def attend(self, qkv: Tensor, packing: Packing, slopes: Tensor) -> Tensor:
        """qkv: [T, 3, heads, D], slopes: float32 [heads] -> [T, heads, D] in the dtype of qkv. No sequence sees another one."""


_MODULES = {  # in full: the source hash follows them as it follows imports
    AttentionKind.EAGER: "assay.models.dnabert.attention.eager",
    AttentionKind.SDPA: "assay.models.dnabert.attention.sdpa",
    AttentionKind.FLEX: "assay.models.dnabert.attention.flex",
    AttentionKind.FLASH: "assay.models.dnabert.attention.flash",
    AttentionKind.TRITON: "assay.models.dnabert.attention.fused",
}
_PREFERENCE = (AttentionKind.FLASH, AttentionKind.TRITON, AttentionKind.FLEX, AttentionKind.SDPA)
"""Fastest first, on a GPU; a CPU takes sdpa."""


def load_attention(kind: AttentionKind) -> Backend:
    """The backend of that name, whether or not it can run here. What it needs is imported when it runs."""
    return cast(Backend, importlib.import_module(_MODULES[kind]))


def require_attention(kind: AttentionKind, device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> Backend:
    """The backend of that name. Raises Unsupported, with its reason, where it cannot run."""
    backend = load_attention(kind)
    if (reason := backend.explain_absence(device, dtype, needs_gradient=needs_gradient)) is not None:
        raise Unsupported(f"attention {kind}: {reason}")
    return backend


def choose_attention(device: torch.device, dtype: torch.dtype, *, needs_gradient: bool) -> AttentionKind:
    """The fastest backend that can run here."""
    candidates = _PREFERENCE if device.type == "cuda" else (AttentionKind.SDPA,)
    return next(kind for kind in candidates if load_attention(kind).explain_absence(device, dtype, needs_gradient=needs_gradient) is None)
