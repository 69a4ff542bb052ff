"""The NPZ and HDF5 contracts of the methylation data (document 002, data contract), read row by row: no file is ever whole in memory.

NPZ, one file per sample: dna_tokens and methylation [regions, 150] of integers, region_ids, n_reads [regions], tissue_label one-hot
[classes], sample_name, tissue_name. A CSV (filename, tissue_index) lists the files of a split. HDF5, all samples of a split:
dna_tokens and methylation [files, regions, 150], attributes n_regions_per_file, seq_length, n_tissues, tissue_labels [files].
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from datasets.card import DataError, MissingData
from datasets.methylation import NO_CPG, TOKENS, Reads, check_reads

Array = np.ndarray

CHUNK = 4_096
"""Rows at a time when a file is read through."""
OPEN_FILES = 64
"""Samples that are mapped at one time: each takes file descriptors, of which a process may have about a thousand."""
_MEMBERS = ("dna_tokens", "methylation")
_LOCAL_HEADER = 30  # bytes of a zip entry's header before its name
_AGAIN = "Write or download the file again"


class NpzSample:
    """One sample's NPZ file, its two large arrays mapped from disk."""

    def __init__(self, path: Path) -> None:
        """Raises MissingData, and DataError for a file that is damaged, packed or not as the contract says."""
        if not path.is_file():
            raise MissingData(path, "not found", "Give its folder with --data, or correct the list that names it")
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                self._tokens, self._states = (_map_member(path, archive, name) for name in _MEMBERS)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise DataError(path, f"is no readable NPZ file ({error})", _AGAIN) from None
        for name, array in zip(_MEMBERS, (self._tokens, self._states), strict=True):
            if array.ndim != 2 or array.shape[1] != TOKENS:
                raise DataError(path, f"{name} has the shape {list(array.shape)}, expected [regions, {TOKENS}]", _AGAIN)
        if len(self._tokens) != len(self._states):
            raise DataError(path, f"dna_tokens has {len(self._tokens)} regions but methylation {len(self._states)}", _AGAIN)

    def __len__(self) -> int:
        return len(self._tokens)

    def take(self, rows: Array) -> tuple[Array, Array]:
        """Tokens and states uint8 [b, 150] of region numbers [b], checked. Raises DataError for the first bad row (0-based)."""
        tokens, states = np.asarray(self._tokens[rows]), np.asarray(self._states[rows])
        check_reads(tokens, states, self.path, rows)
        return tokens.astype(np.uint8), states.astype(np.uint8)


def measure_samples(source: NpzReads | Hdf5Reads) -> Array:
    """float32 [files, regions] methylation of every region of every sample, read chunk by chunk."""
    measured = np.empty(len(source), dtype=np.float32)
    for start in range(0, len(source), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(source)))
        measured[rows] = average_states(source.take(rows).states)
    return measured.reshape(-1, source.regions)


def average_states(states: Array) -> Array:
    """uint8 [n, L] states -> float32 [n] share of methylated among the measured; 0 where nothing was measured."""
    measured = (states != NO_CPG).sum(axis=1)
    return np.asarray((states == 1).sum(axis=1) / np.maximum(measured, 1), dtype=np.float32)


def _map_member(path: Path, archive: zipfile.ZipFile, name: str) -> Array:
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise DataError(path, f"has no array {name!r}; it has {', '.join(archive.namelist()) or 'none'}", _AGAIN) from None
    if entry.compress_type != zipfile.ZIP_STORED:
        raise DataError(path, f"{name} is compressed and cannot be mapped from disk", "Save it with numpy.savez, not savez_compressed")
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        inside = stream.tell()
    if dtype.kind not in "iu" or fortran:
        raise DataError(path, f"{name} holds {dtype} in {'column' if fortran else 'row'} order, expected integers in row order", _AGAIN)
    if entry.file_size != inside + dtype.itemsize * int(np.prod(shape)):
        raise DataError(path, f"{name} has {entry.file_size} bytes, not what its shape {list(shape)} takes", _AGAIN)
    return np.memmap(path, dtype=dtype, mode="r", offset=_find_data(path, entry.header_offset) + inside, shape=shape)


def _find_data(path: Path, header: int) -> int:
    # the central directory does not say how long the entry's own name and extra fields are
    with path.open("rb") as stream:
        stream.seek(header)
        fixed = stream.read(_LOCAL_HEADER)
    return header + _LOCAL_HEADER + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")


@dataclass(frozen=True, slots=True)
class SampleList:
    """The files of one split and the tissue of each."""

    paths: tuple[Path, ...]
    label: Array  # int64 [files]


def read_list(path: Path) -> SampleList:
    """A split's CSV: filename (relative to the CSV), tissue_index. Raises MissingData, and DataError naming the row."""
    if not path.is_file():
        raise MissingData(path, "not found", "Give its folder with --data: a CSV with the columns filename, tissue_index")
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if not {"filename", "tissue_index"} <= set(reader.fieldnames or ()):
            raise DataError(path, f"has the columns {', '.join(reader.fieldnames or ())}", "Give filename and tissue_index", row=1)
        rows = list(reader)
    if not rows:
        raise DataError(path, "lists no files", "Give a row per file")
    for number, row in enumerate(rows, start=2):
        if not row["filename"] or not (row["tissue_index"] or "").isdecimal():
            raise DataError(path, f"names {row['filename']!r} with tissue_index {row['tissue_index']!r}", "Give a file and a number from 0", row=number)
    return SampleList(tuple(path.parent / row["filename"] for row in rows), np.array([int(row["tissue_index"]) for row in rows], dtype=np.int64))


class NpzReads:
    """Every region of every listed sample as one read: a ReadSource that maps at most 64 files at a time."""

    length, even = TOKENS, False  # nothing says so without reading every row

    def __init__(self, samples: SampleList, classes: Sequence[str]) -> None:
        """Raises DataError where the first file breaks the contract or a tissue has no name among `classes`."""
        if (worst := int(samples.label.max())) >= len(classes):
            raise DataError(samples.paths[int(samples.label.argmax())], f"is of tissue {worst}, of {len(classes)}", "Correct tissue_index in the list")
        self.classes, self._samples, self.label = classes, samples, samples.label
        self._open: Callable[[int], NpzSample] = lru_cache(OPEN_FILES)(lambda number: NpzSample(samples.paths[number]))
        self.regions = len(self._open(0))

    def __len__(self) -> int:
        return len(self._samples.paths) * self.regions

    def take(self, rows: Array) -> Reads:
        def read(number: int, regions: Array) -> tuple[Array, Array]:
            sample = self._open(number)
            if len(sample) != self.regions:
                raise DataError(sample.path, f"has {len(sample)} regions, the first file {self.regions}", "Give files of the same regions")
            return sample.take(regions)

        return _gather(rows, self.regions, self._samples.label, read)


class Hdf5Reads:
    """Every region of every sample of an HDF5 file as one read: a ReadSource that reads only the rows asked for."""

    length, even = TOKENS, False  # nothing says so without reading every row

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        """Raises MissingData, and DataError for a file that is damaged or not as the contract says."""
        if not path.is_file():
            raise MissingData(path, "not found", "Give its folder with --data")
        import h5py  # here: most runs have no HDF5 file, and the import takes a tenth of a second

        self.path, self.classes = path, classes
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise DataError(path, f"is no readable HDF5 file ({error})", _AGAIN) from None
        self._tokens, self._states = (self._find(name) for name in _MEMBERS)
        files, self.regions = (int(size) for size in self._tokens.shape[:2])
        self._check_attributes(files)
        self.label = np.asarray(self._file.attrs["tissue_labels"], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.label) * self.regions

    def take(self, rows: Array) -> Reads:
        def read(number: int, regions: Array) -> tuple[Array, Array]:
            once, place = np.unique(regions, return_inverse=True)  # h5py takes rising numbers only
            try:
                tokens, states = (data[number, once][place] for data in (self._tokens, self._states))
            except OSError as error:
                raise DataError(self.path, f"sample {number} cannot be read ({error})", _AGAIN) from None
            check_reads(tokens, states, f"{self.path}, sample {number}", regions)
            return tokens.astype(np.uint8), states.astype(np.uint8)

        return _gather(rows, self.regions, self.label, read)

    def _find(self, name: str) -> Any:
        data = self._file.get(name)
        if data is None or not hasattr(data, "shape"):
            raise DataError(self.path, f"has no data set {name!r}; it has {', '.join(self._file) or 'none'}", _AGAIN)
        if len(data.shape) != 3 or data.shape[2] != TOKENS or data.dtype.kind not in "iu":
            raise DataError(self.path, f"{name} holds {data.dtype} {list(data.shape)}, expected integers [files, regions, {TOKENS}]", _AGAIN)
        return data

    def _check_attributes(self, files: int) -> None:
        attributes = self._file.attrs
        expected = {"n_regions_per_file": self.regions, "seq_length": TOKENS}
        for name, value in expected.items():
            if name not in attributes or int(attributes[name]) != value:
                raise DataError(self.path, f"attribute {name} is {attributes.get(name)}, the data have {value}", _AGAIN)
        labels = np.asarray(attributes.get("tissue_labels", ()))
        if self._states.shape != self._tokens.shape or labels.shape != (files,):
            shapes = f"dna_tokens {list(self._tokens.shape)}, methylation {list(self._states.shape)}, tissue_labels {list(labels.shape)}"
            raise DataError(self.path, f"its parts do not fit together: {shapes}", _AGAIN)
        if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise DataError(self.path, f"tissue_labels are not whole numbers from 0 to {len(self.classes) - 1}", "Number the tissues in their order")


def _gather(rows: Array, regions: int, label: Array, read: Callable[[int, Array], tuple[Array, Array]]) -> Reads:
    """Rows in any order from samples that are read one by one; row = sample x regions + region."""
    sample, region = np.divmod(rows, regions)
    tokens, states = (np.empty((len(rows), TOKENS), dtype=np.uint8) for _ in range(2))
    for number in np.unique(sample).tolist():
        place = np.flatnonzero(sample == number)
        tokens[place], states[place] = read(number, region[place])
    return Reads(tokens, states, label[sample], region)
