"""Columns of the splice family's text tables, read with errors that name file, row and remedy."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError, MissingData
from assay.datasets.genome import INVALID, encode_bases
from assay.datasets.text import open_text

Array = np.ndarray

FIRST_ROW = 2
"""Number of the first data row, as editors count: the header is row 1."""


def read_columns(path: Path, columns: Sequence[str], delimiter: str = ",", header: bool = True) -> dict[str, list[str]]:  # noqa: FBT001, FBT002
    """The named columns of a delimited text file, plain or gzip, as text.

    header: False for a file without one, whose columns are then `columns` in order. Raises MissingData for a file that is not
    there and DataError for a file that is no text, a missing column, a row that is too short, or an empty table.
    """
    if not path.is_file():
        raise MissingData(path, "not found", "Fetch it with `python -m bench data fetch` or give its folder with --data")
    with open_text(path, "Give it as UTF-8, or download it again") as stream:
        rows = csv.reader(stream, delimiter=delimiter)
        names = next(rows, []) if header else list(columns)
        absent = [column for column in columns if column not in names]
        if absent:
            raise DataError(path, f"has no column {', '.join(map(repr, absent))}", f"Give a file with the columns {', '.join(columns)}", row=1)
        places = [names.index(column) for column in columns]
        found: list[list[str]] = [[] for _ in columns]
        for number, row in enumerate(rows, start=FIRST_ROW if header else 1):
            if len(row) <= max(places):
                raise DataError(path, f"has {len(row)} fields, expected at least {max(places) + 1}", "Download the file again; it may be cut short", row=number)
            for values, place in zip(found, places, strict=True):
                values.append(row[place])
    if not found[0]:
        raise DataError(path, "holds no rows", "Download the file again")
    return dict(zip(columns, found, strict=True))


def parse_numbers(path: Path, column: str, values: Sequence[str], *, finite: bool = True, first_row: int = FIRST_ROW) -> Array:
    """float64 [n] of a column's text.

    finite: False lets NaN (also an empty field or `NA`) and infinities through. Raises DataError with the row of the first bad value.
    """
    numbers = np.empty(len(values))
    for index, text in enumerate(values):
        try:
            numbers[index] = math.nan if text in {"", "NA"} else float(text)
        except ValueError:
            raise DataError(path, f"{column} is {text!r}, not a number", "Correct or remove the row", row=first_row + index) from None
        if finite and not math.isfinite(numbers[index]):
            raise DataError(path, f"{column} is {text or 'empty'!r}, not a finite number", "Correct or remove the row", row=first_row + index)
    return numbers


def encode_column(path: Path, column: str, values: Sequence[str], length: int, first_row: int = FIRST_ROW) -> Array:
    """uint8 [n, length] base codes of a column of sequences, shorter ones padded with N at their end.

    Raises DataError with the row of a sequence that is empty, too long, or holds a letter that is no base.
    """
    for index, text in enumerate(values):
        if not 0 < len(text) <= length:
            raise DataError(path, f"{column} has {len(text)} letters, expected 1 to {length}", "Correct or remove the row", row=first_row + index)
    codes = encode_bases("".join(text.ljust(length, "N") for text in values)).reshape(len(values), length)
    bad = (codes == INVALID).any(axis=1)
    if bad.any():
        raise DataError(path, f"{column} holds letters other than A, C, G, T, N", "Correct or remove the row", row=first_row + int(bad.argmax()))
    return codes
