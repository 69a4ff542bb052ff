"""How much arithmetic a step does and how many bytes it moves, and how much of the machine's peak that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.case import Precision, Quantity
from bench.measure.traffic import TrafficCounter
from bench.profiles import Profile


def count_work(step: Callable[[], int]) -> dict[str, Quantity]:
    """flops_per_step [FLOP], bytes_per_step and least_bytes_per_step [bytes] of one step, forward and backward, counted while it runs once.

    Of the arithmetic, matrix products, convolutions and attention count, with two operations per multiply-add, as torch's counter knows
    them; element-wise work and kernels that torch does not know (Triton) do not. Of the bytes, see TrafficCounter. A step that does not
    run under the counters (torch lets none look into compiled FlexAttention) has none of the three, and the reason.
    """
    traffic = TrafficCounter()
    try:
        with FlopCounterMode(display=False) as counter, traffic:
            step()
    except (RuntimeError, TypeError) as error:  # the step has run before, so it is the counting that fails
        torch.compiler.reset()  # it would refuse the same step without counters too
        why = f"the step does not run under torch's counters: {(str(error) or type(error).__name__).splitlines()[0][:200]}"
        return {"flops_per_step": Quantity.missing("FLOP", why)} | dict.fromkeys(("bytes_per_step", "least_bytes_per_step"), Quantity.missing("bytes", why))
    total = counter.get_total_flops()
    if total == 0:
        flops = Quantity.missing("FLOP", "torch's counter knows none of the step's operations")
    else:
        flops = Quantity(total, "FLOP", how="torch FlopCounterMode over one step: matrix products, convolutions, attention")
    return {"flops_per_step": flops} | traffic.quantities()


def utilise(work: Mapping[str, Quantity], step_seconds: float, profile: Profile, precision: Precision) -> dict[str, Quantity]:
    """mfu [share of the peak] and roofline_bound_ms [ms], which the step cannot undercut while its weights do not stay in a cache.

    work: of one step, from count_work. Bytes bound the time by those that must move, whatever is fused.
    """
    flops, least = work["flops_per_step"], work["least_bytes_per_step"].value
    peak, bandwidth = profile.peak_flops.get(precision), profile.bandwidth
    no_peak = f"profile {profile.name} has no peak for {precision}"
    bounds: dict[str, float] = {}
    if flops.value is not None and peak is not None:
        bounds[f"{flops.value:.4g} FLOP at {peak.value:.4g} FLOP/s"] = flops.value / peak.value
        how = f"FLOP per step / step time / {peak.value:.4g} FLOP/s ({precision}, dense; {peak.source})"
        mfu = Quantity(flops.value / step_seconds / peak.value, "share", how=how)
    else:
        mfu = Quantity.missing("share", flops.reason or no_peak)
    if least is not None and bandwidth is not None:
        bounds[f"{least:.4g} bytes at {bandwidth.value:.4g} bytes/s"] = least / bandwidth.value
    if not bounds:
        return {"mfu": mfu, "roofline_bound_ms": Quantity.missing("ms", flops.reason or no_peak)}
    how = " or ".join(bounds) + (", whichever takes longer" if len(bounds) > 1 else "")
    return {"mfu": mfu, "roofline_bound_ms": Quantity(max(bounds.values()) * 1e3, "ms", how=how)}
