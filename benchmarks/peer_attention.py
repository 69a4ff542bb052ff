"""Attention with ALiBi, forward and backward, on a GPU against torch's own: `python benchmarks/peer_attention.py`.

One layer at the published width on sequences of equal length, twice. Against what there is without a kernel of one's own: scaled dot-product
attention with the bias materialised. And against what a kernel can hope for: the flash kernel of the same call, which takes no bias and so
computes less; ours is to come within 1.3 times its time. Outputs and gradients are compared before anything is timed.
Exit code 1 when the suite surely does not keep what benchmarks.contest.judge asks of it.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import Unsupported
from assay.models.dnabert.attention.packing import Packing, alibi_bias, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, load_attention, require_attention
from assay.models.dnabert.network import PUBLISHED
from assay.models.dnabert.tasks import element_type
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests
from benchmarks.footprint import choose_open_precision

BOUND = 1 / 1.3
"""Share of the biasless flash kernel's throughput that ours is to reach."""
ERROR_SHARE = 2.0
"""Errors against float32 may be this many times those of plain attention in the same dtype, as flash-attn's own tests have it."""
ROUNDING = 1e-5
Attend = Callable[[Tensor], Tensor]
"""qkv [T, 3, heads, D] -> [T, heads, D]."""


def prepare(kind: AttentionKind, sequences: int, length: int, repeats: int = 1, place: Place | None = None) -> Iterator[Contest]:
    """Both contests. repeats: passes in one measurement, for a GPU's takes less than a millisecond.

    Raises assay.bench.case.Unsupported where the backend cannot run, ValueError where it computes something else.
    """
    place = place or open_place("cpu")
    device, precision = place.device, choose_open_precision(place.profile)
    dtype, heads = element_type(precision), PUBLISHED.heads
    backend = require_attention(kind, device, dtype, needs_gradient=True)
    random = torch.Generator().manual_seed(0)
    shape = (sequences * length, 3, heads, PUBLISHED.hidden // heads)
    qkv = torch.randn(shape, generator=random).to(device, dtype)
    upstream = torch.randn((shape[0], *shape[2:]), generator=random).to(device, dtype)
    slopes, packing = alibi_slopes(heads).to(device), Packing.of(torch.full((sequences,), length), device)
    bias = alibi_bias(slopes, length).to(dtype)[None]  # made once, as all layers of a network share it

    def attend(inputs: Tensor) -> Tensor:
        return backend.attend(inputs, packing, slopes)

    def attend_biased(inputs: Tensor) -> Tensor:
        return _attend_plainly(inputs, sequences, bias)

    def attend_unbiased(inputs: Tensor) -> Tensor:
        with flash_alone():
            return _attend_plainly(inputs, sequences, None)

    agreement = check_agreement(attend, attend_biased, qkv, upstream, packing, slopes)
    for peer, way, name, told, bound in (
        (attend_biased, "scaled dot-product attention, bias materialised", "biased", agreement, None),
        (attend_unbiased, "scaled dot-product attention, flash kernel, no bias", "unbiased", "the peer computes less: it knows no bias", BOUND),
    ):
        yield Contest(
            name=f"attention, peer {name}",
            unit="sequences",
            samples=sequences * repeats,
            lanes={
                Lane.PEER: Entry(run=_differentiate(peer, qkv, upstream, repeats), precision=precision, how=way),
                Lane.OPEN: Entry(run=_differentiate(attend, qkv, upstream, repeats), precision=precision, how=f"{kind}, ALiBi within"),
            },
            agreement=told,
            aim=bound,
            aim_device=device.type,
            device=device,
            profile=place.profile,
        )


def flash_alone() -> AbstractContextManager[None]:
    """Scaled dot-product attention by its flash kernel or not at all; torch 2.1 of the Triton 2 image has another name for that."""
    if hasattr(torch.nn, "attention"):
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(SDPBackend.FLASH_ATTENTION)
    return torch.backends.cuda.sdp_kernel(enable_flash=True, enable_math=False, enable_mem_efficient=False)


def check_agreement(attend: Attend, peer: Attend, qkv: Tensor, upstream: Tensor, packing: Packing, slopes: Tensor) -> str:
    """Raises ValueError when outputs or gradients are further from plain float32 attention than twice the peer's; else says how close they are."""
    eager = load_attention(AttentionKind.EAGER)

    def attend_exactly(inputs: Tensor) -> Tensor:
        return eager.attend(inputs, Packing(packing.offsets, packing.lengths), slopes)  # what is kept in a packing has a dtype

    exact = _compute(attend_exactly, qkv.float(), upstream.float())
    told = []
    for what, own, theirs, truth in zip(("outputs", "gradients"), _compute(attend, qkv, upstream), _compute(peer, qkv, upstream), exact, strict=True):
        error, allowed = float((own.float() - truth).abs().max()), float((theirs.float() - truth).abs().max()) * ERROR_SHARE + ROUNDING
        if not error <= allowed:
            raise ValueError(f"{what} are {error:.2g} from plain float32 attention, where twice the peer's error is {allowed:.2g}; nothing to compare")
        told.append(f"{what} within {error:.1g}")
    return f"{' and '.join(told)} of plain float32 attention, checked before timing"


def _attend_plainly(qkv: Tensor, sequences: int, bias: Tensor | None) -> Tensor:
    query, key, value = qkv.view(sequences, -1, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(0, 1)


def _compute(attend: Attend, qkv: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    leaf = qkv.detach().clone().requires_grad_()
    out = attend(leaf)
    return out.detach(), torch.autograd.grad(out, leaf, upstream)[0]


def _differentiate(attend: Attend, qkv: Tensor, upstream: Tensor, repeats: int) -> Callable[[int], nn.Module]:
    leaf = qkv.detach().clone().requires_grad_()

    def run(_seed: int) -> nn.Module:
        for _ in range(repeats):
            torch.autograd.grad(attend(leaf), leaf, upstream)
        return nn.Identity()

    return run


def main(arguments: list[str] | None = None) -> int:
    """Runs the contests, prints the table and returns the exit code."""
    parser = make_parser(__doc__, rounds=21)
    parser.set_defaults(device="cuda")  # on a CPU ours is torch's, and there is nothing to win
    parser.add_argument("--attention", type=AttentionKind, choices=list(AttentionKind), help="ours (default: triton on a GPU, sdpa on a CPU)")
    parser.add_argument("--sequences", type=int, default=16, metavar="N", help="sequences of the batch (default: 16)")
    parser.add_argument("--length", type=int, default=512, metavar="N", help="tokens of each (default: 512)")
    parser.add_argument("--repeats", type=int, metavar="N", help="passes in one measurement (default: 100 on a GPU, 1 on a CPU)")

    def prepare_both(options: Namespace, place: Place) -> Iterator[Contest]:
        on_gpu = place.device.type == "cuda"
        kind = options.attention or (AttentionKind.TRITON if on_gpu else AttentionKind.SDPA)
        try:
            yield from prepare(kind, options.sequences, options.length, options.repeats or (100 if on_gpu else 1), place)
        except Unsupported as error:
            parser.error(str(error))

    return run_contests(parser, prepare_both, arguments)


if __name__ == "__main__":
    sys.exit(main())
