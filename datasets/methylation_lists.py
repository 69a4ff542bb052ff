"""Which NPZ samples a part has, and what each says of itself: name, tissue and regions (document 002, data contract).

A sample states its tissue twice: as tissue_index (0 to 21) in the list that names it and as the one-hot tissue_label [119] in its file.
Which of the 119 classes belongs to which of the 22 tissues is documented nowhere, and a tissue may have several. What must hold in any
case is checked: a class is of one tissue only. Where the file has as many classes as there are tissues, the class is the tissue_index.
"""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.datasets.card import DataError, MissingData
from assay.datasets.text import open_text

Array = np.ndarray

WRITE_AGAIN = "Write or download the file again"


@dataclass(frozen=True, slots=True)
class SampleList:
    """The files of one split and the tissue of each."""

    paths: tuple[Path, ...]
    label: Array  # int64 [files]

    def select(self, kept: Array) -> SampleList:
        """The samples of int64 [m] numbers."""
        return SampleList(tuple(self.paths[number] for number in kept.tolist()), self.label[kept])


def read_list(path: Path) -> SampleList:
    """A split's CSV: filename (relative to the CSV), tissue_index. Raises MissingData, and DataError naming the row."""
    if not path.is_file():
        raise MissingData(path, "not found", "Give its folder with --data: a CSV with the columns filename, tissue_index")
    with open_text(path, "Save the list as UTF-8") as stream:
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


@dataclass(frozen=True, slots=True)
class Traits:
    """What a sample's file says of it."""

    path: Path
    name: str
    tissue: int  # tissue_index of the list
    position: int  # of the 1 in tissue_label
    classes: int  # width of tissue_label
    regions: tuple[int, int]  # CRC-32 and bytes of region_ids, as the archive's directory has them


def read_traits(samples: SampleList) -> list[Traits]:
    """The traits of every listed sample, without reading its reads. Raises MissingData, and DataError for a file that is not as the contract says."""
    return [_read_traits(path, tissue) for path, tissue in zip(samples.paths, samples.label.tolist(), strict=True)]


def _read_traits(path: Path, tissue: int) -> Traits:
    name, one_hot = str(read_member(path, "sample_name")).strip(), read_member(path, "tissue_label")
    if not name:
        raise DataError(path, "has an empty sample_name: nobody can say whether the sample is in another part too", WRITE_AGAIN)
    if one_hot.ndim != 1 or one_hot.dtype.kind not in "biuf" or sorted(set(one_hot.tolist())) != [0, 1] or one_hot.sum() != 1:
        raise DataError(path, f"tissue_label {list(one_hot.shape)} is not one-hot: a single 1 among zeros", WRITE_AGAIN)
    with zipfile.ZipFile(path) as archive:
        try:
            regions = archive.getinfo("region_ids.npy")
        except KeyError:
            raise DataError(path, "has no array 'region_ids', so that nobody can say whether its regions are those of the others", WRITE_AGAIN) from None
    return Traits(path, name, tissue, int(one_hot.argmax()), len(one_hot), (regions.CRC, regions.file_size))


def read_member(path: Path, name: str) -> Any:
    """One small array of an NPZ file. Raises MissingData, and DataError for a file or array that cannot be read."""
    if not path.is_file():
        raise MissingData(path, "not found", "Give its folder with --data, or correct the list that names it")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[name]
    except KeyError:
        raise DataError(path, f"has no array {name!r}", WRITE_AGAIN) from None
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, RuntimeError) as error:
        raise DataError(path, f"{name} cannot be read ({error})", WRITE_AGAIN) from None


def check_agreement(samples: Sequence[Traits], tissues: int) -> None:
    """Raises DataError for the first sample whose tissue or regions contradict the list or an earlier sample. tissues: how many there are."""
    first, by_position = samples[0], dict[int, Traits]()
    for sample in samples:
        if sample.classes != first.classes:
            raise DataError(sample.path, f"tissue_label has {sample.classes} classes, that of {first.path.name} {first.classes}", "Give files of one numbering")
        if sample.classes == tissues and sample.position != sample.tissue:
            raise _contradict(sample, f"the list says tissue_index {sample.tissue}")
        other = by_position.setdefault(sample.position, sample)
        if other.tissue != sample.tissue:
            raise _contradict(sample, f"so has {other.path.name}, but one is of tissue_index {sample.tissue}, the other of {other.tissue}")
        _check_regions(sample, first)


def _contradict(sample: Traits, other: str) -> DataError:
    return DataError(sample.path, f"tissue_label has its 1 at {sample.position}; {other}", "Correct tissue_index in the list, or the file")


def _check_regions(sample: Traits, first: Traits) -> None:
    if sample.regions == first.regions:  # the same bytes; other bytes may be the same names, in wider fields
        return
    ours, theirs = read_member(sample.path, "region_ids"), read_member(first.path, "region_ids")
    if ours.shape != theirs.shape:
        problem = f"region_ids has the shape {list(ours.shape)}, in {first.path.name} {list(theirs.shape)}"
        raise DataError(sample.path, problem, "Give files of the same regions")
    if (ours != theirs).any():
        place = int(np.argmax(ours != theirs))
        raise DataError(sample.path, f"region {place} is {ours[place]}, in {first.path.name} {theirs[place]}", "Give files of the same regions in one order")
