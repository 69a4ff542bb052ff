"""Windows of a reference genome from FASTA files: plain, gzip or bgzip, whole chromosomes or slices that start anywhere.

Positions are 0-based and half-open here, as in BED; a 1-based position of a variant table is converted where the table is read.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.datasets.card import DataError, MissingData

Array = np.ndarray

A, C, G, T, N = range(5)
"""Codes of the bases in every array of sequences."""

BASES = "ACGTN"
INVALID = 255
_CODE_OF: Array = np.full(256, INVALID, dtype=np.uint8)
for _letters, _code in (("A", A), ("C", C), ("G", G), ("T", T), ("NRYSWKMBDHV", N)):  # hg38 has a few ambiguity codes on chr3
    _CODE_OF[[ord(letter) for letter in _letters + _letters.lower()]] = _code
_COMPLEMENT: Array = np.array([T, G, C, A, N], dtype=np.uint8)


def encode_bases(text: str) -> Array:
    """uint8 [len(text)] codes A 0, C 1, G 2, T 3, N and the other IUPAC ambiguity codes 4, lower case alike; any other letter is INVALID (255)."""
    codes: Array = _CODE_OF[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
    return codes


def decode_bases(codes: Array) -> str:
    """The letters of [n] codes."""
    return "".join(BASES[code] for code in codes.tolist())


def reverse_complement(codes: Array) -> Array:
    """The other strand of [..., L] codes; N stays N."""
    flipped: Array = _COMPLEMENT[codes[..., ::-1]]
    return flipped


def complement(codes: Array) -> Array:
    """The paired base of each code; N stays N."""
    paired: Array = _COMPLEMENT[codes]
    return paired


@dataclass(frozen=True, slots=True)
class GenomeFile:
    """A FASTA file: of whole chromosomes named by its headers, or one slice of a chromosome.

    chromosome and start (0-based) say where a slice lies; both stay None for a file of whole chromosomes.
    """

    path: Path
    chromosome: str | None = None
    start: int = 0


HG38_SLICES = {
    # origin and coordinates: datasets' README; the first file's name counts from 1, the second's from 0, the third's header from 1
    "chr2_1-2333275.fa.gz": ("chr2", 0),
    "hg38_chr22_32000000_32300000.fa": ("chr22", 32_000_000),
    "chr17_42425000-43600000.fa": ("chr17", 42_424_999),
}


def list_hg38_slices(folder: Path) -> list[GenomeFile]:
    """The slices of hg38 that the public data set ships. Raises MissingData for an incomplete folder."""
    return [GenomeFile(_require(folder / name), chromosome, start) for name, (chromosome, start) in HG38_SLICES.items()]


class OutsideGenome(Exception):
    """A window that the given slices, or the ends of a chromosome, do not cover."""


class Genome:
    """Random access to the sequence of one assembly.

    files: the FASTA files; cache: folder for indexes and for the inflated copies of gzip files (the data folder may be read-only).
    Raises MissingData for a file that is not there and DataError for one that is no FASTA or a truncated gzip.
    """

    def __init__(self, files: Sequence[GenomeFile], cache: Path) -> None:
        self._files = list(files)
        cache.mkdir(parents=True, exist_ok=True)
        self._pieces: dict[str, list[tuple[int, Any]]] = {}
        self._whole = any(file.chromosome is None for file in files)
        for file in self._files:
            for name, record in _open_fasta(file.path, cache).items():
                self._pieces.setdefault(file.chromosome or _normalise(name), []).append((file.start, record))

    @property
    def paths(self) -> list[Path]:
        """The FASTA files."""
        return [file.path for file in self._files]

    @property
    def is_sliced(self) -> bool:
        """Whether only parts of chromosomes are there, so that a variant outside is no mistake."""
        return not self._whole

    def read(self, chromosome: str, start: int, end: int) -> Array:
        """uint8 [end - start] codes of a 0-based half-open window; names with and without `chr` are alike.

        Raises OutsideGenome for a window that is not wholly there, DataError for a chromosome that a file of whole
        chromosomes lacks and for letters that are no base.
        """
        for offset, record in self._find_pieces(chromosome):
            if offset <= start and end <= offset + len(record):
                codes = encode_bases(record[start - offset : end - offset])
                if (codes == INVALID).any():
                    at = start + int((codes == INVALID).argmax())
                    raise DataError(self._files[0].path, f"{chromosome}:{at + 1} is no base", "Use a FASTA of plain bases")
                return codes
        raise OutsideGenome(f"{chromosome}:{start}-{end} is not covered")

    def find_span(self, chromosome: str, position: int) -> tuple[int, int]:
        """0-based start and end of the chromosome, or of the slice, that a 0-based position lies in. Raises as `read` does."""
        for offset, record in self._find_pieces(chromosome):
            if offset <= position < offset + len(record):
                return offset, offset + len(record)
        raise OutsideGenome(f"{chromosome}:{position + 1} is not covered")

    def _find_pieces(self, chromosome: str) -> list[tuple[int, Any]]:
        pieces = self._pieces.get(_normalise(chromosome))
        if pieces is None:
            if self.is_sliced:
                raise OutsideGenome(f"no slice of {chromosome}")
            known = ", ".join(list(self._pieces)[:6])
            raise DataError(self._files[0].path, f"has no chromosome {_normalise(chromosome)!r} (it has {known}, ...)", "Give the whole hg38 FASTA")
        return pieces


def _normalise(chromosome: str) -> str:
    name = chromosome.removeprefix("chr")
    return f"chr{'M' if name == 'MT' else name}"  # Ensembl's name for what hg38's files call chrM


def _require(path: Path) -> Path:
    if not path.is_file():
        raise MissingData(path, "not found", "Give a FASTA of hg38; `python -m bench data describe genome` says where to get it")
    return path


def _open_fasta(path: Path, cache: Path) -> dict[str, Any]:
    import pyfaidx

    _require(path)
    plain = _inflate(path, cache) if path.suffix in {".gz", ".bgz"} else path
    index = cache / f"{_fingerprint(path)}.fai"
    try:
        fasta = pyfaidx.Fasta(str(plain), indexname=str(index), as_raw=True)
        records = {name: fasta[name] for name in fasta.keys()}  # noqa: SIM118  (a Fasta iterates over records)
    except (pyfaidx.FastaIndexingError, UnicodeDecodeError) as error:
        raise DataError(path, f"is not a FASTA file that can be indexed: {error}", "Download it again") from None
    if not records:
        raise DataError(path, "holds no sequence", "Download it again")
    return records


def _inflate(path: Path, cache: Path) -> Path:
    final = cache / f"{_fingerprint(path)}.fa"
    if final.exists():
        return final
    temporary = final.with_suffix(f".{os.getpid()}.tmp")
    try:
        with gzip.open(path, "rb") as packed, temporary.open("wb") as plain:
            while chunk := packed.read(1 << 22):
                plain.write(chunk)
        temporary.rename(final)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(path, f"is a truncated or damaged gzip file: {error}", "Download it again") from None
    finally:
        temporary.unlink(missing_ok=True)
    return final


def _fingerprint(path: Path) -> str:
    state = path.stat()
    return hashlib.sha256(f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}".encode()).hexdigest()[:24]
