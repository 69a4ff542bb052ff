"""Windows of a genome that a base splice-site model reads around a variant.

Source: documents 000 and 001, data preparation: 6,000 nt on either side (12,001 in all) for a context of 10,000 nt; near the end of a
chromosome fewer, and below 11,000 the variant is skipped. Smaller contexts keep the same 1,000 nt beyond the context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError
from assay.datasets.genome import Genome, N, OutsideGenome, decode_bases, encode_bases
from assay.datasets.splice_windows import Alleles, substitute

Array = np.ndarray

SCAN = 50
"""Nucleotides on either side of a variant in which its largest effect is looked for."""
BEYOND = 1_000
"""Nucleotides of a window beyond half the context, on either side."""
LONGEST_CHANGE = BEYOND - SCAN
"""Nucleotides that an insertion or deletion may add or remove: scanned positions must keep their context."""


class Skipped(Exception):
    """A variant that cannot be scored; the message is the reason under which it is counted."""


@dataclass(frozen=True, slots=True)
class BaseWindow:
    """One variant's window of the plus strand with either allele.

    reference, alternative: uint8 [context + 2 * BEYOND + 1] codes, the variant's first base in the middle, N where the chromosome has
    ended; covered: bool [2 * SCAN + 1], which offsets from the variant have their whole context on the chromosome.
    """

    variant: Alleles
    reference: Array
    alternative: Array
    covered: Array


def cut_base_window(genome: Genome, variant: Alleles, path: Path, context: int) -> BaseWindow:
    """The window of a variant for a model with `context` nucleotides of context.

    Raises Skipped (outside a sliced genome, window below context + 1,000 nt, change longer than 950 nt) and DataError naming path and
    row (position beyond the end of a whole chromosome, reference allele that differs from the genome).
    """
    centre, flank = variant.position - 1, context // 2 + BEYOND
    first, last = _find_ends(genome, variant, path)
    start, end = max(centre - flank, first), min(centre + flank + 1, last)
    if end - start < context + BEYOND:
        raise Skipped(f"window below {context + BEYOND:,} nt")
    window = np.full(2 * flank + 1, N, dtype=np.uint8)
    window[start - centre + flank : end - centre + flank] = genome.read(variant.chromosome, start, end)
    reference = encode_bases(variant.reference)
    there = window[flank : flank + len(reference)]  # a long allele may reach past the window
    if not np.array_equal(there, reference[: len(there)]):
        problem = f"reference allele of {variant.key} does not match the genome, which has {decode_bases(there)}"
        raise DataError(path, problem, "Give the FASTA of the assembly that the coordinates belong to (hg38)", row=variant.row)
    if abs(len(variant.alternative) - len(variant.reference)) > LONGEST_CHANGE:
        raise Skipped(f"insertion or deletion longer than {LONGEST_CHANGE} nt")
    offsets = np.arange(-SCAN, SCAN + 1)
    covered = (centre + offsets - context // 2 >= start) & (centre + offsets + context // 2 < end)
    return BaseWindow(variant, window, substitute(window, flank, reference, encode_bases(variant.alternative)), covered)


def _find_ends(genome: Genome, variant: Alleles, path: Path) -> tuple[int, int]:
    try:
        return genome.find_span(variant.chromosome, variant.position - 1)
    except OutsideGenome:
        if genome.is_sliced:
            raise Skipped("outside the genome given") from None
        remedy = f"Give the whole hg38 FASTA: {genome.paths[0]} is cut short or of another assembly"
        raise DataError(path, f"{variant.key} lies beyond the end of its chromosome", remedy, row=variant.row) from None
