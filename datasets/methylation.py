"""Reads of cell-free DNA as overlapping 3-mers with a methylation state each, and the real bisulfite reads of methylBERT.

Source: document 002, tokens and data contract. 150 bases give 148 overlapping 3-mers, padded to 150 tokens; no [CLS] or [SEP] is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files
from assay.datasets.genome import N, encode_bases
from assay.datasets.splice_tables import FIRST_ROW, read_columns

Array = np.ndarray

KMER = 3
PAD, UNK, MASK, CLS, SEP = range(64, 69)
"""Ids after the 64 3-mers, which are numbered in the order AAA, AAC, ..., TTT."""
VOCABULARY = 69
TOKENS = 150
"""Tokens of a read, padding included."""
UNMETHYLATED, METHYLATED, NO_CPG = range(3)
"""States of a token; NO_CPG also means that nothing was measured."""

# the document's final 22; the test model's 39 are not named anywhere
TISSUES = (
    *("Adipocytes", "Aorta", "Bladder", "Blood", "Bone", "Cerebellum", "Colon", "Coronary", "Cortex", "Dermal", "Epidermal", "Gastric"),
    *("Heart", "Kidney", "Liver", "Lung", "Neuron", "Oligodendrocytes", "Pancreas", "Prostate", "Skeletal", "Small"),
)
CELLS = ("N", "T")
"""Classes of the real reads: normal and tumour, numbered 0 and 1."""
MARK_ABSENT = "Write 2 where there is no CpG or no measurement"
TRAIN_FILE, TEST_FILE = "methylbert_reads/train_seq.csv", "methylbert_reads/test_seq.csv"


@dataclass(frozen=True, slots=True)
class Reads:
    """Reads in memory: tokens and states are uint8 [n, L], padded on the right; label and region are int64 [n]."""

    tokens: Array
    states: Array
    label: Array
    region: Array

    def __len__(self) -> int:
        return len(self.label)


class ReadSource(Protocol):
    """Any number of reads, of which only those asked for are in memory."""

    @property
    def classes(self) -> Sequence[str]:
        """Names, by label."""

    @property
    def length(self) -> int:
        """Tokens of the longest read."""

    @property
    def even(self) -> bool:
        """Whether every read is that long."""

    def __len__(self) -> int:
        """Reads there are."""

    def take(self, rows: Array) -> Reads:
        """The reads of int64 [b] row numbers, in that order, checked. Raises DataError for rows that break the contract."""

    def find_labels(self, rows: Array) -> Array:
        """int64 [b] labels of row numbers. Reads no tokens: fits memory for tens of millions of rows."""

    def find_groups(self, rows: Array) -> Array | None:
        """int64 [b] what each row belongs to (region, sample), so that rows of one group are not independent; None where rows are."""


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A source that is in memory."""

    reads: Reads
    classes: Sequence[str]

    def __len__(self) -> int:
        return len(self.reads)

    @property
    def length(self) -> int:
        """Tokens of the longest read."""
        return int((self.reads.tokens != PAD).any(axis=0).nonzero()[0].max()) + 1

    @property
    def even(self) -> bool:
        """Whether every read is that long."""
        return bool((self.reads.tokens[:, : self.length] != PAD).all())

    def take(self, rows: Array) -> Reads:
        reads = self.reads
        return Reads(reads.tokens[rows], reads.states[rows], reads.label[rows], reads.region[rows])

    def find_labels(self, rows: Array) -> Array:
        return np.asarray(self.reads.label[rows])

    def find_groups(self, rows: Array) -> Array | None:
        return np.asarray(self.reads.region[rows])


@dataclass(frozen=True, slots=True)
class MethylbertReads:
    """Both parts, no DNA fragment in both, and how many training reads that cost, by reason."""

    train: ReadTable
    test: ReadTable
    dropped: Mapping[str, int]


def tokenise(codes: Array, length: int = TOKENS) -> Array:
    """uint8 [n, bases] base codes (A 0, C 1, G 2, T 3, N 4) -> uint8 [n, length] token ids, padded. A 3-mer with an N is UNK.

    Raises ValueError when the bases give more than `length` tokens or none.
    """
    kmers = codes.shape[1] - KMER + 1
    if not 0 < kmers <= length:
        raise ValueError(f"{codes.shape[1]} bases give {max(0, kmers)} tokens; a read has 1 to {length}: cut it, or raise the model's limit")
    wide = codes.astype(np.uint8, copy=False)
    first, second, third = wide[:, :-2], wide[:, 1:-1], wide[:, 2:]
    ids = np.full((len(codes), length), PAD, dtype=np.uint8)
    ids[:, :kmers] = np.where((first >= N) | (second >= N) | (third >= N), UNK, (first << 4) + (second << 2) + third)
    return ids


def check_reads(tokens: Array, states: Array, where: Path | str, rows: Array) -> None:
    """Refuses what no model can read, naming the first bad row of `rows` [n]: ids or states that do not exist, and empty reads."""
    faults = (
        ((tokens < 0) | (tokens >= VOCABULARY), f"holds a token id outside the vocabulary of {VOCABULARY}", "Tokenise it anew"),
        ((states < UNMETHYLATED) | (states > NO_CPG), "holds a methylation state other than 0, 1 and 2", MARK_ABSENT),
    )
    for wrong, problem, remedy in faults:
        if wrong.any():
            raise DataError(where, problem, remedy, row=int(rows[wrong.any(axis=1).argmax()]))
    empty = (tokens == PAD).all(axis=1)
    if empty.any():
        raise DataError(where, "is all padding: there is nothing to classify", "Remove the row", row=int(rows[empty.argmax()]))


def read_methylbert(folder: Path) -> MethylbertReads:
    """The real reads: classes N and T, regions 0 to 9. Of 1,429 published training reads 996 stay, of 612 test reads all.

    Two reads of one name are the two ends of one DNA fragment: methylation and often bases are shared. Training reads whose other end is
    tested are removed, and those equal to a test read; both are counted. Raises MissingData, and DataError that names file and row (the
    header is row 1) for anything that is not as the contract says.
    """
    (train, train_names), (test, test_names) = _read_part(folder / TRAIN_FILE), _read_part(folder / TEST_FILE)
    tested, seen = set(test_names), {_read_bytes(test, row) for row in range(len(test))}
    other_end = np.array([name in tested for name in train_names])
    equal = np.array([_read_bytes(train, row) in seen for row in range(len(train))]) & ~other_end
    kept = np.flatnonzero(~other_end & ~equal)
    if not len(kept):
        raise DataError(folder / TRAIN_FILE, "every read is of a fragment that is also tested", "Give the files as published")
    dropped = {"training reads of a fragment in test": int(other_end.sum()), "training reads equal to a test read": int(equal.sum())}
    return MethylbertReads(ReadTable(ReadTable(train, CELLS).take(kept), CELLS), ReadTable(test, CELLS), dropped)


def _read_bytes(reads: Reads, row: int) -> bytes:
    return bytes(reads.tokens[row].tobytes() + reads.states[row].tobytes())


def _read_part(path: Path) -> tuple[Reads, list[str]]:
    """A part's reads and the names of their fragments."""
    table = read_columns(path, ("name", "dna_seq", "methyl_seq", "ctype", "dmr_label"), "\t")
    n = len(table["ctype"])
    tokens = np.full((n, TOKENS), PAD, dtype=np.uint8)
    states = np.full((n, TOKENS), NO_CPG, dtype=np.uint8)
    for row, (kmers, digits) in enumerate(zip(table["dna_seq"], table["methyl_seq"], strict=True)):
        ids, marks = _parse_kmers(path, row, kmers), _parse_states(path, row, digits)
        if len(ids) != len(marks):
            raise _fault(path, row, f"has {len(ids)} 3-mers but {len(marks)} methylation states", "Give one digit per 3-mer")
        tokens[row, : len(ids)], states[row, : len(ids)] = ids, marks
    for row, name in enumerate(table["name"]):
        if not name:
            raise _fault(path, row, "has no name, so that nobody can say whether its other end is tested", "Give the fragment's name, or remove the row")
    return Reads(tokens, states, _parse_cells(path, table["ctype"]), _parse_regions(path, table["dmr_label"])), table["name"]


def identify_methylbert(folder: Path) -> DatasetIdentity:
    """Identity of both parts by their bytes. Raises MissingData for one that is not there."""
    paths = [folder / TRAIN_FILE, folder / TEST_FILE]
    for path in paths:
        if not path.is_file():
            raise MissingData(path, "not found", "Fetch it with `python -m bench data fetch` or give its folder with --data")
    return DatasetIdentity("methylbert-reads", hash_files(paths), synthetic=False)


def _parse_kmers(path: Path, row: int, text: str) -> Array:
    kmers = text.split(" ")
    if not text or len(kmers) > TOKENS:
        raise _fault(path, row, f"has {len(kmers) if text else 0} 3-mers, expected 1 to {TOKENS}", "Cut the read or remove it")
    if set(map(len, kmers)) != {KMER}:
        raise _fault(path, row, "dna_seq is not 3-mers separated by one space each", "Write it as `ACG CGT GTA`")
    codes = encode_bases("".join(kmers)).reshape(-1, KMER)
    if codes.max() > N:
        bad = kmers[int((codes > N).any(axis=1).argmax())]
        raise _fault(path, row, f"{bad!r} is outside the vocabulary", "Use the letters A, C, G, T, and N for what is unknown")
    return tokenise(codes, 1)[:, 0]


def _parse_states(path: Path, row: int, digits: str) -> Array:
    states = np.frombuffer(digits.encode("ascii", "replace"), dtype=np.uint8) - ord("0")
    if (states > NO_CPG).any():
        raise _fault(path, row, "methyl_seq holds something other than the digits 0, 1 and 2", MARK_ABSENT)
    return np.asarray(states)


def _parse_cells(path: Path, cells: Sequence[str]) -> Array:
    for row, cell in enumerate(cells):
        if cell not in CELLS:
            raise _fault(path, row, f"ctype is {cell!r}, expected T or N", "Correct or remove the row")
    return np.array([CELLS.index(cell) for cell in cells], dtype=np.int64)


def _parse_regions(path: Path, labels: Sequence[str]) -> Array:
    for row, label in enumerate(labels):
        if not label.isdecimal():
            raise _fault(path, row, f"dmr_label is {label!r}, not the number of a region", "Correct or remove the row")
    return np.array([int(label) for label in labels], dtype=np.int64)


def _fault(path: Path, row: int, problem: str, remedy: str) -> DataError:
    return DataError(path, problem, remedy, row=FIRST_ROW + row)
