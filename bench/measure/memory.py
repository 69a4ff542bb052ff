"""How much memory a case needs: what torch held, what the board saw, and what the process held in main memory."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from assay.bench.case import Quantity
from assay.bench.measure.board import SampledWindow

CLEAR_REFS = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class AllocatorPeaks:
    """What torch's caching allocator held at most since its peaks were reset [bytes]; exact."""

    allocated: int
    reserved: int


def reset_allocator_peaks(device: torch.device) -> None:
    """Forgets earlier peaks of torch's allocator."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def read_allocator_peaks(device: torch.device) -> AllocatorPeaks | str:
    """The allocator's peaks, or the reason why it keeps none."""
    if device.type == "cuda":
        return AllocatorPeaks(torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device))
    return "the case ran on the CPU" if device.type == "cpu" else f"torch keeps no peaks of its memory on {device.type}"


def read_reserved(device: torch.device) -> int:
    """What torch's allocator holds of the device at this moment [bytes]."""
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


def measure_gpu_memory(window: SampledWindow | str, peaks: AllocatorPeaks | str, baseline: int) -> dict[str, Quantity]:
    """allocated_peak, reserved_peak, device_peak and non_torch [bytes].

    baseline: what was in use on the board [bytes] without the case; device_peak counts from there. non_torch is what the
    board saw beyond torch's reserve: context, library work spaces, memory taken past the allocator.
    window and peaks: a string is the reason why there are none.
    """
    quantities = _show_peaks(peaks)
    if isinstance(window, str) or window.lost is not None or window.peak_bytes is None:
        reason = window if isinstance(window, str) else window.lost or "the board told no memory"
        return quantities | {name: Quantity.missing("bytes", reason) for name in ("device_peak", "non_torch")}
    device = Quantity(window.peak_bytes - baseline, "bytes", window.samples, how=_describe_sampling(window))
    if isinstance(peaks, str):
        non_torch = Quantity.missing("bytes", peaks)
    else:
        non_torch = Quantity(window.peak_bytes - baseline - peaks.reserved, "bytes", window.samples, how="device_peak - reserved_peak")
    return quantities | {"device_peak": device, "non_torch": non_torch}


def _show_peaks(peaks: AllocatorPeaks | str) -> dict[str, Quantity]:
    if isinstance(peaks, str):
        return {name: Quantity.missing("bytes", peaks) for name in ("allocated_peak", "reserved_peak")}
    how = "torch's allocator, exact"
    return {"allocated_peak": Quantity(peaks.allocated, "bytes", how=how), "reserved_peak": Quantity(peaks.reserved, "bytes", how=how)}


def _describe_sampling(window: SampledWindow) -> str:
    health = f"{window.samples} samples, largest gap {window.largest_gap_ms:.1f} ms"
    text = f"NVML memory info {window.memory_api} every {window.period_ms:g} ms, above the baseline; {health}"
    return text if window.memory_api == "v2" else text + "; v1 counts the driver's own reserve on both sides of the difference"


def find_memory_fault(window: SampledWindow | str, peaks: AllocatorPeaks | str, baseline: int) -> list[str]:
    """Says so when the board saw less than torch certainly held: then the samples or the baseline are wrong."""
    if isinstance(window, str) or isinstance(peaks, str) or window.lost is not None or window.peak_bytes is None:
        return []
    seen = window.peak_bytes - baseline
    if seen >= peaks.reserved:
        return []
    numbers = f"sampled peak of GPU memory ({seen} bytes) is below what torch reserved ({peaks.reserved} bytes)"
    return [f"{numbers}: another process freed memory meanwhile, or the sampler missed it; run again alone"]


def reset_resident_peak() -> bool:
    """Makes the kernel forget the peak of this process's resident memory. False where it does not allow that."""
    try:
        CLEAR_REFS.write_text("5")  # proc(5): 5 resets the peak resident set size
    except OSError:
        return False
    return True


def measure_resident_peak(*, since_reset: bool) -> dict[str, Quantity]:
    """rss_peak [bytes] of this process alone, from the kernel: since the reset, else since the process started."""
    covers = "since the window's start" if since_reset else "since the process started: the kernel does not reset it here"
    if STATUS.exists():
        # not getrusage: its maximum survives exec and may be that of the process that started this one
        fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        if "VmHWM" in fields:
            return {"rss_peak": Quantity(int(fields["VmHWM"].split()[0]) * 1024, "bytes", how=f"VmHWM of /proc/self/status, {covers}")}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"rss_peak": Quantity(peak, "bytes", how="getrusage, since the process started")}
