"""Antibody-antigen affinities: the AbAg table with its ESM-2 features, and real SKEMPI sequences in the same schema.

AbAg is `merged_with_all_features.csv` of the affinity study (document 004). pKd is -log10 of the dissociation constant in mol/l.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files

if TYPE_CHECKING:
    import pandas as pd

Array = np.ndarray

FEATURES = 150
FEATURE_COLUMNS = tuple(f"esm2_pca_{i}" for i in range(FEATURES))
SEQUENCE_COLUMNS = ("antibody_heavy", "antibody_light", "antigen")
BIN_EDGES = (0.0, 5.0, 7.0, 9.0, 11.0, 16.0)
BIN_NAMES = ("very_weak", "weak", "moderate", "strong", "very_strong")
SPLIT_FRACTIONS = (0.70, 0.15, 0.15)
SPLIT_SEED = 42

ABAG_CSV = Path("abag/merged_with_all_features.csv")
SKEMPI_CSV = Path("abag_mini/abag_skempi_real.csv")
_HOW_TO_GET_ABAG = (
    "The table (883 MB) is published nowhere as a file: build it with the scripts of github.com/melmbrain/AbAg_binding_prediction "
    f"(download_*, integrate_all_databases, generate_embeddings_incremental, apply_pca_and_merge), put it at DIR/{ABAG_CSV} and pass --data DIR"
)
_HOW_TO_GET_SKEMPI = f"`python -m bench data describe abag_mini` says how it is made; put it at DIR/{SKEMPI_CSV} and pass --data DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class AffinityTable:
    """Antibody-antigen pairs with affinities, and either features or the sequences to compute them from."""

    identity: DatasetIdentity
    path: Path | str  # for messages about the rows
    source: str
    licence: str
    pkd: Array  # [n] float64
    complexes: Array  # [n] labels; rows of one complex are not independent
    inputs: Array | pd.DataFrame  # features [n, 150] float32, or sequences [n] in columns SEQUENCE_COLUMNS
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def assign_bins(pkd: Array) -> Array:
    """[n] index into BIN_NAMES, -1 outside. Upper edges are inside and so is 0, as pandas.cut with include_lowest has it."""
    bins: Array = np.digitize(pkd, BIN_EDGES, right=True) - 1
    bins[pkd == BIN_EDGES[0]] = 0
    bins[pkd > BIN_EDGES[-1]] = -1
    return bins


def describe_bin(index: int) -> str:
    """The interval of a bin, e.g. `(5, 7]`."""
    return f"{'[' if index == 0 else '('}{BIN_EDGES[index]:g}, {BIN_EDGES[index + 1]:g}]"


def identify_abag(path: Path) -> DatasetIdentity:
    """Name and hash of the AbAg table. Raises MissingData that says how to get it."""
    return _identify("abag", path, _HOW_TO_GET_ABAG)


def identify_skempi(path: Path) -> DatasetIdentity:
    """Name and hash of the SKEMPI-derived table. Raises MissingData that says how to get it."""
    return _identify("abag-skempi", path, _HOW_TO_GET_SKEMPI)


def read_abag(path: Path) -> AffinityTable:
    """The AbAg table: columns esm2_pca_0..149, pKd, antigen, pdb_id; others are not used.

    Rows without features are dropped and counted, as in the study. A complex is a pdb_id, or an antigen sequence where the row has no
    pdb_id. Raises MissingData when the file is not there, DataError for a missing column, a pKd or feature that is not a finite
    number, and a table without rows; the message names the line.
    """
    identity = identify_abag(path)
    import pandas as pd  # here, not above: half a second that cases on the twin need not pay

    table = _read_csv(path, (*FEATURE_COLUMNS, "pKd", "antigen", "pdb_id"), text=("antigen", "pdb_id"))
    table, dropped = _drop_blank_lines(table)
    missing = table[list(FEATURE_COLUMNS)].isna().all(axis=1)
    table = _refuse_empty(table[~missing], path, "rows with features")
    dropped["rows without features"] = int(missing.sum())
    features = _read_numbers(table, FEATURE_COLUMNS, path).astype(np.float32)
    key = table["pdb_id"].str.lower().where(table["pdb_id"].notna(), table["antigen"])
    complexes = pd.factorize(key)[0]
    alone = complexes < 0  # neither pdb_id nor antigen: no reason to believe that it belongs to any other row
    complexes[alone] = complexes.max() + 1 + np.arange(alone.sum())
    return AffinityTable(
        identity=identity,
        path=path,
        source="AbAg: AbBiBench, SAAINT-DB, SAbDab and others, merged by github.com/melmbrain/AbAg_binding_prediction",
        licence="not stated for the merged table; code MIT",
        pkd=_read_numbers(table, ("pKd",), path)[:, 0],
        complexes=complexes,
        inputs=features,
        dropped=dropped,
        notes=("the features' PCA was fitted by the origin on all rows, test rows included",),
    )


def read_skempi(path: Path) -> AffinityTable:
    """Real antibody-antigen pairs with sequences: columns antibody_heavy, antibody_light, antigen (chains joined by ":"), pKd, complex.

    Raises MissingData when the file is not there, DataError for a missing column, a pKd that is not a finite number, an empty or
    malformed sequence, a row without complex, and a table without rows; the message names the line.
    """
    identity = identify_skempi(path)
    table = _read_csv(path, (*SEQUENCE_COLUMNS, "pKd", "complex"), text=(*SEQUENCE_COLUMNS, "complex"))
    table, dropped = _drop_blank_lines(table)
    table = _refuse_empty(table, path, "rows")
    for column in (*SEQUENCE_COLUMNS, "complex"):
        _check_text(table, column, path)
    return AffinityTable(
        identity=identity,
        path=path,
        source="SKEMPI v2 antibody-antigen rows with chain sequences from the PDB, mutations applied",
        licence="SKEMPI v2 and PDB are freely available; PDB entries are CC0",
        pkd=_read_numbers(table, ("pKd",), path)[:, 0],
        complexes=table["complex"].to_numpy(dtype=str),
        inputs=table[list(SEQUENCE_COLUMNS)].fillna("").reset_index(drop=True),
        dropped=dropped,
    )


def _identify(name: str, path: Path, remedy: str) -> DatasetIdentity:
    if not path.is_file():
        raise MissingData(path, "no such file", remedy)
    try:
        return DatasetIdentity(name, hash_files([path]), synthetic=False)
    except OSError as error:
        raise DataError(path, f"cannot be read: {error.strerror}", "Check the file's permissions and the disk") from None


def _read_csv(path: Path, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
    import pandas as pd  # see read_abag

    try:
        header = pd.read_csv(path, nrows=0).columns
        absent = [column for column in columns if column not in header]
        if absent:
            shown = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
            raise DataError(path, f"missing column {shown}", "Give a comma-separated file with a header line that names it", row=1)
        # blank lines are kept at first, so that a row's position tells its line in the file
        # and every column is read, because only then does the parser refuse a row with too many fields
        table = pd.read_csv(path, dtype=dict.fromkeys(text, "str"), low_memory=False, skip_blank_lines=False)
    except pd.errors.EmptyDataError:
        raise DataError(path, "the file is empty", "Build it again") from None
    except pd.errors.ParserError as error:
        raise DataError(path, f"not a CSV table ({str(error).strip().removeprefix('Error tokenizing data. ')})", "Build it again") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"not text in UTF-8 ({error.reason} at byte {error.start})", "Build it again, uncompressed") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes a first column without a name for row labels and shifts all others
        raise DataError(path, f"rows have more fields than the header's {len(header)}", "Build it again", row=2)
    return table


def _drop_blank_lines(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    blank = table.isna().all(axis=1)
    return table[~blank], ({"blank lines": int(blank.sum())} if blank.any() else {})


def _refuse_empty(table: pd.DataFrame, path: Path, what: str) -> pd.DataFrame:
    if len(table) == 0:
        raise DataError(path, f"the table has no {what}", "Build it again")
    return table


def _find_line(table: pd.DataFrame, bad: Array) -> int:
    # the header is line 1; the index still counts the rows of the file
    return int(table.index[int(np.argmax(bad))]) + 2


def _read_numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> Array:
    import pandas as pd  # see read_abag

    for column in columns:
        if pd.api.types.is_numeric_dtype(table[column]) and not pd.api.types.is_bool_dtype(table[column]):
            continue
        numbers = pd.to_numeric(table[column].astype("str"), errors="coerce")
        bad = (numbers.isna() & table[column].notna()).to_numpy()
        raise DataError(path, f"{column} is {table[column].iloc[int(bad.argmax())]!r}, not a number", "Correct or remove the row", _find_line(table, bad))
    values = table[list(columns)].to_numpy(dtype=np.float64)
    bad_rows = ~np.isfinite(values).all(axis=1)
    if bad_rows.any():
        row = values[int(bad_rows.argmax())]
        at = int((~np.isfinite(row)).argmax())
        what = "empty or NaN" if np.isnan(row[at]) else "infinite"
        raise DataError(path, f"{columns[at]} is {what}", "Correct or remove the row", _find_line(table, bad_rows))
    return values


def _check_text(table: pd.DataFrame, column: str, path: Path) -> None:
    empty = table[column].isna().to_numpy()
    if empty.any() and column != "antibody_light":  # a nanobody has no light chain
        raise DataError(path, f"{column} is empty", "Give it or remove the row", _find_line(table, empty))
    if column == "complex":
        return
    sequence = re.compile(r"[A-Za-z:]*[A-Za-z][A-Za-z:]*")
    bad = np.array([not missing and sequence.fullmatch(text) is None for text, missing in zip(table[column], empty, strict=True)])
    if bad.any():
        shown = str(table[column].iloc[int(bad.argmax())])[:30]
        raise DataError(path, f"{column} is {shown!r}, not one-letter residues", "Give amino acids, chains joined by ':'", _find_line(table, bad))
