"""The precision in which the open division runs on this machine: the fastest that its hardware has units for, of those that a variant offers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from assay.bench.case import Case, Division, Precision, Unsupported
from assay.bench.profiles import Profile

if TYPE_CHECKING:
    from assay.models.workload import Variant

CPU_INFO = Path("/proc/cpuinfo")
MARGIN = 1.2  # times as fast as float32 must bfloat16 be where it was measured, so that noise does not choose
BF16_UNITS = {"avx512_bf16", "amx_bf16", "bf16"}  # x86's two and ARM's, as Linux names them


def require_precision(case: Case, variant: Variant, profile: Profile) -> None:
    """Raises Unsupported for an open case whose precision is not the one that the open division takes on this profile's machine.

    Closed cases keep the documented precision, whatever it costs.
    """
    if case.division is not Division.OPEN:
        return
    chosen, reason = choose_precision(profile, variant.precisions[Division.OPEN])
    if case.precision is not chosen:
        raise Unsupported(f"the open division runs in {chosen} here: {reason}")


def choose_precision(profile: Profile, offered: Sequence[Precision]) -> tuple[Precision, str]:
    """The best of these precisions on the profile's machine, and why: bfloat16, then float16 (whose losses are scaled), then float32."""
    fast, reason = _find_units(profile)
    return (fast, reason) if fast in offered else (Precision.FP32, f"{reason}, and this variant offers {', '.join(offered)}")


def _find_units(profile: Profile) -> tuple[Precision, str]:
    if profile.device == "cpu":
        return _ask_cpu(CPU_INFO)
    if profile.device == "cuda":
        for precision in (Precision.BF16, Precision.FP16):
            if precision in profile.peak_flops:
                return precision, f"profile {profile.name} lists a peak for it"
    return Precision.FP32, f"profile {profile.name} lists no peak for bf16{' or fp16' if profile.device == 'cuda' else ''}"


@cache
def _ask_cpu(cpu_info: Path) -> tuple[Precision, str]:
    listed = set(cpu_info.read_text().split()) if cpu_info.exists() else set()
    if units := sorted(BF16_UNITS & listed):
        return Precision.BF16, f"the CPU has {' and '.join(units)}"
    if listed & {"flags", "Features"}:  # the lines in which x86 and ARM list them
        return Precision.FP32, "the CPU multiplies bfloat16 in software, which is slower than float32"
    import torch

    from assay.bench.measure.calibration import time_product

    # a system that does not list its CPU's units: what they reach decides
    reached = {precision: time_product(torch.device("cpu"), precision) for precision in (Precision.BF16, Precision.FP32)}
    faster = Precision.BF16 if reached[Precision.BF16] > MARGIN * reached[Precision.FP32] else Precision.FP32
    told = " and ".join(f"{precision} {flops / 1e9:.3g} GFLOP/s" for precision, flops in reached.items())
    return faster, f"a matrix product reached {told}"
