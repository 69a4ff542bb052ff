"""Mouse audiograms: thresholds of the auditory brainstem response (ABR) at five tones and a click, with metadata and the knocked-out gene.

Reads the IMPC tables of document 003's origin, splits them by gene, and turns mice into the network's inputs. Everything that is learned
from data (medians, means, categories, principal components) is learned from the training split alone.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files
from assay.datasets.splits import RowSplit, split_by_group

Array = np.ndarray
Encoding = Literal["ten-columns", "all-categories"]

FREQUENCIES = ("6khz", "12khz", "18khz", "24khz", "30khz", "click")
THRESHOLD_COLUMNS = (*(f"{tone}-evoked ABR Threshold" for tone in ("6kHz", "12kHz", "18kHz", "24kHz", "30kHz")), "Click-evoked ABR threshold")
NUMBER_COLUMNS = ("age_in_weeks", "weight")
CATEGORY_COLUMNS = ("sex", "zygosity", "genetic_background", "phenotyping_center", "pipeline_name", "metadata_Equipment manufacturer")
GENE_COLUMN = "gene_symbol"
SPLIT_FRACTIONS = (0.8, 0.1, 0.1)
SPLIT_SEED = 42

UNION_CSV = Path("impc_abr/union_unique_mice.csv")
SAMPLE_CSV = Path("impc_abr/abr_1000_lines.csv")
FULL_CSV = Path("impc_abr/abr_full_data.csv")
_NAMES = {FULL_CSV.name: "impc-abr", UNION_CSV.name: "impc-abr-union", SAMPLE_CSV.name: "impc-abr-sample"}

DOCUMENTED_METADATA = 10  # columns that are left of all metadata in the documented recipe
MAX_CATEGORIES = 10  # per field, in the documented recipe; the rarest share the last one
# columns per field when nothing is cut; the last one takes what is missing, unknown to the training split or too rare for a column
CATEGORY_WIDTHS = (3, 5, 10, 12, 12, 6)
COMPONENTS = 2
_FIRST_ROW = 2  # as editors count: the header is row 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MouseTable:
    """One mouse a row. Missing numbers are NaN, missing text is empty; control mice have no gene."""

    identity: DatasetIdentity
    path: Path | str  # for messages about the rows
    source: str
    licence: str
    thresholds: Array  # [n, 6] dB SPL in the order of FREQUENCIES
    numbers: Array  # [n, 2] age in weeks, weight in grams
    categories: Array  # [n, 6] text in the order of CATEGORY_COLUMNS
    genes: Array  # [n] symbols
    types: Array | None = None  # [n] audiogram type, where it is known: on the twin
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.genes)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the network sees of n mice, and the thresholds themselves to score against."""

    abr: Array  # [n, 6] float32 z-scores, missing thresholds imputed
    context: Array  # [n, metadata + 2] float32: metadata columns, then principal components of the ABR block


def identify_mice(path: Path) -> DatasetIdentity:
    """Name and hash of an IMPC table. Raises MissingData that says how to get it."""
    if not path.is_file():
        raise MissingData(path, "not found", "Fetch it with `python -m bench data fetch`, or see `python -m bench data describe impc_abr`, and pass --data DIR")
    return DatasetIdentity(_NAMES.get(path.name, path.stem), hash_files([path]), synthetic=False)


def read_mice(path: Path) -> MouseTable:
    """An IMPC ABR table: CSV with THRESHOLD_COLUMNS, NUMBER_COLUMNS, CATEGORY_COLUMNS and gene_symbol; others are not used.

    A mouse without any threshold is left out and counted. Raises MissingData when the file is not there, DataError for a missing column,
    a row that is cut short, a threshold, age or weight that is not a finite number, and a table without mice; the message names the row.
    """
    identity = identify_mice(path)
    wanted = (*THRESHOLD_COLUMNS, *NUMBER_COLUMNS, *CATEGORY_COLUMNS, GENE_COLUMN)
    rows = _read_rows(path, wanted)
    count = len(THRESHOLD_COLUMNS) + len(NUMBER_COLUMNS)
    numbers = np.array([[_parse(path, name, text, row) for name, text in zip(wanted[:count], fields[:count], strict=True)] for row, fields in rows])
    text = np.array([fields[count:] for _, fields in rows])
    heard = np.isfinite(numbers[:, : len(THRESHOLD_COLUMNS)]).any(axis=1)
    if not heard.any():
        raise DataError(path, "no mouse has an ABR threshold", "Give a table of the IMPC_ABR procedure")
    numbers, text = numbers[heard], text[heard]
    missing = np.isnan(numbers[:, : len(THRESHOLD_COLUMNS)]).sum(axis=0)
    gaps = ", ".join(f"{name} {n}" for name, n in zip(FREQUENCIES, missing.tolist(), strict=True))
    return MouseTable(
        identity=identity,
        path=path,
        source="IMPC (mousephenotype.org) through github.com/liambarrett26/impc-abr",
        licence="IMPC measurements, freely available; the repository is GPL-3.0",
        thresholds=numbers[:, : len(THRESHOLD_COLUMNS)],
        numbers=numbers[:, len(THRESHOLD_COLUMNS) :],
        categories=text[:, :-1],
        genes=text[:, -1],
        dropped={"no threshold at all": int((~heard).sum())},
        notes=(f"thresholds missing and imputed by the training median: {gaps}; imputed values are not scored",),
    )


def split_by_gene(table: MouseTable) -> RowSplit:
    """80/10/10 by gene with seed 42: no gene is on both sides. Controls have no gene to leak and are split one by one."""
    groups = np.where(table.genes == "", np.char.add("control ", np.arange(len(table)).astype(str)), table.genes)
    return split_by_group(groups, SPLIT_FRACTIONS, SPLIT_SEED, table.path)


class Preprocessing:
    """From mice to inputs: median imputation and z-scores, metadata columns, two principal components of the ABR block.

    Fitted on the rows given and on nothing else. `ten-columns` is the documented metadata: age, weight and one-hot categories in column
    order, cut (or padded with zeros) to ten columns, so that most categories are lost. `all-categories` keeps every field.
    """

    def __init__(self, table: MouseTable, train: Array, encoding: Encoding) -> None:
        thresholds = table.thresholds[train]
        empty = np.isnan(thresholds).all(axis=0)
        if empty.any():
            column = THRESHOLD_COLUMNS[int(empty.argmax())]
            raise DataError(table.path, f"no training mouse has a {column}", "Give more mice; a median takes at least one")
        self._encoding = encoding
        self._median = np.nanmedian(thresholds, axis=0)
        imputed = self._impute(thresholds)
        self.mean, self.scale = imputed.mean(axis=0), _nonzero(imputed.std(axis=0))
        numbers = table.numbers[train]
        known = np.where(np.isnan(numbers).all(axis=0), 0.0, numbers)  # an empty column becomes a constant, not NaN
        self._number_median = np.nanmedian(known, axis=0)
        filled = self._fill(numbers)
        self._number_mean, self._number_scale = filled.mean(axis=0), _nonzero(filled.std(axis=0))
        self._known = [_rank_categories(table.categories[train, column]) for column in range(len(CATEGORY_COLUMNS))]
        scores = (imputed - self.mean) / self.scale
        _, _, axes = np.linalg.svd(scores, full_matrices=False)
        axes = axes[:COMPONENTS]
        # the sign of a component is arbitrary: let its largest loading be positive, on every machine
        self._axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]

    def __call__(self, table: MouseTable, rows: Array) -> Inputs:
        """The inputs of some rows of a table."""
        abr = (self._impute(table.thresholds[rows]) - self.mean) / self.scale
        numbers = (self._fill(table.numbers[rows]) - self._number_mean) / self._number_scale
        encode = self._encode_ten if self._encoding == "ten-columns" else self._encode_all
        context = np.concatenate([encode(numbers, table.categories[rows]), abr @ self._axes.T], axis=1)
        return Inputs(abr.astype(np.float32), context.astype(np.float32))

    def to_decibels(self, abr: Array) -> Array:
        """[n, 6] z-scores -> thresholds in dB SPL."""
        return np.asarray(abr * self.scale + self.mean)

    def count_cut(self) -> int:
        """Categories of the training split that have no column of their own."""
        if self._encoding == "ten-columns":
            return max(0, sum(min(len(known), MAX_CATEGORIES) for known in self._known) + len(NUMBER_COLUMNS) - DOCUMENTED_METADATA)
        return sum(max(0, len(known) - width + 1) for known, width in zip(self._known, CATEGORY_WIDTHS, strict=True))

    def _impute(self, thresholds: Array) -> Array:
        return np.where(np.isnan(thresholds), self._median, thresholds)

    def _fill(self, numbers: Array) -> Array:
        return np.where(np.isnan(numbers), self._number_median, numbers)

    def _encode_ten(self, numbers: Array, categories: Array) -> Array:
        columns: list[Array] = []
        for known, values in zip(self._known, categories.T, strict=True):
            kept = known if len(known) <= MAX_CATEGORIES else known[: MAX_CATEGORIES - 1]
            columns += [values == category for category in sorted(kept)]
            columns += [np.isin(values, known[len(kept) :])] if len(kept) < len(known) else []
        stacked = np.column_stack([numbers, *columns, np.zeros((len(numbers), DOCUMENTED_METADATA))])
        return np.asarray(stacked[:, :DOCUMENTED_METADATA])

    def _encode_all(self, numbers: Array, categories: Array) -> Array:
        columns = [numbers]
        for known, width, values in zip(self._known, CATEGORY_WIDTHS, categories.T, strict=True):
            one_hot = np.zeros((len(values), width))
            places = {category: place for place, category in enumerate(known[: width - 1])}
            one_hot[np.arange(len(values)), [places.get(value, width - 1) for value in values]] = 1
            columns.append(one_hot)
        return np.concatenate(columns, axis=1)


def count_metadata(encoding: Encoding) -> int:
    """Metadata columns of an encoding, without the principal components."""
    return DOCUMENTED_METADATA if encoding == "ten-columns" else len(NUMBER_COLUMNS) + sum(CATEGORY_WIDTHS)


def _rank_categories(values: Array) -> list[str]:
    """Values that occur, the most frequent first, ties in alphabetical order; empty text is not a value."""
    names, counts = np.unique(values[values != ""], return_counts=True)
    return [str(name) for name in names[np.argsort(-counts, kind="stable")]]


def _nonzero(scale: Array) -> Array:
    return np.where(scale > 0, scale, 1.0)  # a constant column stays at zero instead of becoming infinite


def _read_rows(path: Path, wanted: Sequence[str]) -> list[tuple[int, list[str]]]:
    try:
        return _read_text(path, wanted)
    except UnicodeDecodeError as error:
        raise DataError(path, f"is no UTF-8 text: {error}", "Save the table as UTF-8") from None


def _read_text(path: Path, wanted: Sequence[str]) -> list[tuple[int, list[str]]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        lines = csv.reader(stream)
        header = next(lines, [])
        absent = [name for name in wanted if name not in header]
        if absent:
            raise DataError(path, f"has no column {', '.join(map(repr, absent))}", "Give a table with the IMPC's column names", row=1)
        places = [header.index(name) for name in wanted]
        rows = []
        for fields in lines:
            if not fields:
                continue
            if len(fields) <= max(places):
                raise DataError(path, f"has {len(fields)} fields, expected at least {max(places) + 1}", "The file may be cut short", row=lines.line_num)
            rows.append((lines.line_num, [fields[place].strip() for place in places]))
    if not rows:
        raise DataError(path, "holds no mice", "Download the file again", row=_FIRST_ROW)
    return rows


def _parse(path: Path, column: str, text: str, row: int) -> float:
    if not text:
        return math.nan
    try:
        number = float(text)
    except ValueError:
        raise DataError(path, f"{column} is {text!r}, not a number", "Correct it, or leave it empty to have it imputed", row=row) from None
    if not math.isfinite(number):
        raise DataError(path, f"{column} is {text!r}, not a finite number", "Correct it, or leave it empty to have it imputed", row=row)
    return number
