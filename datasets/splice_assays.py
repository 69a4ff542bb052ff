"""Three assays of splicing with one scalar effect per variant: MaPSy, Vex-seq and MFASS.

MaPSy and Vex-seq carry their sequences; MFASS needs a genome. All three read along the gene or, for MFASS, the plus strand.
Sources: MMSplice_paper (Cheng et al. 2019), Soemedi et al. 2017 (MaPSy), Adamson et al. 2018 (Vex-seq), Cheung et al. 2019 (MFASS).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files
from assay.datasets.genome import Genome
from assay.datasets.splice_tables import FIRST_ROW, encode_column, parse_numbers, read_columns
from assay.datasets.splice_variants import SpliceVariants, share_effect
from assay.datasets.splice_windows import Alleles, cut_windows, parse_alleles

Array = np.ndarray

MAPSY_FILE = "mmsplice_paper/mapsy.txt"
VEXSEQ_FILE = "mmsplice_paper/HepG2_delta_PSI_CAGI_training_sided.csv"
MFASS_SCORES = "mfass/snv_SPANR_scores_capped.txt"
MFASS_VARIANTS = "mfass/snv.vcf"
MAPSY_LENGTH = 200
ALTERING_PSI = 10.0
"""Percentage points of delta PSI from which a Vex-seq variant is Splice-altering."""
NORMAL_PSI = 5.0
"""Percentage points of delta PSI below which a Vex-seq variant is Normal; between the two it is left out."""

SHARED = "scalar effect e shared by the channels: target = (e, e, -e) for (donor, acceptor, neither), zero for Normal"


def read_mapsy(path: Path) -> SpliceVariants:
    """MaPSy: 200-nt reference and mutant exons spliced in vivo, one single-nucleotide change each; label ESM (exonic splicing mutation).

    Effect e = rho / (1 + rho) - 1/2 with rho = 2 ** log2_vivo_ratio, in (-1/2, 1/2). Rows whose ratio is NaN (neither allele was seen
    spliced) or infinite (one was not) are left out and counted. Raises MissingData, DataError.
    """
    columns = ("WT_SEQ", "MUT_SEQ", "log2_vivo_ratio", "ESM", "chr")
    table = read_columns(path, columns)
    label = _parse_labels(path, "ESM", table["ESM"], {"0": 0, "1": 1})
    ratio = parse_numbers(path, "log2_vivo_ratio", table["log2_vivo_ratio"], finite=False)
    unmeasured = ~np.isfinite(ratio)
    if (unmeasured & (label == 1)).any():
        row = FIRST_ROW + int((unmeasured & (label == 1)).argmax())
        raise DataError(path, "log2_vivo_ratio of a variant labelled ESM is not a finite number", "Correct or remove the row", row=row)
    kept = np.flatnonzero(~unmeasured)
    reference, alternative = (encode_column(path, name, table[name], MAPSY_LENGTH)[kept] for name in ("WT_SEQ", "MUT_SEQ"))
    rho = np.exp2(ratio[kept])
    return _assemble(
        path,
        reference,
        alternative,
        label=label[kept],
        effect=rho / (1 + rho) - 0.5,
        chromosome=np.array(table["chr"])[kept],
        identity=identify_files("mapsy", [path]),
        source="MMSplice_paper @ 89e9885c, mapsy.txt: MaPSy (Soemedi et al. 2017)",
        licence="Apache-2.0",
        dropped={
            "log2_vivo_ratio is NaN": int(np.isnan(ratio).sum()),
            "log2_vivo_ratio is Inf": int((ratio == np.inf).sum()),
            "log2_vivo_ratio is -Inf": int((ratio == -np.inf).sum()),
        },
        notes=("effect e = rho / (1 + rho) - 1/2, rho = 2 ** log2_vivo_ratio", SHARED),
    )


def read_vexseq(path: Path) -> SpliceVariants:
    """Vex-seq in HepG2: 269 to 298 nt around an exon, padded with N at the end to the longest; effect = delta PSI as a fraction.

    Splice-altering when |delta PSI| is at least 10 percentage points, Normal when below 5; rows between are left out and counted.
    Raises MissingData, DataError.
    """
    table = read_columns(path, ("REF_SEQ", "ALT_SEQ", "HepG2_delta_psi", "seqnames"))
    change = parse_numbers(path, "HepG2_delta_psi", table["HepG2_delta_psi"])
    kept = np.flatnonzero((np.abs(change) >= ALTERING_PSI) | (np.abs(change) < NORMAL_PSI))
    length = max(len(text) for name in ("REF_SEQ", "ALT_SEQ") for text in table[name])
    reference, alternative = (encode_column(path, name, table[name], length)[kept] for name in ("REF_SEQ", "ALT_SEQ"))
    return _assemble(
        path,
        reference,
        alternative,
        label=(np.abs(change[kept]) >= ALTERING_PSI).astype(np.int8),
        effect=change[kept] / 100,
        chromosome=np.array(table["seqnames"])[kept],
        identity=identify_files("vex-seq", [path]),
        source="MMSplice_paper @ 89e9885c: Vex-seq training set (Adamson et al. 2018, CAGI 5)",
        licence="Apache-2.0",
        dropped={"|delta PSI| from 5 to 10 percentage points": len(change) - len(kept)},
        notes=("Splice-altering: |delta PSI| >= 10 percentage points; Normal: < 5", f"padded with N to {length} nt", SHARED),
    )


def read_mfass(scores_path: Path, path: Path, genome: Genome) -> SpliceVariants:
    """MFASS: single-nucleotide variants in or near exons; label strong_lof, effect v2_dpsi (inclusion index difference, a fraction).

    scores_path: snv_SPANR_scores_capped.txt; path: snv.vcf; genome: hg38. Variants join on id; each becomes a 501-nt window of the plus
    strand. Variants without a measured score, and those outside a sliced genome, are left out and counted. Raises MissingData,
    DataError (reference allele that does not match, missing chromosome, bad label or number).
    """
    alleles = read_mfass_variants(path)
    scores = read_columns(scores_path, ("id", "v2_dpsi", "strong_lof"), "\t")
    effect = dict(zip(scores["id"], parse_numbers(scores_path, "v2_dpsi", scores["v2_dpsi"]), strict=True))
    label = dict(zip(scores["id"], _parse_labels(scores_path, "strong_lof", scores["strong_lof"], {"FALSE": 0, "TRUE": 1}), strict=True))
    measured = [allele for allele in alleles if allele.name in effect]
    windows = cut_windows(genome, measured, path)
    inside = [measured[index] for index in windows.kept]
    return _assemble(
        path,
        windows.reference,
        windows.alternative,
        label=np.array([label[allele.name] for allele in inside], dtype=np.int8),
        effect=np.array([effect[allele.name] for allele in inside]),
        chromosome=np.array([allele.chromosome for allele in inside]),
        identity=identify_files("mfass", [scores_path, path, *genome.paths]),
        source="KosuriLab/MFASS @ 9a8e4f27 (Cheung et al. 2019)",
        licence="none stated in the repository",
        dropped={"no measured score": len(alleles) - len(measured), "outside the genome given": len(measured) - len(inside)},
        notes=("501-nt windows of the plus strand: the tables name no strand", "gene: the exon, whose variants share a construct", SHARED),
        gene=np.array([allele.name.split("_")[0] for allele in inside]),
        strand=0,
    )


def read_mfass_variants(path: Path) -> list[Alleles]:
    """Every variant of MFASS's snv.vcf (TAB, no header: chromosome, 1-based hg38 position, id, reference, alternative)."""
    table = read_columns(path, ("chrom", "pos", "id", "ref", "alt"), "\t", header=False)
    rows = zip(table["chrom"], table["pos"], table["ref"], table["alt"], table["id"], strict=True)
    return [parse_alleles("-".join(fields), path, row, name) for row, (*fields, name) in enumerate(rows, start=1)]


def identify_files(name: str, paths: Sequence[Path]) -> DatasetIdentity:
    """Identity of a data set by the bytes of its files. Raises MissingData for one that is not there."""
    for path in paths:
        if not path.is_file():
            raise MissingData(path, "not found", "Fetch it with `python -m bench data fetch` or give its folder with --data")
    return DatasetIdentity(name, hash_files(paths), synthetic=False)


def _parse_labels(path: Path, column: str, values: Sequence[str], known: Mapping[str, int]) -> Array:
    for index, text in enumerate(values):
        if text not in known:
            raise DataError(path, f"{column} is {text!r}, expected {' or '.join(known)}", "Correct or remove the row", row=FIRST_ROW + index)
    return np.array([known[text] for text in values], dtype=np.int8)


def _assemble(
    path: Path,
    reference: Array,
    alternative: Array,
    *,
    label: Array,
    effect: Array,
    chromosome: Array,
    identity: DatasetIdentity,
    source: str,
    licence: str,
    dropped: Mapping[str, int],
    notes: tuple[str, ...],
    gene: Array | None = None,
    strand: int = 1,
) -> SpliceVariants:
    rows = np.arange(len(label))
    position = (reference != alternative).argmax(axis=1)
    return SpliceVariants(
        reference=reference,
        alternative=alternative,
        position=position,
        reference_base=reference[rows, position],
        alternative_base=alternative[rows, position],
        label=label,
        target=share_effect(label, effect),
        chromosome=chromosome,
        gene=np.full(len(label), "") if gene is None else gene,
        strand=np.full(len(label), strand, dtype=np.int8),
        identity=identity,
        path=str(path),
        source=source,
        licence=licence,
        dropped=dropped,
        notes=notes,
    )
