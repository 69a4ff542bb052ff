"""How much energy a GPU took: the difference of its own counter over a window."""

from __future__ import annotations

from assay.bench.case import Quantity
from assay.bench.measure.board import SampledWindow

MIN_SECONDS = 5.0  # the counter moves in steps: a step of 0.1 s is 2 % of such a window


def measure_energy(window: SampledWindow | str, samples: int) -> dict[str, Quantity]:
    """energy [J] of the whole board over the window, and energy_per_1000_samples [J] for the samples seen in it.

    The counter only, never an integral of power readings: some boards (A40) report an average over the last second.
    window: a string is the reason why there is none.
    """
    joules = window if isinstance(window, str) else _subtract_counters(window)
    if isinstance(window, str) or isinstance(joules, str):
        return {name: Quantity.missing("J", str(joules)) for name in ("energy", "energy_per_1000_samples")}
    how = f"difference of the board's energy counter over {window.seconds:.1f} s"
    each = Quantity(joules / samples * 1e3, "J", samples, how=how) if samples > 0 else Quantity.missing("J", "no samples in the window")
    return {"energy": Quantity(joules, "J", how=how), "energy_per_1000_samples": each}


def _subtract_counters(window: SampledWindow) -> float | str:
    start, end = window.energy_start_mj, window.energy_end_mj
    if window.lost is not None:
        return window.lost
    if start is None or end is None or window.seconds is None:
        return window.energy_reason or "the board has no energy counter"
    if window.seconds < MIN_SECONDS:
        return f"window of {window.seconds:.1f} s: the energy counter takes at least {MIN_SECONDS:g} s"
    if end <= start:
        return f"the energy counter went from {start} to {end} mJ: it stands still or was reset"
    return (end - start) / 1e3
