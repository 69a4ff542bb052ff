"""One file with all records of a run so far, that a machine may be taken away at any moment, and its way into another machine's results.

The archive is a gzipped tar of `RUN/NNNN-CASE.json`, `RUN/logs/CASE.log` and `RUN/documents/NAME` for one run or several. It is data: nothing in
it is executed.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from assay.bench.case import UsageError
from assay.bench.records.documents import write_durably
from assay.bench.records.store import MAX_RECORD_BYTES, RunStore
from assay.bench.running.neighbours import own_run

SUFFIX = ".tar.gz"
DOCUMENTS = "documents"
"""Folder of a run for what was said and measured beside its cases, e.g. by benchmarks/gpu_session.py."""
MAX_BYTES = 16_000_000  # of an archive: what is carried off a machine at short notice is often limited
MAX_UNPACKED = 512 << 20  # bytes, read from an archive; 10,000 records of 30 kB are 300 MB
_RUN = re.compile(r"\w[\w.-]*", re.ASCII)
_MEMBER = re.compile(rf"{_RUN.pattern}/(\d{{4}}-[\w.-]+\.json|logs/\w[\w.-]*\.log|{DOCUMENTS}/\w[\w.-]*\.(json|txt|xml))", re.ASCII)
_ANEW = "copy it once more from the machine that wrote it"


def write_archive(file: Path, folders: Sequence[Path]) -> str | None:
    """Replaces the archive by one of all records, logs and documents of these run folders; whoever interrupts this leaves it as it was.

    Beyond MAX_BYTES logs are cut to their ends, the largest first, which their first line then says; records never. Returns what a user
    should be told, if anything. Raises UsageError where the file cannot be written.
    """
    largest = max((path.stat().st_size for folder in folders for path in folder.glob("logs/*.log")), default=0)
    keep = whole = min(largest, MAX_BYTES)
    while len(content := _pack(folders, keep)) > MAX_BYTES and keep:
        keep //= 2
    try:
        write_durably(file, content)
    except OSError as error:
        raise UsageError(f"--archive {file}: cannot be written: {error.strerror}; free space or choose another file") from None
    if len(content) > MAX_BYTES:
        return f"{file} has {len(content) / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:g} MB: its records alone take that, and none is left out"
    return f"{file}: logs are cut to their last {keep:,} bytes" if keep < whole else None


def _pack(folders: Iterable[Path], keep: int) -> bytes:
    """keep: bytes of each log, from its end."""
    buffer = io.BytesIO()
    # without a time of its own: the same records give the same bytes
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for folder in folders:
            for path in RunStore(folder).paths():
                _add(archive, f"{folder.name}/{path.name}", path.read_bytes())
            for path in sorted(folder.glob("logs/*.log")):
                _add(archive, f"{folder.name}/logs/{path.name}", _read_end(path, keep))
            for path in sorted(folder.glob(f"{DOCUMENTS}/*")):
                if path.is_file() and _MEMBER.fullmatch(name := f"{folder.name}/{DOCUMENTS}/{path.name}"):  # an import refuses all else, e.g. an editor's copy
                    _add(archive, name, path.read_bytes())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _read_end(path: Path, keep: int) -> bytes:
    with path.open("rb") as stream:
        cut = max(os.fstat(stream.fileno()).st_size - keep, 0)
        stream.seek(cut)
        return (f"[cut: {cut:,} bytes before this are left out]\n".encode() if cut else b"") + stream.read(keep)


@dataclass(frozen=True, slots=True)
class TakenIn:
    """What an archive brought for one run."""

    run: str
    new: int  # records
    known: int  # records that were there already
    documents: int = 0  # that were not there


def check_archive(file: Path, results: Path, runs: Iterable[str]) -> None:
    """Before a run writes there. Raises UsageError for names that an import would not know, and for a file with records that are not in this
    results folder: replacing it would lose them."""
    for run in runs:
        if not _RUN.fullmatch(run):
            raise UsageError(f"--name {run!a}: a run with --archive has a name of ASCII letters, digits, _, - and . alone; choose such a --name")
    if not file.name.endswith(SUFFIX):
        raise UsageError(f"--archive {file}: name it NAME{SUFFIX}, by which `python -m bench import` knows it")
    if not file.parent.is_dir():
        raise UsageError(f"--archive {file}: there is no folder {file.parent}; make it, or choose another file")
    if not file.exists():
        return
    with TemporaryDirectory(prefix="assay-") as stage:
        for comparison in _examine(file, results, Path(stage)):
            if comparison.new:
                remedy = f"take them in with `python -m bench import {file} --results {results}`, or choose another file"
                raise UsageError(f"--archive {file}: holds records of run {comparison.folder.name} that are not in {results}; {remedy}")


def take_in(file: Path, results: Path) -> list[TakenIn]:
    """Writes the archive's runs to results/runs, each whole or not at all: a new run at once; to one that the archive goes on with, what it
    lacks, record by record, so that its chain holds at every moment. Nothing is written before every run was found in order.

    Raises UsageError for what is no archive of ours, a broken chain, and a run of the same name with other records.
    """
    with ExitStack() as held:
        stage = Path(held.enter_context(TemporaryDirectory(prefix=".import-", dir=results)))
        found = _examine(file, results, stage)
        for comparison in found:
            if comparison.new and comparison.target.is_dir():
                held.enter_context(own_run(comparison.target))
        try:
            for comparison in found:
                _write(comparison)
        except OSError as error:
            raise UsageError(f"{results / 'runs'} cannot be written: {error.strerror}; free it or choose another folder with --results DIR") from None
    return [TakenIn(comparison.target.name, len(comparison.new), comparison.known, comparison.documents) for comparison in found]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A run of an archive, unpacked in `folder`, and what the results folder has of it."""

    folder: Path
    target: Path
    new: Sequence[Path]  # record files that the results lack
    known: int
    documents: int  # that the results lack


def _examine(file: Path, results: Path, stage: Path) -> list[_Comparison]:
    _unpack(file, stage)
    folders = sorted(stage.iterdir())
    if not folders:
        raise UsageError(f"{file}: holds no record; a run writes them there with --archive")
    return [_compare(file, folder, results / "runs" / folder.name) for folder in folders]


def _compare(file: Path, folder: Path, target: Path) -> _Comparison:
    theirs = RunStore(folder).paths()
    if faults := RunStore(folder).verify_chain():
        raise UsageError(f"{file}: {faults[0].replace(f'{folder.parent}{os.sep}', '')}; nothing was taken in; {_ANEW}")
    ours = RunStore(target).paths()
    for mine, other in zip(ours, theirs, strict=False):
        if mine.name != other.name or mine.read_bytes() != other.read_bytes():
            raise UsageError(f"{file}: run {folder.name} is in {target.parent} with other records, from {mine.name} on; choose another --results DIR")
    documents = sum(not (target / DOCUMENTS / path.name).exists() for path in folder.glob(f"{DOCUMENTS}/*"))
    return _Comparison(folder, target, theirs[len(ours) :], min(len(ours), len(theirs)), documents)


def _write(comparison: _Comparison) -> None:
    target = comparison.target
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        comparison.folder.rename(target)
        return
    newer = {f"{path.name[5:-5]}.log" for path in comparison.new}
    for path in [*comparison.folder.glob("logs/*"), *comparison.folder.glob(f"{DOCUMENTS}/*")]:
        place = target / path.relative_to(comparison.folder)
        if path.name in newer or not place.exists():
            place.parent.mkdir(exist_ok=True)
            path.rename(place)
    for path in comparison.new:
        path.rename(target / path.name)


class _Bounded:
    """A stream that gives at most so many bytes: a small archive may unpack to any size."""

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream, self._left = stream, limit

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise UsageError(f"unpacks to more than {MAX_UNPACKED >> 20} MiB; not an archive of this suite")
        return content


def _unpack(file: Path, stage: Path) -> None:
    """Raises UsageError that names the file and its first fault."""
    try:
        with gzip.open(file) as unzipped:
            stream = _Bounded(unzipped, MAX_UNPACKED)  # type: ignore[arg-type]  # of IO[bytes], gzip's own file lacks what nobody calls
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
                for member in archive:
                    _unpack_member(archive, member, stage)
            while stream.read(1 << 20):  # to the end, where the checksum is
                pass
    except UsageError as fault:
        raise UsageError(f"{file}: {fault}") from None
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}; {_ANEW}") from None
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise UsageError(f"{file}: cut off, or no archive of this suite: {error}; {_ANEW}") from None


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, stage: Path) -> None:
    shown = ascii(member.name)[:200]
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise UsageError(f"member {shown} is a link, a folder or another thing than a file; not an archive of this suite")
    if not (named := _MEMBER.fullmatch(member.name)):
        raise UsageError(f"member {shown} is neither RUN/NNNN-CASE.json nor RUN/logs/CASE.log nor a document; not an archive of this suite")
    record = "/" not in named[1]
    limit = MAX_RECORD_BYTES if record else MAX_BYTES + 100  # a log that was cut has a line more
    if not 0 <= member.size <= limit:
        raise UsageError(f"member {shown} has {member.size:,} bytes, more than {limit:,}; not an archive of this suite")
    path = stage / member.name
    if path.exists():
        raise UsageError(f"member {shown} is there twice; not an archive of this suite")
    stream = archive.extractfile(member)
    assert stream is not None  # noqa: S101  # of a regular file there is one
    content = stream.read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise UsageError(f"member {shown} cannot be unpacked to {stage.parent}: {error.strerror}; free space there, and nothing was taken in") from None
