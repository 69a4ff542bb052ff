"""Three tasks of GUE, DNABERT-2's benchmark, and their synthetic twins.

Human core promoters with a TATA box (70 nt and 300 nt) against sequences without a promoter, and splice acceptors and donors against
neither (400 nt). The splice task is at hand without its training part: its dev part trains.
Source: Zhou et al. 2023 (arXiv 2306.15006); files of github.com/wds-seu/DeepGene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files, identify_twin
from assay.datasets.splice_tables import FIRST_ROW, read_columns
from assay.datasets.splits import split_random

Array = np.ndarray

LETTERS = frozenset("ACGTN")
VALIDATION_SHARE = 0.1
"""Of a part that has to train and to validate."""
SPLIT_SEED = 42
PLANTED_SHARE = 0.9
"""Twin rows that carry the motif of their class; the others carry one of another class."""


class GueTask(StrEnum):
    """The tasks."""

    PROM_CORE_TATA = "prom-core-tata"
    PROM_300_TATA = "prom-300-tata"
    SPLICE = "splice"


@dataclass(frozen=True, slots=True)
class TaskShape:
    """Where a task lies, and what its rows look like; `rows` of the parts as published: train, dev, test."""

    folder: str
    parts: tuple[str, ...]
    length: int
    classes: tuple[str, ...]
    rows: tuple[int, int, int]
    motif_at: int  # of the twin


SHAPES: Mapping[GueTask, TaskShape] = {
    GueTask.PROM_CORE_TATA: TaskShape("gue/prom/prom_core_tata", ("train", "dev", "test"), 70, ("no promoter", "promoter"), (4904, 613, 613), 15),
    GueTask.PROM_300_TATA: TaskShape("gue/prom/prom_300_tata", ("train", "dev", "test"), 300, ("no promoter", "promoter"), (4904, 613, 613), 215),
    GueTask.SPLICE: TaskShape("gue/splice/reconstructed", ("dev", "test"), 400, ("acceptor", "donor", "neither"), (4106, 456, 4562), 195),
}
_MOTIFS = {2: ("GCGTCCGCGA", "GTATAAAAGG"), 3: ("TTTTTTTCAG", "CAGGTAAGTA", "GACTCATGCC")}
"""Of the twin, by number of classes; ten bases."""


@dataclass(frozen=True, slots=True)
class LabelledSequences:
    """One part of a task: sequences, labels int64 [n], and the file (or twin) and int64 [n] row number of each for error messages."""

    sequences: Sequence[str]
    label: Array
    source: str
    row: Array


@dataclass(frozen=True, slots=True)
class GueData:
    """A task with its three parts; no test sequence is in another part, and no validation sequence in training."""

    task: GueTask
    train: LabelledSequences
    validation: LabelledSequences
    test: LabelledSequences
    identity: DatasetIdentity
    source: str
    licence: str
    dropped: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def rows(self) -> dict[str, int]:
        """Rows per part, as a dataset card wants them."""
        return {part: len(getattr(self, part).label) for part in ("train", "validation", "test")}


def locate_gue(folder: Path, task: GueTask) -> list[Path]:
    """The files of a task. Raises MissingData that names the first that is not there."""
    shape = SHAPES[task]
    paths = [folder / shape.folder / f"{part}.csv" for part in shape.parts]
    for path in paths:
        if not path.is_file():
            raise MissingData(path, "not found", "Fetch it with `python -m bench data fetch` or give its folder with --data")
    return paths


def identify_gue(folder: Path, task: GueTask) -> DatasetIdentity:
    """Name and hash of a task's files. Raises MissingData."""
    return DatasetIdentity(f"gue-{task}", hash_files(locate_gue(folder, task)), synthetic=False)


def read_gue(folder: Path, task: GueTask) -> GueData:
    """Reads a task and removes from training and validation what would leak.

    Sequences that also occur in the test part are removed from training and validation, validation sequences from training; all are
    counted. Test rows stay as published. Raises MissingData, and DataError with file and row of a bad sequence or label.
    """
    shape, paths = SHAPES[task], locate_gue(folder, task)
    parts = {path.stem: _read_part(path, shape) for path in paths}
    notes: tuple[str, ...] = ()
    if "train" not in parts:
        parts["train"], parts["dev"] = _hold_out(parts["dev"], paths[0])
        notes = (f"the published training part is not at hand: the dev part trains, {VALIDATION_SHARE:.0%} of it validate",)
    test = parts["test"]
    validation, in_test = _remove(parts["dev"], test)
    train, train_in_test = _remove(parts["train"], test)
    train, in_validation = _remove(train, validation)
    dropped = {"training sequences in test": train_in_test, "validation sequences in test": in_test, "training sequences in validation": in_validation}
    source, licence = "GUE (DNABERT-2), github.com/wds-seu/DeepGene @ 3ec5048b", "Apache-2.0"
    return GueData(task, train, validation, test, identify_gue(folder, task), source, licence, dropped, notes)


def _read_part(path: Path, shape: TaskShape) -> LabelledSequences:
    table = read_columns(path, ("sequence", "label"))
    known = {str(number): number for number in range(len(shape.classes))}
    for row, (sequence, label) in enumerate(zip(table["sequence"], table["label"], strict=True), start=FIRST_ROW):
        if not sequence or set(sequence) - LETTERS:
            raise DataError(path, f"the sequence {sequence[:20]!r} is empty or holds letters other than A, C, G, T, N", "Correct or remove the row", row=row)
        if label not in known:
            raise DataError(path, f"label {label!r} is none of {', '.join(known)}", "Correct or remove the row", row=row)
    classes = np.array([known[label] for label in table["label"]], dtype=np.int64)
    return LabelledSequences(table["sequence"], classes, str(path), np.arange(FIRST_ROW, FIRST_ROW + len(classes)))


def _hold_out(part: LabelledSequences, path: Path) -> tuple[LabelledSequences, LabelledSequences]:
    split = split_random(len(part.label), (1 - VALIDATION_SHARE, VALIDATION_SHARE, 0.0), SPLIT_SEED, path)
    return _take(part, split.train), _take(part, split.validation)


def _remove(part: LabelledSequences, other: LabelledSequences) -> tuple[LabelledSequences, int]:
    seen = set(other.sequences)
    kept = np.array([row for row, sequence in enumerate(part.sequences) if sequence not in seen], dtype=np.int64)
    if not len(kept):
        raise DataError(part.source, "every sequence also occurs in a held-out part", "Give the files as published")
    return _take(part, kept), len(part.label) - len(kept)


def _take(part: LabelledSequences, rows: Array) -> LabelledSequences:
    return LabelledSequences([part.sequences[row] for row in rows.tolist()], part.label[rows], part.source, part.row[rows])


def identify_gue_twin(task: GueTask, rows: tuple[int, int, int], seed: int = 0) -> DatasetIdentity:
    """Identity of the twin that `make_gue_twin` would generate."""
    return identify_twin(f"gue-{task}-twin", rows=list(rows), seed=seed, planted=PLANTED_SHARE, motifs=_MOTIFS[len(SHAPES[task].classes)])


def make_gue_twin(task: GueTask, rows: tuple[int, int, int], seed: int = 0) -> GueData:
    """A twin of (train, validation, test) rows: equal classes, the task's length, one ten-base motif per class at a fixed place.

    Nine rows in ten carry their own class's motif and the others another's, so that the best reachable MCC is known; the notes tell it.
    """
    shape = SHAPES[task]
    random = np.random.default_rng(seed)
    parts = [_plant(shape, count, random, f"{task} twin") for count in rows]
    classes = len(shape.classes)
    best = (classes * PLANTED_SHARE - 1) / (classes - 1)  # MCC of a symmetric confusion matrix with equal classes
    note = f"synthetic {shape.length}-nt sequences; best expected MCC {best:.4f}: {PLANTED_SHARE:.0%} of rows carry their class's motif"
    return GueData(task, parts[0], parts[1], parts[2], identify_gue_twin(task, rows, seed), f"synthetic twin of GUE {task}", "generated", {}, (note,))


def _plant(shape: TaskShape, count: int, random: np.random.Generator, source: str) -> LabelledSequences:
    classes = len(shape.classes)
    label = random.permutation(np.arange(count) % classes).astype(np.int64)
    wrong = random.random(count) >= PLANTED_SHARE
    shown = (label + wrong * random.integers(1, classes, count)) % classes
    letters = np.array(list("ACGT"))[random.integers(0, 4, (count, shape.length))]
    motifs = np.array([list(motif) for motif in _MOTIFS[classes]])
    letters[:, shape.motif_at : shape.motif_at + motifs.shape[1]] = motifs[shown]
    return LabelledSequences(["".join(row) for row in letters], label, source, np.arange(len(label)))
