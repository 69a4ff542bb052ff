"""Rows into training, validation and test: at random, by whole groups, or by named values such as chromosomes."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError

Array = np.ndarray
Fractions = tuple[float, float, float]
"""Shares of training, validation and test; they sum to 1."""


@dataclass(frozen=True, slots=True)
class RowSplit:
    """Row numbers (int64, 0-based) of each part. Every row is in exactly one part."""

    train: Array
    validation: Array
    test: Array

    @property
    def sizes(self) -> dict[str, int]:
        """Rows per part, as a dataset card wants them."""
        return {part.name: len(getattr(self, part.name)) for part in fields(self)}


def split_random(n: int, fractions: Fractions, seed: int, source: Path | str = "data") -> RowSplit:
    """Rows 0..n-1 as two calls of scikit-learn's `train_test_split` part them: first test, then validation from what is left.

    Every held-out part is rounded up, as scikit-learn does, which is what makes 330,762 rows 231,532 / 49,615 / 49,615;
    the other order (30 % first, halved) gives 231,533 / 49,614 / 49,615. The order of rows within a part is the shuffled one.
    Raises DataError, naming `source`, when a part would be empty.
    """
    _check_fractions(fractions)
    train_share, validation_share, test_share = fractions
    n_test = math.ceil(n * test_share)
    rest, test = _hold_out(np.arange(n), n_test, seed)
    n_validation = math.ceil(len(rest) * (validation_share / (train_share + validation_share)))
    train, validation = _hold_out(rest, n_validation, seed)
    wanted = {"train": train_share, "validation": validation_share, "test": test_share}
    return _refuse_empty(RowSplit(train, validation, test), wanted, source, f"{n} rows are too few for shares of {fractions}", "Give more rows")


def split_by_group(groups: Array, fractions: Fractions, seed: int, source: Path | str = "data") -> RowSplit:
    """Whole groups into parts, so that no group is on both sides.

    groups: [n] labels. In an order shuffled by `seed`, each group goes to test while it fits into test's share of the rows, then to
    validation likewise; the others train. Held-out parts therefore never outgrow their share and prefer many small groups to one large
    one; only where not a single group fits does the smallest one go in. Raises DataError, naming `source`, with fewer groups than parts.
    """
    _check_fractions(fractions)
    labels, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    part_of = np.zeros(len(labels), dtype=np.int64)
    for part, share, others in ((2, fractions[2], 2), (1, fractions[1], 1)):
        free = order[part_of[order] == 0]
        fitting = _fill(sizes[free], round(len(groups) * share))[: max(0, len(free) - others)]  # leave a group for each part still to come
        part_of[free[fitting]] = part
        if share > 0 and not len(fitting) and len(free):
            part_of[free[sizes[free].argmin()]] = part
    rows = part_of[member]
    split = RowSplit(*(np.flatnonzero(rows == part) for part in range(3)))
    wanted = dict(zip(("train", "validation", "test"), fractions, strict=True))
    return _refuse_empty(split, wanted, source, f"{len(labels)} groups cannot fill every part", "Give at least one group per part or split at random")


def split_by_values(values: Array, test_values: Collection[str], source: Path | str = "data") -> RowSplit:
    """Rows whose value is one of `test_values` (e.g. chr21, chr22) are the test part, all others train; validation is empty.

    values: [n] labels; rows keep their order. Raises DataError, naming `source`, when no row, or every row, has one of the values.
    """
    held = np.isin(values, np.array(sorted(test_values)))
    split = RowSplit(np.flatnonzero(~held), np.empty(0, dtype=np.int64), np.flatnonzero(held))
    seen = [str(value) for value in np.unique(values)]
    shown = ", ".join(seen[:8]) + (", ..." if len(seen) > 8 else "") or "none"
    problem = f"with {', '.join(sorted(test_values))} held out (values that occur: {shown})"
    return _refuse_empty(split, {"train": 1.0, "test": 1.0}, source, problem, "Give rows of both sides, or other values to hold out")


def assign_folds(values: Array, count: int, source: Path | str = "data") -> list[tuple[str, ...]]:
    """The distinct values (e.g. chromosomes) of each of `count` folds, about as many rows in each; every value is in exactly one.

    values: [n] labels. The most frequent value first, each goes to the fold with the fewest rows so far. Give a fold to
    `split_by_values` to hold it out. Raises DataError, naming `source`, with fewer values than folds.
    """
    labels, sizes = np.unique(values, return_counts=True)
    if len(labels) < count:
        raise DataError(source, f"{len(labels)} distinct values cannot fill {count} folds", "Give rows of more chromosomes, or fewer folds")
    folds: list[list[str]] = [[] for _ in range(count)]
    rows = np.zeros(count, dtype=np.int64)
    for place in np.argsort(-sizes, kind="stable"):
        smallest = int(rows.argmin())
        folds[smallest].append(str(labels[place]))
        rows[smallest] += sizes[place]
    return [tuple(fold) for fold in folds]


def _check_fractions(fractions: Fractions) -> None:
    if min(fractions) < 0 or not math.isclose(sum(fractions), 1.0):
        raise ValueError(f"shares of training, validation and test must be 0 or more and sum to 1, got {fractions}")


def _hold_out(rows: Array, n_held: int, seed: int) -> tuple[Array, Array]:
    # RandomState, not default_rng: scikit-learn's own stream, so that the rows are the document's rows and not only their number
    order = np.random.RandomState(seed).permutation(len(rows))
    return rows[order[n_held:]], rows[order[:n_held]]


def _fill(sizes: Array, room: int) -> Array:
    chosen: list[int] = []
    for position, size in enumerate(sizes.tolist()):
        if size <= room:
            chosen.append(position)
            room -= size
    return np.array(chosen, dtype=np.int64)


def _refuse_empty(split: RowSplit, wanted: dict[str, float], source: Path | str, problem: str, remedy: str) -> RowSplit:
    empty = [name for name, share in wanted.items() if share > 0 and len(getattr(split, name)) == 0]
    if empty:
        raise DataError(source, f"the {' and '.join(empty)} split is empty: {problem}", remedy)
    return split
