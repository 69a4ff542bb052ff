"""How much arithmetic a step does and how many bytes it moves, and how much of the machine's peak that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from assay.bench.case import Precision, Quantity
from assay.bench.measure.traffic import TrafficCounter
from assay.bench.profiles import Profile

MOST_COUNTS = 3  # steps counted in search of one that has at least the mean samples: an epoch's short batches do not come in a row


def count_work(step: Callable[[], int], mean_samples: float | None = None) -> dict[str, Quantity]:
    """flops_per_step [FLOP], bytes_per_step and least_bytes_per_step [bytes] of one step, forward and backward, counted while it runs.

    Of the arithmetic, matrix products, convolutions and attention count, with two operations per multiply-add, as torch's counter knows
    them; element-wise work and kernels that torch does not know (Triton) do not. Of the bytes, see TrafficCounter. A step that does not
    run under the counters (torch lets none look into compiled FlexAttention) has none of the three, and the reason.

    mean_samples: of the steps that were timed. Where batches differ in size, a short one is not taken for all: another step is counted,
    and what was counted of the largest is scaled to the mean, so that flops_per_step / step time is FLOP per sample x samples/s.
    """
    samples, counted = _count_once(step)
    for _ in range(MOST_COUNTS - 1):
        if mean_samples is None or samples >= mean_samples or counted["flops_per_step"].value is None:
            break
        again, recounted = _count_once(step)
        if again > samples:
            samples, counted = again, recounted
    if mean_samples is None or not samples or samples == mean_samples:
        return counted
    note = f"; counted over a step of {samples} samples and scaled to the {mean_samples:.4g} of a mean one"
    return {name: _scale(quantity, mean_samples / samples, note) for name, quantity in counted.items()}


def _scale(quantity: Quantity, factor: float, note: str) -> Quantity:
    return quantity if quantity.value is None else replace(quantity, value=quantity.value * factor, how=quantity.how + note)


def _count_once(step: Callable[[], int]) -> tuple[int, dict[str, Quantity]]:
    """The samples of one step, and its work."""
    traffic = TrafficCounter()
    try:
        with FlopCounterMode(display=False) as counter, traffic:
            samples = step()
    except (RuntimeError, TypeError) as error:  # the step has run before, so it is the counting that fails
        torch.compiler.reset()  # it would refuse the same step without counters too
        why = f"the step does not run under torch's counters: {(str(error) or type(error).__name__).splitlines()[0][:200]}"
        return 0, {"flops_per_step": Quantity.missing("FLOP", why)} | dict.fromkeys(("bytes_per_step", "least_bytes_per_step"), Quantity.missing("bytes", why))
    total = counter.get_total_flops()
    if total == 0:
        flops = Quantity.missing("FLOP", "torch's counter knows none of the step's operations")
    else:
        flops = Quantity(total, "FLOP", how="torch FlopCounterMode over one step: matrix products, convolutions, attention")
    return samples, {"flops_per_step": flops} | traffic.quantities()


def utilise(work: Mapping[str, Quantity], step_seconds: float, profile: Profile, precision: Precision) -> dict[str, Quantity]:
    """mfu [share of the peak] and roofline_bound_ms [ms], which the step cannot undercut while its weights do not stay in a cache.

    work: of one step, from count_work; step_seconds: of the mean step, the same that count_work scaled to.
    Bytes bound the time by those that must move, whatever is fused.
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
