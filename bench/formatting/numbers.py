"""Figures with as many digits as they deserve."""

from __future__ import annotations

import math
from decimal import Decimal

from assay.bench.case import Quantity

_PLAIN_UP_TO = 1e15  # beyond, and below _PLAIN_FROM, scientific notation
_PLAIN_FROM = 1e-4


def format_interval(quantity: Quantity, divide_by: float = 1) -> str:
    """`0.391 [0.385, 0.398]`: two digits of the interval's width decide how many are shown, but the value keeps two of its own.

    Without an interval, four digits in all. Nothing for a value that could not be had.
    """
    if quantity.value is None:
        return ""
    value = quantity.value / divide_by
    if quantity.low is None or quantity.high is None:
        return format_number(value)
    low, high = quantity.low / divide_by, quantity.high / divide_by
    decimals = choose_decimals(value, low, high)
    if decimals is None:
        return f"{format_number(value)} [{format_number(low)}, {format_number(high)}]"
    return f"{_round(value, decimals)} [{_round(low, decimals)}, {_round(high, decimals)}]"


def choose_decimals(value: float, low: float, high: float) -> int | None:
    """Decimals that a value deserves by its interval, negative for tens and more; None where the interval decides nothing."""
    width = high - low
    if not math.isfinite(width) or width <= 0 or not all(_is_plain(x) for x in (value, low, high)):
        return None
    decimals = 1 - math.floor(math.log10(width))
    if value:
        decimals = max(decimals, min(1 - math.floor(math.log10(abs(value))), decimals + 2))
    return decimals


def format_number(value: float) -> str:
    """Whole numbers in full, others to four significant digits; thousands separated."""
    if not _is_plain(value):
        return f"{value:.4g}"
    if value == int(value):
        return f"{int(value):,}"
    return _round(value, 3 - math.floor(math.log10(abs(value))))


def format_documented(value: Decimal) -> str:
    """A documented number with exactly the digits that the document gives."""
    return f"{value:,f}" if abs(value.adjusted()) < 15 else f"{value:g}"


def format_duration(seconds: float) -> str:
    """`0.4 s`, `48 s`, `12 min`, `2.5 h`: two digits, which is more than an expectation deserves."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 99.5 else f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def _is_plain(value: float) -> bool:
    return value == 0 or _PLAIN_FROM <= abs(value) < _PLAIN_UP_TO


def _round(value: float, decimals: int) -> str:
    rounded = round(value, decimals) + 0.0  # no minus zero
    return f"{rounded:,.{max(0, min(decimals, 12))}f}"
