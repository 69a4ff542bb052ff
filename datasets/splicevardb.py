"""SpliceVarDB: the table of classified variants, with scores of a base splice-site model from the same or a second table.

Source: documents 000 and 001; Sullivan et al. 2024. Columns of the downloaded table: variant_id, hg19, hg38, gene, hgvs, method,
classification, location, doi, separated by TAB. Base-model columns: d_neither, d_acceptor, d_donor (one softmax), dd_* (two softmaxes),
minus_d_* (model on the minus strand), site_minus (the minus strand's largest site probability nearby).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError
from assay.datasets.genome import Genome, encode_bases
from assay.datasets.splice_assays import identify_files
from assay.datasets.splice_tables import FIRST_ROW, parse_numbers, read_columns
from assay.datasets.splice_variants import BaseDeltas, SpliceVariants, TargetRecipe, make_targets
from assay.datasets.splice_windows import Alleles, Windows, cut_windows, parse_alleles

Array = np.ndarray

TABLE_FILE = "splicevardb/splicevardb.download.tsv"
DELTAS_FILE = "splicevardb/base_deltas.csv"
GENOME_FILE = "genome/hg38.fa"

CLASSES = ("Splice-altering", "Normal", "Low-frequency", "Conflicting")
SHARES = {"Splice-altering": 13_673, "Normal": 11_358, "Low-frequency": 25_601, "Conflicting": 83}
"""Rows per class of the documented download, 50,715 in all."""

_BASE_CHANNELS = ("neither", "acceptor", "donor")
_DELTA_COLUMNS = {
    "plus": tuple(f"d_{channel}" for channel in _BASE_CHANNELS),
    "minus": tuple(f"minus_d_{channel}" for channel in _BASE_CHANNELS),
    "double": tuple(f"dd_{channel}" for channel in _BASE_CHANNELS),
}
_COLUMNS = (*(column for columns in _DELTA_COLUMNS.values() for column in columns), "site_minus")


def read_splicevardb(table: Path, genome: Genome, recipe: TargetRecipe, deltas: Path | None = None) -> SpliceVariants:
    """Splice-altering and Normal variants of the table as 501-nt windows with base-model targets.

    deltas: a CSV with chrom, pos_hg38, ref, alt and the base-model columns; None reads those columns from the table itself.
    Left out and counted: the other classes, rows without an hg38 coordinate, rows outside a sliced genome, Splice-altering rows
    that the base model did not score and, for the corrected recipe, any row without a score, since the score tells the strand.
    Raises MissingData, DataError (missing column, unknown class, unparsable variant, missing chromosome, mismatching reference
    allele, score that is not finite).
    """
    columns = read_columns(table, ("hg38", "gene", "classification", *(() if deltas else _COLUMNS)), "\t")
    classes = _check_classes(table, columns["classification"])
    dropped: Counter[str] = Counter(name for name in classes if name not in {"Splice-altering", "Normal"})
    wanted = [row for row, name in enumerate(classes) if name in {"Splice-altering", "Normal"}]
    placed = [row for row in wanted if columns["hg38"][row]]
    dropped["no hg38 coordinate"] = len(wanted) - len(placed)
    variants = [parse_alleles(columns["hg38"][row], table, FIRST_ROW + row) for row in placed]
    label = np.array([classes[row] == "Splice-altering" for row in placed], dtype=np.int8)
    scores = _match_scores(read_deltas(deltas), variants) if deltas else _parse_scores(table, columns)[placed]
    scored = ~np.isnan(scores).any(axis=1)
    usable = np.flatnonzero(scored if recipe is TargetRecipe.CORRECTED else scored | (label == 0))
    dropped["no base-model score"] = len(placed) - len(usable)
    windows = cut_windows(genome, [variants[index] for index in usable], table)
    kept = usable[windows.kept]
    dropped["outside the genome given"] = len(usable) - len(kept)
    return _assemble(
        [variants[index] for index in kept],
        windows,
        label=label[kept],
        gene=np.array([columns["gene"][placed[index]] for index in kept]),
        scores=np.nan_to_num(scores[kept]),
        recipe=recipe,
        paths=[table, *([deltas] if deltas else []), *genome.paths],
        dropped=dict(dropped),
    )


def read_deltas(path: Path) -> dict[str, Array]:
    """Base-model scores by variant, `chr-position-reference-alternative` -> float64 [10] (plus, minus, double-softmax deltas, site_minus).

    Raises MissingData, DataError (missing column, bad variant, number that is not finite, variant that occurs twice).
    """
    columns = read_columns(path, ("chrom", "pos_hg38", "ref", "alt", *_COLUMNS))
    keys = zip(columns["chrom"], columns["pos_hg38"], columns["ref"], columns["alt"], strict=True)
    variants = [parse_alleles("-".join(key), path, row) for row, key in enumerate(keys, start=FIRST_ROW)]
    scores = np.stack([parse_numbers(path, column, columns[column]) for column in _COLUMNS], axis=1)
    found: dict[str, Array] = {}
    for variant, values in zip(variants, scores, strict=True):
        if variant.key in found:
            raise DataError(path, f"{variant.key} occurs twice", "Keep one row per variant", row=variant.row)
        found[variant.key] = values
    return found


def _check_classes(path: Path, values: Sequence[str]) -> Sequence[str]:
    for index, name in enumerate(values):
        if name not in CLASSES:
            raise DataError(path, f"classification is {name!r}, expected {', '.join(CLASSES)}", "Correct or remove the row", row=FIRST_ROW + index)
    return values


def _parse_scores(path: Path, columns: dict[str, list[str]]) -> Array:
    scores = np.stack([parse_numbers(path, column, columns[column], finite=False) for column in _COLUMNS], axis=1)
    # an empty row is a variant that the base model did not score; a row with holes or infinities is a mistake
    broken = ~(np.isfinite(scores).all(axis=1) | np.isnan(scores).all(axis=1))
    if broken.any():
        raise DataError(path, "base-model columns hold a value that is not finite", "Give all ten or leave all ten empty", row=FIRST_ROW + int(broken.argmax()))
    return scores


def _match_scores(found: dict[str, Array], variants: Sequence[Alleles]) -> Array:
    unscored = np.full(len(_COLUMNS), np.nan)
    return np.array([found.get(variant.key, unscored) for variant in variants]).reshape(len(variants), len(_COLUMNS))


def _assemble(
    variants: Sequence[Alleles],
    windows: Windows,
    *,
    label: Array,
    gene: Array,
    scores: Array,
    recipe: TargetRecipe,
    paths: Sequence[Path],
    dropped: dict[str, int],
) -> SpliceVariants:
    strand = np.where(scores[:, 9] > 0.5, -1, 1).astype(np.int8)
    base = BaseDeltas(plus=scores[:, 0:3], minus=scores[:, 3:6], double=scores[:, 6:9], strand=strand)
    found = SpliceVariants(
        reference=windows.reference,
        alternative=windows.alternative,
        position=np.full(len(label), windows.at),
        reference_base=encode_bases("".join(variant.reference[0] for variant in variants)),
        alternative_base=encode_bases("".join(variant.alternative[0] for variant in variants)),
        label=label,
        target=make_targets(recipe, label, base),
        chromosome=np.array([variant.chromosome for variant in variants]),
        gene=gene,
        strand=strand,
        identity=identify_files("splicevardb", paths),
        path=str(paths[0]),
        source="SpliceVarDB download (Sullivan et al. 2024) with base-model deltas",
        licence="as stated by splicevardb.org",
        dropped=dropped,
        notes=(f"targets: {recipe} recipe", "strand: minus where the base model sees a site there with probability > 0.5 (site_minus)"),
    )
    return found.orient() if recipe is TargetRecipe.CORRECTED else found
