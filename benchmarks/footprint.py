"""What one run of a lane takes of the machine: memory beyond what was there before, floating-point operations, share of the peak."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

import psutil
import torch

from assay.bench.case import Precision, Quantity
from assay.bench.measure.clock import synchronise
from assay.bench.measure.flops import count_work
from assay.bench.measure.memory import measure_resident_peak, reset_resident_peak
from assay.bench.measure.precision import choose_precision
from assay.bench.profiles import Profile


def measure_growth(run: Callable[[], object], device: torch.device) -> Quantity:
    """Peak memory [bytes] of one run above what was in use before it: data and networks that are made once for all rounds are not in it."""
    gc.collect()
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        synchronise(device)
        how = "torch's allocator, peak of one run above what was allocated before it"
        return Quantity(torch.cuda.max_memory_allocated(device) - before, "bytes", how=how)
    _return_free_memory()
    if not reset_resident_peak():
        run()
        return Quantity.missing("bytes", "the kernel does not reset the peak of resident memory here, and lanes share a process")
    resident = psutil.Process().memory_info().rss
    run()
    peak = measure_resident_peak(since_reset=True)["rss_peak"].value
    if peak is None:
        return Quantity.missing("bytes", "the kernel tells no peak of resident memory")
    how = "VmHWM of one run above the resident memory before it, free memory handed back first"
    return Quantity(max(0.0, peak - resident), "bytes", how=how)


def _return_free_memory() -> None:
    """Hands what earlier lanes have freed back to the kernel: a lane that took it over would seem to need nothing."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):  # glibc's
        library.malloc_trim(0)


def count_flops(run: Callable[[], object]) -> Quantity:
    """FLOP of one run as torch's counter knows them: matrix products, convolutions, attention."""

    def step() -> int:
        run()
        return 1

    return count_work(step)["flops_per_step"]


def use_of_peak(flops: Quantity, samples: int, speed: Quantity, profile: Profile, precision: Precision) -> Quantity:
    """MFU [share]: the lane's own FLOP per sample x samples/s over the profile's dense peak, or the reason why there is none."""
    peak = profile.peak_flops.get(precision)
    if peak is None:
        return Quantity.missing("share", f"profile {profile.name} has no peak for {precision}")
    if flops.value is None or speed.value is None:
        return Quantity.missing("share", flops.reason or "no speed measured")
    how = f"{flops.value / samples:.4g} FLOP per sample x samples/s / {peak.value:.4g} FLOP/s ({precision}, dense; {peak.source})"
    return Quantity(flops.value / samples * speed.value / peak.value, "share", speed.n, how=how)


def choose_open_precision(profile: Profile) -> Precision:
    """As the cases of the open division choose theirs, but for float16: some peers train in loops of their own, which scale no loss."""
    return choose_precision(profile, (Precision.BF16, Precision.FP32))[0]
