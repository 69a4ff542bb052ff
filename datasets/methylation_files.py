"""The NPZ and HDF5 contracts of the methylation data (document 002, data contract), read row by row: no file is ever whole in memory.

NPZ, one file per sample: dna_tokens and methylation [regions, 150] of integers, region_ids, n_reads [regions], tissue_label one-hot
[classes], sample_name, tissue_name. A CSV (filename, tissue_index) lists the files of a split. HDF5, all samples of a split:
dna_tokens and methylation [files, regions, 150], attributes n_regions_per_file, seq_length, n_tissues, tissue_labels [files]; ours also
takes an attribute sample_names [files], without which nobody can say whether a sample is in another part too. Content outside the file
(external links, virtual data sets, raw external storage) is refused: the file's hash, which a record names the data by, does not cover it.
"""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from assay.datasets.card import DataError, MissingData
from assay.datasets.methylation import NO_CPG, TOKENS, Reads, check_reads
from assay.datasets.methylation_lists import WRITE_AGAIN, SampleList, check_agreement, read_member, read_traits

Array = np.ndarray

CHUNK = 4_096
"""Rows at a time when a file is read through."""
OPEN_FILES = 64
"""Samples that are mapped at one time: each takes file descriptors, of which a process may have about a thousand."""
_MEMBERS = ("dna_tokens", "methylation")
_LOCAL_HEADER = 30  # bytes of a zip entry's header before its name


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
        except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
            raise DataError(path, f"is no readable NPZ file ({error})", WRITE_AGAIN) from None
        for name, array in zip(_MEMBERS, (self._tokens, self._states), strict=True):
            if array.ndim != 2 or array.shape[1] != TOKENS:
                raise DataError(path, f"{name} has the shape {list(array.shape)}, expected [regions, {TOKENS}]", WRITE_AGAIN)
        if len(self._tokens) != len(self._states):
            raise DataError(path, f"dna_tokens has {len(self._tokens)} regions but methylation {len(self._states)}", WRITE_AGAIN)

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
        raise DataError(path, f"has no array {name!r}; it has {', '.join(archive.namelist()) or 'none'}", WRITE_AGAIN) from None
    if entry.compress_type != zipfile.ZIP_STORED:
        raise DataError(path, f"{name} is compressed and cannot be mapped from disk", "Save it with numpy.savez, not savez_compressed")
    with archive.open(entry) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        inside = stream.tell()
    if dtype.kind not in "iu" or fortran:
        raise DataError(path, f"{name} holds {dtype} in {'column' if fortran else 'row'} order, expected integers in row order", WRITE_AGAIN)
    if entry.file_size != inside + dtype.itemsize * int(np.prod(shape)):
        raise DataError(path, f"{name} has {entry.file_size} bytes, not what its shape {list(shape)} takes", WRITE_AGAIN)
    return np.memmap(path, dtype=dtype, mode="r", offset=_find_data(path, entry.header_offset) + inside, shape=shape)


def _find_data(path: Path, header: int) -> int:
    # the central directory does not say how long the entry's own name and extra fields are
    with path.open("rb") as stream:
        stream.seek(header)
        fixed = stream.read(_LOCAL_HEADER)
    return header + _LOCAL_HEADER + int.from_bytes(fixed[26:28], "little") + int.from_bytes(fixed[28:30], "little")


class NpzReads:
    """Every region of every listed sample as one read: a ReadSource that maps at most 64 files at a time."""

    length, even = TOKENS, False  # nothing says so without reading every row

    def __init__(self, samples: SampleList, classes: Sequence[str]) -> None:
        """Raises DataError where the first file breaks the contract, a tissue has no name among `classes`, or files contradict each other."""
        if (worst := int(samples.label.max())) >= len(classes):
            raise DataError(samples.paths[int(samples.label.argmax())], f"is of tissue {worst}, of {len(classes)}", "Correct tissue_index in the list")
        self.classes, self._samples, self.label = classes, samples, samples.label
        self._open: Callable[[int], NpzSample] = lru_cache(OPEN_FILES)(lambda number: NpzSample(samples.paths[number]))
        self.regions = len(self._open(0))
        self.traits = read_traits(samples)
        check_agreement(self.traits, len(classes))
        if (shape := read_member(samples.paths[0], "region_ids").shape) != (self.regions,):
            raise DataError(samples.paths[0], f"region_ids has the shape {list(shape)}, the reads are of {self.regions} regions", WRITE_AGAIN)

    @property
    def names(self) -> Sequence[str]:
        """The samples' names."""
        return [sample.name for sample in self.traits]

    @property
    def paths(self) -> Sequence[Path]:
        """The samples' files."""
        return self._samples.paths

    def select(self, kept: Array) -> NpzReads:
        """The samples of int64 [m] numbers as a source of their own."""
        return NpzReads(self._samples.select(kept), self.classes)

    def find_labels(self, rows: Array) -> Array:
        return np.asarray(self.label[rows // self.regions])

    def find_groups(self, rows: Array) -> Array | None:
        return rows // self.regions

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
            self._tokens, self._states = (self._find(name) for name in _MEMBERS)
            files, self.regions = (int(size) for size in self._tokens.shape[:2])
            if not files or not self.regions:
                raise DataError(path, f"holds {files} samples of {self.regions} regions: there is nothing to read", WRITE_AGAIN)
            self._check_attributes(files)
            self._numbers, self.label = np.arange(files), np.asarray(self._read_attribute("tissue_labels"), dtype=np.int64)
            self._names = self._read_names(files)
        except (OSError, RuntimeError, KeyError, TypeError, ValueError, OverflowError) as error:  # what h5py raises depends on the byte that is damaged
            raise DataError(path, f"is no readable HDF5 file ({error})", WRITE_AGAIN) from None

    def __len__(self) -> int:
        return len(self.label) * self.regions

    @property
    def names(self) -> Sequence[str] | None:
        """The samples' names; None where the file has none."""
        return None if self._names is None else [self._names[number] for number in self._numbers.tolist()]

    @property
    def paths(self) -> Sequence[Path]:
        """The file of each sample: one for all."""
        return [self.path] * len(self.label)

    def select(self, kept: Array) -> Self:
        """The samples of int64 [m] numbers as a source of their own."""
        selected = copy.copy(self)
        selected._numbers, selected.label = self._numbers[kept], self.label[kept]
        return selected

    def find_labels(self, rows: Array) -> Array:
        return np.asarray(self.label[rows // self.regions])

    def find_groups(self, rows: Array) -> Array | None:
        return rows // self.regions

    def take(self, rows: Array) -> Reads:
        def read(place: int, regions: Array) -> tuple[Array, Array]:
            number = int(self._numbers[place])
            once, order = np.unique(regions, return_inverse=True)  # h5py takes rising numbers only
            try:
                tokens, states = (data[number, once][order] for data in (self._tokens, self._states))
            except (OSError, RuntimeError, ValueError) as error:
                raise DataError(self.path, f"sample {number} cannot be read ({error})", WRITE_AGAIN) from None
            check_reads(tokens, states, f"{self.path}, sample {number}", regions)
            return tokens.astype(np.uint8), states.astype(np.uint8)

        return _gather(rows, self.regions, self.label, read)

    def _find(self, name: str) -> Any:
        link, data = self._file.get(name, getlink=True), self._file.get(name)
        if outside := _find_outside(self._file, link, data):
            remedy = "Copy it into the file, e.g. with h5py: new[name] = old[name][...]"
            raise DataError(self.path, f"{name} is {outside}: its content lies outside the file, whose hash does not cover it", remedy)
        if data is None or not hasattr(data, "shape"):
            raise DataError(self.path, f"has no data set {name!r}; it has {', '.join(self._file) or 'none'}", WRITE_AGAIN)
        if len(data.shape) != 3 or data.shape[2] != TOKENS or data.dtype.kind not in "iu":
            raise DataError(self.path, f"{name} holds {data.dtype} {list(data.shape)}, expected integers [files, regions, {TOKENS}]", WRITE_AGAIN)
        return data

    def _check_attributes(self, files: int) -> None:
        expected = {"n_regions_per_file": (self.regions, "the data have"), "seq_length": (TOKENS, "the data have")}
        for name, (value, whose) in {**expected, "n_tissues": (len(self.classes), "the contract has")}.items():
            found = self._read_attribute(name)
            if found.size != 1 or found.dtype.kind not in "iuf" or found.item() != value:
                raise DataError(self.path, f"attribute {name} is {_spell(found)}, {whose} {value}", WRITE_AGAIN)
        labels = self._read_attribute("tissue_labels")
        if self._states.shape != self._tokens.shape or labels.shape != (files,):
            shapes = f"dna_tokens {list(self._tokens.shape)}, methylation {list(self._states.shape)}, tissue_labels {list(labels.shape)}"
            raise DataError(self.path, f"its parts do not fit together: {shapes}", WRITE_AGAIN)
        if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < len(self.classes):
            raise DataError(self.path, f"tissue_labels are not whole numbers from 0 to {len(self.classes) - 1}", "Number the tissues in their order")

    def _read_attribute(self, name: str) -> Array:
        try:
            return np.asarray(self._file.attrs.get(name))  # None where there is none: an array of one object
        except (OSError, TypeError, ValueError) as error:
            raise DataError(self.path, f"attribute {name} cannot be read ({error})", WRITE_AGAIN) from None

    def _read_names(self, files: int) -> Sequence[str] | None:
        if "sample_names" not in self._file.attrs:
            return None
        found = self._read_attribute("sample_names")
        names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in found.ravel().tolist()]
        if found.shape != (files,) or not all(isinstance(name, str) and name for name in names):
            raise DataError(self.path, f"attribute sample_names is {_spell(found)}, not the names of {files} samples", WRITE_AGAIN)
        return names


def _find_outside(file: Any, link: Any, data: Any) -> str | None:
    """How a data set's content comes to lie outside its HDF5 file; None where it is inside, or no data set."""
    import h5py

    # a soft link may lead through a group that is linked from another file
    if isinstance(link, h5py.ExternalLink) or (data is not None and data.file.filename != file.filename):
        return "an external link"
    if isinstance(data, h5py.Dataset) and data.is_virtual:
        return "a virtual data set"
    return "raw external storage" if isinstance(data, h5py.Dataset) and data.external else None


def _spell(found: Array) -> str:
    return "missing" if found.ndim == 0 and found.item() is None else f"{found.tolist()!r:.60}"


def _gather(rows: Array, regions: int, label: Array, read: Callable[[int, Array], tuple[Array, Array]]) -> Reads:
    """Rows in any order from samples that are read one by one; row = sample x regions + region."""
    sample, region = np.divmod(rows, regions)
    tokens, states = (np.empty((len(rows), TOKENS), dtype=np.uint8) for _ in range(2))
    for number in np.unique(sample).tolist():
        place = np.flatnonzero(sample == number)
        tokens[place], states[place] = read(number, region[place])
    return Reads(tokens, states, label[sample], region)
