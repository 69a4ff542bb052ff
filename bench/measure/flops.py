"""How much arithmetic a step does, and how much of the machine's peak that is."""

from __future__ import annotations

from collections.abc import Callable

from torch.utils.flop_counter import FlopCounterMode

from bench.case import Precision, Quantity
from bench.profiles import Profile


def count_flops(step: Callable[[], int]) -> Quantity:
    """Floating-point operations of one step, forward and backward, as torch counts them while the step runs once.

    Matrix products, convolutions and attention count, with two operations per multiply-add; element-wise work and kernels
    that torch does not know (Triton) do not.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    total = counter.get_total_flops()
    if total == 0:
        return Quantity.missing("FLOP", "torch's counter knows none of the step's operations")
    return Quantity(total, "FLOP", how="torch FlopCounterMode over one step: matrix products, convolutions, attention")


def utilise(flops: Quantity, step_seconds: float, bytes_per_step: float | None, profile: Profile, precision: Precision) -> dict[str, Quantity]:
    """mfu [share of the peak] and roofline_bound_ms [ms], the time below which no implementation of the step can come.

    flops: of one step, from count_flops. bytes_per_step: what must move between memory and chip, where it is known.
    """
    peak, bandwidth = profile.peak_flops.get(precision), profile.bandwidth
    no_peak = f"profile {profile.name} has no peak for {precision}"
    bounds: dict[str, float] = {}
    if flops.value is not None and peak is not None:
        bounds[f"{flops.value:.4g} FLOP at {peak.value:.4g} FLOP/s"] = flops.value / peak.value
        how = f"FLOP per step / step time / {peak.value:.4g} FLOP/s ({precision}, dense; {peak.source})"
        mfu = Quantity(flops.value / step_seconds / peak.value, "share", how=how)
    else:
        mfu = Quantity.missing("share", flops.reason or no_peak)
    if bytes_per_step is not None and bandwidth is not None:
        bounds[f"{bytes_per_step:.4g} bytes at {bandwidth.value:.4g} bytes/s"] = bytes_per_step / bandwidth.value
    if not bounds:
        return {"mfu": mfu, "roofline_bound_ms": Quantity.missing("ms", flops.reason or no_peak)}
    how = " or ".join(bounds) + (", whichever takes longer" if len(bounds) > 1 else "")
    return {"mfu": mfu, "roofline_bound_ms": Quantity(max(bounds.values()) * 1e3, "ms", how=how)}
