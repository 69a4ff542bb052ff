"""Variants by coordinate, and the windows of a genome around them.

Source: documents 000 and 001, data preparation: 501 nt around the variant, 0-based start pos - 251; indels trimmed or padded with N.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError
from assay.datasets.genome import Genome, N, OutsideGenome, decode_bases, encode_bases

Array = np.ndarray

WINDOW = 501
_VARIANT_ID = re.compile(r"(?:chr)?([0-9]{1,2}|X|Y|M|MT)-([1-9][0-9]{0,9})-([ACGT]+)-([ACGT]+)")


@dataclass(frozen=True, slots=True)
class Alleles:
    """One variant: chromosome with `chr`, 1-based position of the reference allele's first base on the plus strand, and where it was read."""

    chromosome: str
    position: int
    reference: str
    alternative: str
    row: int
    name: str = ""

    @property
    def key(self) -> str:
        """`chr-position-reference-alternative`."""
        return f"{self.chromosome}-{self.position}-{self.reference}-{self.alternative}"


@dataclass(frozen=True, slots=True)
class Windows:
    """uint8 [n, length] sequences of the plus strand with either allele, and which of the variants asked for they belong to."""

    reference: Array
    alternative: Array
    kept: list[int]
    at: int  # index of the variant in its window


def parse_alleles(text: str, path: Path, row: int, name: str = "") -> Alleles:
    """A variant from `chrom-pos-ref-alt`, e.g. `1-100107682-T-C`. Raises DataError naming file and row for anything else."""
    match = _VARIANT_ID.fullmatch(text)
    if match is None:
        raise DataError(path, f"{text!r} is not a variant as chrom-pos-ref-alt, e.g. 1-100107682-T-C", "Correct or remove the row", row=row)
    chromosome, position, reference, alternative = match.groups()
    if reference == alternative:
        raise DataError(path, f"{text!r} changes nothing: both alleles are {reference}", "Correct or remove the row", row=row)
    return Alleles(f"chr{chromosome}", int(position), reference, alternative, row, name)


def window_start(position: int, length: int = WINDOW) -> int:
    """0-based start of the window whose middle base is the variant's 1-based position: pos - 251 for 501 nt."""
    return position - (length + 1) // 2


def substitute(window: Array, at: int, reference: Array, alternative: Array) -> Array:
    """The window with the reference allele at index `at` replaced; trimmed, or padded with N at its end, to the same length."""
    changed = np.concatenate([window[:at], alternative, window[at + len(reference) :]])[: len(window)]
    return np.pad(changed, (0, len(window) - len(changed)), constant_values=N)


def cut_windows(genome: Genome, variants: Sequence[Alleles], path: Path, length: int = WINDOW) -> Windows:
    """Windows of `length` (odd) around the variants that the genome covers.

    Raises DataError, naming path and row, where the genome has another base than the reference allele, and when no variant is covered.
    """
    at = length // 2
    references: list[Array] = []
    alternatives: list[Array] = []
    kept: list[int] = []
    for index, variant in enumerate(variants):
        start = window_start(variant.position, length)
        try:
            window = genome.read(variant.chromosome, start, start + length)
        except OutsideGenome:
            continue
        reference = encode_bases(variant.reference)
        there = window[at : at + len(reference)]  # a long allele may reach past the window
        if not np.array_equal(there, reference[: len(there)]):
            problem = f"reference allele of {variant.key} does not match the genome, which has {decode_bases(there)}"
            raise DataError(path, problem, "Give the FASTA of the assembly that the coordinates belong to (hg38)", row=variant.row)
        references.append(window)
        alternatives.append(substitute(window, at, reference, encode_bases(variant.alternative)))
        kept.append(index)
    if not kept:
        raise DataError(path, "no variant lies inside the genome given", "Give a FASTA that covers the variants")
    return Windows(np.stack(references), np.stack(alternatives), kept, at)
