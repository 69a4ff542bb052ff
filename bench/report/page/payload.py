"""The page's data: columns for the table and the plots, and blocks of details and curves, as compact as they must be.

Text is cleaned and cut here, once for each distinct string; the page shows it as text only. Numbers keep the digits that they deserve.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from assay.bench.case import Quantity
from assay.bench.formatting.numbers import choose_decimals

Json = object
Item = TypeVar("Item")
ELEMENT = 60  # bytes of the element around a block


class Pool:
    """Distinct values in order of their first use; everything else refers to them by number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self.values: list[Json] = []

    def add(self, value: Json) -> int:
        """The number of a value that JSON can hold."""
        spelled = json.dumps(value, sort_keys=True)
        if spelled not in self._numbers:
            self._numbers[spelled] = len(self.values)
            self.values.append(value)
        return self._numbers[spelled]


def round_quantity(quantity: Quantity | None, divide_by: float = 1) -> tuple[float | None, float | None, float | None]:
    """(value, low, high) with the digits that tables show: two of the interval's width, or four in all. None for what is not there."""
    if quantity is None or quantity.value is None:
        return None, None, None
    value = quantity.value / divide_by
    if quantity.low is None or quantity.high is None:
        return shorten(value), None, None
    low, high = quantity.low / divide_by, quantity.high / divide_by
    decimals = choose_decimals(value, low, high)
    if decimals is None:
        return shorten(value), shorten(low), shorten(high)
    decimals = min(decimals, 12)
    return _drop_point(round(value, decimals)), _drop_point(round(low, decimals)), _drop_point(round(high, decimals))


def shorten(value: float) -> float:
    """Whole numbers as they are, others to four significant digits."""
    whole = abs(value) < 1e15 and value == int(value)
    return int(value) if whole else _drop_point(float(f"{value:.4g}"))


def _drop_point(value: float) -> float:
    return int(value) if abs(value) < 1e15 and value == int(value) else value


def thin_curve(curve: Sequence[float], points: int) -> list[float]:
    """At most `points` values of a curve, first and last among them, to four significant digits."""
    if len(curve) <= points:
        return [shorten(value) for value in curve]
    return [shorten(curve[index]) for index in spread(len(curve), points)]


def spread(length: int, points: int) -> list[int]:
    """At most `points` indices from 0 to length - 1, evenly apart, both ends among them."""
    if length <= points:
        return list(range(length))
    return [round(i * (length - 1) / (points - 1)) for i in range(points)]


def pack(value: Json) -> str:
    """JSON as gzip in base64: what DecompressionStream opens in a browser. The same text for the same value."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return pack_text(text)


def pack_text(text: str) -> str:
    """Text as gzip in base64, without a time stamp."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return base64.b64encode(compressor.compress(text.encode("utf-8", "replace")) + compressor.flush()).decode()


def fill_blocks(items: Sequence[Item], encode: Callable[[Sequence[Item]], Json], size: int, budget: int) -> tuple[list[str], int]:
    """Packed blocks of `size` items, as many as the budget [bytes of the page] allows, and how many items they hold."""
    blocks: list[str] = []
    held = 0
    for start in range(0, len(items), size):
        chunk = items[start : start + size]
        packed = pack(encode(chunk))
        if len(packed) + ELEMENT > budget:
            break
        blocks.append(packed)
        held, budget = held + len(chunk), budget - len(packed) - ELEMENT
    return blocks, held
