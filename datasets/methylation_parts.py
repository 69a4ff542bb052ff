"""The user's own methylation samples in two parts, train and test, in either format; no sample is in both.

A folder holds train.h5 and test.h5, or train.csv and test.csv with the NPZ files that they list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity, MissingData, hash_files
from assay.datasets.methylation import TISSUES
from assay.datasets.methylation_files import Hdf5Reads, NpzReads
from assay.datasets.methylation_lists import check_agreement, read_list

NAMELESS = "the HDF5 files do not name their samples (attribute sample_names): whether a sample is in both parts, nobody can say"

FileReads = NpzReads | Hdf5Reads


@dataclass(frozen=True, slots=True)
class FileParts:
    """Both parts, and how many training samples were left out because they are also tested, by reason."""

    train: FileReads
    test: FileReads
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def identify_parts(folder: Path) -> DatasetIdentity:
    """Identity of the user's files by their bytes. Raises MissingData where they are not there."""
    found: list[Path] = []
    for part in ("train", "test"):
        if (folder / f"{part}.h5").is_file():
            found.append(folder / f"{part}.h5")
        else:
            found += [folder / f"{part}.csv", *read_list(folder / f"{part}.csv").paths]
    for path in found:
        if not path.is_file():
            raise MissingData(path, "not found", "Give its folder with --data, or correct the list that names it")
    return DatasetIdentity("tissuebert-files", hash_files(found), synthetic=False)


def open_parts(folder: Path) -> FileParts:
    """The user's samples. Training samples whose file or name is in the test part are left out and counted; the test part stays whole.

    Source: document 002, in whose own split 14 samples are in more than one part. Raises MissingData, and DataError for files that break
    the contract or contradict each other.
    """
    train, test = (_open_part(folder, part) for part in ("train", "test"))
    if train.regions != test.regions:
        raise DataError(folder, f"the train samples have {train.regions:,} regions, the test samples {test.regions:,}", "Give files of the same regions")
    if isinstance(train, NpzReads) and isinstance(test, NpzReads):
        check_agreement([*train.traits, *test.traits], len(TISSUES))
    tested = {path.resolve() for path in test.paths}
    same_file = np.array([path.resolve() in tested for path in train.paths])
    nameless = train.names is None or test.names is None
    names = set(test.names or ())
    same_name = np.array([name in names for name in train.names or [""] * len(same_file)]) & ~same_file
    kept = np.flatnonzero(~same_file & ~same_name)
    if not len(kept):
        raise DataError(folder, "every training sample is also a test sample", "Give the parts samples of their own")
    dropped = {"training samples whose file is in test": int(same_file.sum()), "training samples whose name is in test": int(same_name.sum())}
    return FileParts(train if len(kept) == len(same_file) else train.select(kept), test, dropped, (NAMELESS,) if nameless else ())


def _open_part(folder: Path, part: str) -> FileReads:
    if (folder / f"{part}.h5").is_file():
        return Hdf5Reads(folder / f"{part}.h5", TISSUES)
    return NpzReads(read_list(folder / f"{part}.csv"), TISSUES)
