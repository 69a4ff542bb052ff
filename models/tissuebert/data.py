"""Which methylation reads a case uses, as tensors or, where they are too many, as row numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from assay.bench.case import Case, Preset
from assay.datasets.card import DatasetCard, DatasetIdentity, MissingData
from assay.datasets.methylation import NO_CPG, PAD, TEST_FILE, TOKENS, TRAIN_FILE, ReadSource, identify_methylbert, read_methylbert
from assay.datasets.methylation_parts import identify_parts, open_parts
from assay.datasets.methylation_twin import DOCUMENTED_READS, RandomTokens, ReadTwin, identify_random_tokens, identify_read_twin
from assay.models.tissuebert.recipes import ResolvedRead
from assay.models.training import Batch, Splits

Array = np.ndarray

SEED = 42
"""Of what is drawn from a source: the rows of a case do not change with the training seed."""
FILES = "tissuebert"
"""Folder of the user's own files, below the data folder."""
HELD_OUT = 0.2
"""Share of a source without a test part of its own that is never trained on: its last rows."""


@dataclass(frozen=True, slots=True)
class ReadData:
    """Reads to train and to test on. A batch is (tokens, states, label), or (row,) of a source that is streamed."""

    card: DatasetCard
    splits: Splits
    train: ReadSource
    test: ReadSource
    label: Array  # int64 [test rows]
    groups: Array | None  # [test rows], for the bootstrap
    width: int  # tokens of a read, padding included
    padded: bool  # whether any read is shorter


def choose_source(resolved: ResolvedRead, case: Case, data: Path | None) -> str:
    """Random tokens or the user's files for `documented`, the twin for `scale` and `smoke`, else the real reads where they are."""
    if case.preset is Preset.DOCUMENTED:
        return "random-tokens" if resolved.recipe.random_tokens else "files"
    real = case.preset is Preset.STANDARD and data is not None and all((data / name).is_file() for name in (TRAIN_FILE, TEST_FILE))
    return "methylbert" if real else "twin"


def identify_reads(resolved: ResolvedRead, case: Case, data: Path | None) -> DatasetIdentity:
    """The data that `open_reads` reads. Raises MissingData where they are not there."""
    match choose_source(resolved, case, data):
        case "random-tokens":
            return identify_random_tokens(_count_random(resolved))
        case "methylbert":
            return identify_methylbert(_folder(data))
        case "files":
            return identify_parts(locate_files(data))
        case _:
            rows = _twin_rows(resolved)
            return identify_read_twin(rows, min(resolved.regions, rows), resolved.bases, resolved.recipe.shape.classes)


def open_reads(resolved: ResolvedRead, case: Case, data: Path | None) -> ReadData:
    """The reads of a case, drawn with a fixed seed. Raises MissingData, DataError."""
    name = choose_source(resolved, case, data)
    parts = _open_parts(name, resolved, data)
    train, test = parts.train, parts.test
    cut = round(len(train) * (1 - HELD_OUT)) if train is test else len(train)
    random = np.random.default_rng(SEED)
    train_rows = _draw(0, cut, resolved.rows.train, random)
    test_rows = _draw(cut if train is test else 0, len(test), resolved.rows.test, random)
    # the open division cuts the columns that are padding in every read
    width = max(train.length, test.length) if resolved.ours else min(TOKENS, resolved.bases)
    batches = [_as_batch(source, rows, width, streamed=resolved.streamed) for source, rows in ((train, train_rows), (test, test_rows))]
    splits = Splits(batches[0], None, batches[1], host=frozenset({0}) if resolved.streamed else frozenset())
    padded = not (train.even and test.even and train.length == test.length == width)
    card = _describe(name, resolved, identify_reads(resolved, case, data), parts, test_rows, {"train": len(train_rows), "test": len(test_rows)})
    return ReadData(card, splits, train, test, test.find_labels(test_rows), test.find_groups(test_rows), width, padded)


def fetch(source: ReadSource, rows: Array, width: int) -> Batch:
    """Reads of row numbers as (tokens uint8 [b, width], states uint8 [b, width], label int64 [b]) in the host's memory."""
    reads = source.take(rows)

    def fit(values: Array, fill: int) -> torch.Tensor:
        missing = width - values.shape[1]
        wide = np.pad(values, ((0, 0), (0, missing)), constant_values=fill) if missing > 0 else values[:, :width]
        return torch.from_numpy(np.ascontiguousarray(wide))

    return fit(reads.tokens, PAD), fit(reads.states, NO_CPG), torch.from_numpy(reads.label)


def _draw(start: int, stop: int, count: int | None, random: np.random.Generator) -> Array:
    if count is None or count >= stop - start:
        return np.arange(start, stop)
    return start + random.choice(stop - start, count, replace=False)


def _as_batch(source: ReadSource, rows: Array, width: int, *, streamed: bool) -> Batch:
    return (torch.from_numpy(rows),) if streamed else fetch(source, rows, width)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What to train on and what to test on, the same source twice where it has no parts; training rows that were left out, by reason."""

    train: ReadSource
    test: ReadSource
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def _open_parts(name: str, resolved: ResolvedRead, data: Path | None) -> _Parts:
    match name:
        case "random-tokens":
            reads = RandomTokens(_count_random(resolved))
            return _Parts(reads, reads)
        case "methylbert":
            published = read_methylbert(_folder(data))
            return _Parts(published.train, published.test, published.dropped)
        case "files":
            files = open_parts(locate_files(data))
            return _Parts(files.train, files.test, files.dropped, files.notes)
        case _:
            rows = _twin_rows(resolved)
            twin = ReadTwin(rows, min(resolved.regions, rows), resolved.bases, resolved.recipe.shape.classes)
            return _Parts(twin, twin)


def _describe(name: str, resolved: ResolvedRead, identity: DatasetIdentity, parts: _Parts, test_rows: Array, rows: dict[str, int]) -> DatasetCard:
    train = parts.train
    notes: tuple[str, ...] = () if resolved.recipe.states else ("the model sees the 3-mers of a read, not its methylation states",)
    if resolved.recipe.shape.layers == 1:
        notes += ("smoke: one of the documented layers, and short reads",)
    if isinstance(train, ReadTwin):
        best = f"planted best on the test rows: accuracy {train.measure_best(test_rows):.4f} (Bayes predictor)"
        return DatasetCard(identity, "generated by datasets.methylation_twin", "none needed", rows, notes=(*train.notes, best, *notes))
    if isinstance(train, RandomTokens):
        return DatasetCard(identity, "drawn as document 002, Architecture test, describes", "none needed", rows, notes=(*train.notes, *notes))
    if name == "methylbert":
        notes += (f"{', '.join(train.classes)} are the first 2 of {resolved.recipe.shape.classes} classes; no other occurs",)
        return DatasetCard(identity, "CompEpigen/methylbert @ d4e8a243", "MIT", rows, parts.dropped, notes)
    return DatasetCard(identity, "the user's files", "the user's", rows, parts.dropped, (*notes, *parts.notes))


def _count_random(resolved: ResolvedRead) -> int:
    held = 1 - HELD_OUT
    return math.ceil(max((resolved.rows.train or 0) / held, (resolved.rows.test or 0) / HELD_OUT))


def _twin_rows(resolved: ResolvedRead) -> int:
    return DOCUMENTED_READS if resolved.streamed else _count_random(resolved)


def locate_files(data: Path | None) -> Path:
    """Folder of the user's own files. Raises MissingData without a data folder."""
    return _folder(data) / FILES


def _folder(data: Path | None) -> Path:
    if data is None:
        raise MissingData(f"{FILES}/train.h5", "no data folder was given, and this case has no twin", "Pass --data DIR, or run the preset scale or standard")
    return data
