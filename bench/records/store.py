"""The append-only store: runs of records on disk, each record chained by hash to the one before it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import ValidationError

from assay.bench.case import Case, UsageError
from assay.bench.records.documents import describe_fault, write_durably
from assay.bench.records.record import Record
from assay.datasets.card import hash_files

MAX_SEQUENCE = 9999  # the number in a record's file name has four digits
MAX_RECORD_BYTES = 4 << 20  # records may come from strangers; a real one is some ten kilobytes


class RecordError(UsageError):
    """A record, or the chain of a run, that cannot be trusted."""


def read_record(path: Path) -> Record:
    """A record from disk, validated. Raises RecordError that names the file and the first fault."""
    return _parse_record(path, _read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size > MAX_RECORD_BYTES:
                raise RecordError(f"{path}: larger than {MAX_RECORD_BYTES} bytes; not a record of this suite")
            return stream.readall()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None


def _parse_record(path: Path, content: bytes) -> Record:
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {describe_fault(error)}; restore it from version control or delete it, and run the case again") from None


class Inspected(NamedTuple):
    """A file of a run, the record in it if there is a valid one, and what is wrong."""

    path: Path
    record: Record | None
    fault: str | None


def _find_fault(record: Record, path: Path, run: str, expected: int, previous: str | None) -> str | None:
    if record.run != run:
        return f"{path}: belongs to another run: it was copied here, or the folder was renamed"
    if record.sequence != expected:
        return f"{path}: is number {record.sequence} of its run but stands at {expected}: a record is missing or was renamed"
    if record.file_name != path.name:
        return f"{path}: holds the record {record.file_name}: it was renamed"
    if record.previous_sha256 != previous:
        return f"{path}: does not follow from the record before it: that one was changed, removed or replaced after it was written"
    return None


class RunStore:
    """The records of one run: a folder, appended to by whichever process has a record to add."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, parent: Path, name: str) -> Self:
        """A fresh run folder. Raises UsageError where it cannot be written."""
        folder = parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UsageError(f"results folder {folder} cannot be written: {error.strerror}; choose another with --out DIR or free it") from None
        return cls(folder)

    def paths(self) -> list[Path]:
        """Record files in the order they were written."""
        return sorted(self.folder.glob("[0-9][0-9][0-9][0-9]-*.json"))

    def find(self, case: Case) -> list[Path]:
        """Record files of one case in the order they were written."""
        slug = case.id.replace("/", ".")
        return [path for path in self.paths() if path.name[5:] == f"{slug}.json"]

    def read(self) -> list[Record]:
        """Every record, validated."""
        return [read_record(path) for path in self.paths()]

    def append(self, draft: Record) -> Path:
        """Chains a record to the last one and writes it whole or not at all. The draft's run, sequence and previous hash are replaced."""
        with self._locked():
            paths = self.paths()
            sequence = int(paths[-1].name[:4]) + 1 if paths else 0
            if sequence > MAX_SEQUENCE:
                raise UsageError(f"run {self.folder} is full with {sequence} records; start another with --name NAME")
            previous = hash_files(paths[-1:]) if paths else None
            chained = {"run": self.folder.absolute().name, "sequence": sequence, "previous_sha256": previous}
            record = Record.model_validate(draft.model_dump() | chained)
            final = self.folder / record.file_name
            _write_record(final, record.model_dump_json(indent=1, exclude_none=False).encode() + b"\n")
            return final

    def inspect(self) -> Iterator[Inspected]:
        """Every record in order, each file read once: the record, or what is wrong with it or with its place in the chain."""
        name = self.folder.absolute().name
        previous: str | None = None
        for expected, path in enumerate(self.paths()):
            record: Record | None = None
            content: bytes | None = None
            try:
                content = _read_bytes(path)
                record = _parse_record(path, content)
                fault = _find_fault(record, path, name, expected, previous)
            except RecordError as error:
                fault = str(error)
            previous = None if content is None else hashlib.sha256(content).hexdigest()
            yield Inspected(path, record, fault)

    def verify_chain(self) -> list[str]:
        """What is wrong with the run's records, one line each; empty when every record is as it was written."""
        return [inspected.fault for inspected in self.inspect() if inspected.fault]

    def head(self) -> str | None:
        """sha256 of the last record: printed in the leaderboard, so that a later edit of the whole chain shows too."""
        paths = self.paths()
        return hash_files(paths[-1:]) if paths else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            with suppress(OSError):  # a file system without locks: whoever runs there was told
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_runs(results: Path) -> list[Record]:
    """Every record of every run below results/runs, oldest run first."""
    return [record for folder in sorted((results / "runs").glob("*")) if folder.is_dir() for record in RunStore(folder).read()]


def _write_record(final: Path, content: bytes) -> None:
    try:
        write_durably(final, content)
    except OSError as error:
        raise UsageError(f"record {final} cannot be written: {error.strerror}; free space or choose another folder with --out DIR") from None
