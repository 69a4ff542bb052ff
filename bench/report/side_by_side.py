"""The same case in two images: how much faster one is, where nothing but the software differs."""

from __future__ import annotations

from assay.bench.case import Quantity
from assay.bench.records.record import Record

SOFTWARE = {"environment", "torch", "cuda", "attention"}
"""Fields of the comparability key that two images are allowed to differ in; anything else makes their ratio meaningless."""


def compare_speed(one: Record, two: Record) -> Quantity:
    """samples/s of the second over samples/s of the first, or the reason why there is no ratio.

    The interval runs between the far ends of the two 95 % intervals, so that it holds at least 90 % even if the two are not independent.
    """
    if failed := next((record for record in (one, two) if record.outcome != "ok"), None):
        return Quantity.missing("", f"{failed.outcome}")
    if one.emulated or two.emulated:
        return Quantity.missing("", "emulated")
    if one.comparability is None or two.comparability is None:
        return Quantity.missing("", "no comparability key")
    if other := [text for text in one.comparability.differences(two.comparability) if text.partition(":")[0] not in SOFTWARE]:
        return Quantity.missing("", f"not comparable: {other[0]}")
    speeds = [record.measurements.get("samples_per_s") for record in (one, two)]
    first, second = speeds
    if first is None or second is None or not first.value or not second.value:
        return Quantity.missing("", "no speed measured")
    low = second.low / first.high if second.low is not None and first.high else None
    high = second.high / first.low if second.high is not None and first.low else None
    return Quantity(second.value / first.value, "", n=min(first.n, second.n), low=low, high=high, how="ratio of medians; interval between the far ends of both")
