"""Lists of variants to be scored: a VCF (plain or gzip, with or without header), or the SpliceVarDB download."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay.datasets.card import DataError, MissingData
from assay.datasets.splice_tables import FIRST_ROW, read_columns
from assay.datasets.splice_windows import Alleles, parse_alleles
from assay.datasets.text import open_text

_CHROMOSOME = re.compile(r"(?:chr)?([0-9]{1,2}|X|Y|M|MT)")
_BASES = re.compile(r"[ACGT]+")
_VCF_FIELDS = 5  # chromosome, position, id, reference, alternative
_SCORED_CLASSES = ("Splice-altering", "Normal")


@dataclass(frozen=True, slots=True)
class VariantList:
    """Variants in the order of their file, each once, and how many were left out and why."""

    variants: list[Alleles]
    dropped: Mapping[str, int] = field(default_factory=dict)


def read_variant_list(path: Path) -> VariantList:
    """The variants of a VCF (hg38, 1-based) or of a SpliceVarDB download (column hg38), told apart by the first line.

    Left out and counted: variants that occur before, alleles without a sequence (`*`, `.`, `<DEL>`) or with letters for several bases (N, R), contigs other
    than chromosomes; of SpliceVarDB also rows without an hg38 coordinate and classes that no model trains on.
    Raises MissingData, DataError (neither format, too few fields, position that is no number, no variant left).
    """
    if not path.is_file():
        raise MissingData(path, "not found", "Give a VCF or SpliceVarDB's download with --variants")
    dropped: Counter[str] = Counter()
    first = next(_read_lines(path), (0, ""))[1].split("\t")
    if "hg38" in first:
        found = _read_splicevardb(path, dropped)
    elif first[0].startswith("#") or (len(first) >= _VCF_FIELDS and first[1].isdigit()):
        found = _read_vcf(path, dropped)
    else:
        raise DataError(path, "is neither a VCF nor a table with a column hg38", "Give TAB-separated chromosome, position, id, reference, alternative", row=1)
    unique: dict[str, Alleles] = {}
    for variant in found:
        unique.setdefault(variant.key, variant)
    dropped["occurs twice"] = len(found) - len(unique)
    if not unique:
        raise DataError(path, "holds no variant that can be scored", "Give variants with plain alleles on chr1 to chr22, chrX, chrY or chrM")
    return VariantList(list(unique.values()), {reason: count for reason, count in dropped.items() if count})


def _read_splicevardb(path: Path, dropped: Counter[str]) -> list[Alleles]:
    table = read_columns(path, ("variant_id", "hg38", "classification"), "\t")
    found: list[Alleles] = []
    for row, (name, text, kind) in enumerate(zip(*table.values(), strict=True), start=FIRST_ROW):
        if kind not in _SCORED_CLASSES:
            dropped[f"classified {kind}"] += 1
        elif not text:
            dropped["no hg38 coordinate"] += 1
        else:
            found.append(parse_alleles(text, path, row, name))
    return found


def _read_vcf(path: Path, dropped: Counter[str]) -> list[Alleles]:
    found: list[Alleles] = []
    for row, line in _read_lines(path):
        if not line or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) < _VCF_FIELDS:
            raise DataError(path, f"has {len(fields)} TAB-separated fields, a VCF has at least {_VCF_FIELDS}", "Correct or remove the row", row=row)
        chromosome, position, name, reference, alternatives = fields[:_VCF_FIELDS]
        if not _CHROMOSOME.fullmatch(chromosome):
            dropped["not on a chromosome"] += 1
            continue
        for alternative in alternatives.upper().split(","):
            if not _BASES.fullmatch(alternative) or not _BASES.fullmatch(reference.upper()):
                dropped["allele without a plain sequence"] += 1
                continue
            found.append(parse_alleles(f"{chromosome}-{position}-{reference.upper()}-{alternative}", path, row, "" if name == "." else name))
    return found


def _read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line."""
    with open_text(path, "Download it again") as stream:
        for row, line in enumerate(stream, start=1):
            yield row, line.rstrip("\r\n")
