"""Scores predictions that were made elsewhere with exactly the metrics of a workload."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from assay.bench.case import Quantity, UsageError
from assay.bench.registry import get_workload

TRUE_COLUMNS = ("true", "truth", "y_true", "label", "target", "pkd", "y", "actual", "observed", "measured")
PRED_COLUMNS = ("pred", "prediction", "predicted", "y_pred", "y_hat", "y_score", "score", "prob", "probability")
HEADER_ROWS = 1  # what a user's editor counts before the first row of data


def score_predictions(
    workload_name: str, path: Path, true_column: str | None = None, pred_column: str | None = None, group_column: str | None = None
) -> Mapping[str, Quantity]:
    """The workload's metrics, with intervals, for a CSV of one row per sample.

    true_column: true values, or labels 0/1; pred_column: predicted values, or scores; group_column: what the bootstrap resamples
    (complex, chromosome, gene), None resamples rows. Columns that are not given are guessed from common names. Raises UsageError
    for a file, a column or a row that cannot be used, and names it; row 1 is the header.
    """
    workload = get_workload(workload_name)
    table = _read_table(path)
    truth_name = _find_column(table, path, true_column, TRUE_COLUMNS, "--true-column")
    pred_name = _find_column(table, path, pred_column, PRED_COLUMNS, "--pred-column")
    if truth_name == pred_name:
        raise UsageError(f"{path}: column {truth_name!r} cannot be both truth and prediction; name two columns with --true-column and --pred-column")
    truth, prediction = _read_numbers(table, path, truth_name), _read_numbers(table, path, pred_name)
    groups = None if group_column is None else _read_groups(table, path, _find_column(table, path, group_column, (), "--group-column"))
    return workload.score(truth, prediction, groups)


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, skip_blank_lines=False, skipinitialspace=True)  # blank lines count, so that row numbers are the file's
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}; give a CSV with one row per sample") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError, EOFError) as error:
        raise UsageError(f"{path}: not a CSV: {' '.join(str(error).split())}; give a comma-separated table with a header") from None
    if table.empty:
        raise UsageError(f"{path}: there is no row below the header; give one row per sample")
    return table


def _find_column(table: pd.DataFrame, path: Path, wanted: str | None, usual: tuple[str, ...], option: str) -> str:
    columns = [str(column) for column in table.columns]
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise UsageError(f"{path}: no column {wanted!r}; the columns are {', '.join(columns)}; choose one with {option}")
    found = [column for column in columns if column.strip().casefold() in usual]
    if len(found) == 1:
        return found[0]
    fault = f"columns {' and '.join(found)} could all be meant" if found else f"no column has one of the usual names ({', '.join(usual)})"
    raise UsageError(f"{path}: {fault}; the columns are {', '.join(columns)}; choose one with {option}")


def _read_numbers(table: pd.DataFrame, path: Path, column: str) -> np.ndarray:
    """[n] float64, all finite."""
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(values)
    if bad.any():
        first = int(bad.argmax())
        content = table[column].iloc[first]
        shown = "nothing" if pd.isna(content) else repr(str(content)[:40])
        fault = f"{column} holds {shown}, not a finite number ({int(bad.sum())} such rows)"
        raise UsageError(f"{path}, row {first + 1 + HEADER_ROWS}: {fault}; correct or leave them out")
    return values


def _read_groups(table: pd.DataFrame, path: Path, column: str) -> np.ndarray:
    """[n] labels as text."""
    missing = table[column].isna().to_numpy()
    if missing.any():
        raise UsageError(f"{path}, row {int(missing.argmax()) + 1 + HEADER_ROWS}: {column} is empty; give every row a group or leave out --group-column")
    return table[column].astype(str).to_numpy(dtype=str)
