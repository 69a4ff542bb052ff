"""The records that pages are made from, out of a store of any size: every file is checked once, and again only after it changed.

What lies in the index is which files of which runs need no second look, and nothing else: every value on a page is read from a record,
and validated, each time. A file counts as unchanged while its name, size, inode, time of modification and time of change (which no
program can set) are those of the check. An index that is damaged, of another version or not in step with the files is made anew.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

import assay.bench.case
import assay.bench.records.record
import assay.bench.records.store
from assay.bench.records.documents import write_whole
from assay.bench.records.record import Record
from assay.bench.records.store import RecordError, RunStore, read_record
from assay.datasets.card import hash_files

INDEX_FILE = ".index.json"  # beside runs/, never under version control
SETTLED_NS = 2_000_000_000  # a file younger than this could be changed again within the resolution of its clock
WORTH_PROCESSES = 4000  # files; below, starting processes costs more than they bring
_RECORD_NAME = re.compile(r"\d{4}-.*\.json")


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a store holds, as far as pages need it."""

    records: Sequence[Record]  # of records that say the same of the same, the latest; by run, in order
    heads: Mapping[str, str]  # run: sha256 of its last record
    faults: Mapping[str, Sequence[str]]  # run: what is wrong with its chain; runs in order are left out
    files: int
    read_again: int  # files that were checked now; the others have not changed since they were


class _Run(BaseModel):
    """A run that was found in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int
    stamp: str  # over the first `count` files
    kept: tuple[str, ...]  # names of the files that pages need


class _Index(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    version: str
    runs: dict[str, _Run] = {}


@dataclass(frozen=True, slots=True)
class _Listing:
    """The record files of a run as the folder lists them."""

    folder: Path
    names: Sequence[str]
    stamps: Sequence[str]
    youngest_ns: int

    def stamp(self, count: int) -> str:
        return hashlib.sha256("\n".join([str(count), *self.stamps[:count]]).encode()).hexdigest()


def read_ledger(results: Path, *, processes: int | None = None, keep_index: bool = True) -> Ledger:
    """Every run below results/runs, each file validated and each chain verified, now or since the file last changed.

    processes: None takes one for each core where the store is large. keep_index: False writes nothing. Raises RecordError for a file that is no record.
    """
    oldest_unsettled_ns = time.time_ns() - SETTLED_NS
    listings = {folder.name: _list_run(folder) for folder in sorted((results / "runs").glob("*")) if folder.is_dir()}
    index = _read_index(results / INDEX_FILE, listings)
    fresh = [listing for name, listing in listings.items() if len(listing.names) > (index.runs[name].count if name in index.runs else 0)]
    found = _check_runs([_Task(listing.folder, len(listing.names), listing.youngest_ns < oldest_unsettled_ns) for listing in fresh], processes)
    known = [listings[name].folder / file for name, run in index.runs.items() for file in run.kept]
    # what the index rests on must not depend on runs that it does not watch: those may change without its notice
    base = select_lasting(_read_all([*known, *found.settled]))
    watched = [listing for listing in fresh if listing.folder.name in found.watched]
    if watched and keep_index:
        _write_index(results / INDEX_FILE, _grow(index, watched, base))
    records = sorted(select_lasting([*base, *_read_all(found.unsettled)]), key=lambda record: (record.run, record.sequence))
    heads = {name: hash_files([listing.folder / listing.names[-1]]) for name, listing in listings.items() if listing.names}
    return Ledger(records, heads, found.faults, sum(len(listing.names) for listing in listings.values()), sum(len(listing.names) for listing in fresh))


def select_lasting(records: Iterable[Record]) -> list[Record]:
    """Of records that pages cannot tell apart but by age and values, the latest, in no particular order.

    Whatever board or claims say of all records they say of these: both take the latest of those that agree in the fields below.
    """
    latest: dict[tuple[object, ...], Record] = {}
    for record in records:
        key = _describe(record)
        other = latest.get(key)
        if other is None or age(other) < age(record):
            latest[key] = record
    return list(latest.values())


def age(record: Record) -> tuple[object, ...]:
    """Orders records: the latest is the one that counts."""
    return (record.ended, record.run, record.sequence)


def identify_row(record: Record) -> tuple[object, ...] | None:
    """What a row stands for; None for a record that ended before it knew.

    Versions of code and libraries, and the attention kernel that they choose, are not part of it, so that a newer run replaces an
    older one. Lines of software that are kept beside each other are.
    """
    key = record.comparability
    if key is None:
        return None
    return (key.dataset, key.dataset_sha256, key.device, key.device_memory_gib, key.mig, key.power_limit_w, key.batch, name_line(record))


def name_line(record: Record) -> str | None:
    """`Triton 2` for a run in the environment that is kept for what no newer Triton compiles; None for every other."""
    triton = record.environment.triton if record.environment else None
    return "Triton 2" if triton is not None and triton.startswith("2.") else None


def _describe(record: Record) -> tuple[object, ...]:
    data, machine, environment = record.dataset, record.machine, record.environment
    case = record.case
    return (
        (case.workload, case.variant, case.phase, case.preset, case.division, case.precision),
        (record.profile, record.emulated, record.outcome),
        identify_row(record),
        record.comparability and record.comparability.declaration_sha256,
        tuple(record.conditions.items()),
        data and (data.name, data.sha256, data.synthetic),
        machine and (machine.gpu, machine.gpu_memory_bytes, machine.cpu),
        environment and environment.triton,
        tuple(record.facts),
        tuple((name, quantity.value is None) for quantities in (record.quality, record.measurements) for name, quantity in quantities.items()),
    )


def _list_run(folder: Path) -> _Listing:
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.stat()) for entry in entries if _RECORD_NAME.fullmatch(entry.name))
    stamps = [f"{name} {stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}" for name, stat in found]
    return _Listing(folder, [name for name, _ in found], stamps, max((stat.st_ctime_ns for _, stat in found), default=0))


def _read_index(path: Path, listings: Mapping[str, _Listing]) -> _Index:
    """The index, or an empty one where a single run is not as it was: what that run replaced in others is then unknown too."""
    empty = _Index(version=_hash_version())
    try:
        index = _Index.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return empty
    if index.version != empty.version:
        return empty
    in_step = all(name in listings and listings[name].stamp(run.count) == run.stamp for name, run in index.runs.items())
    named = all({*run.kept} <= {*listings[name].names[: run.count]} for name, run in index.runs.items()) if in_step else False
    return index if named else empty


def _write_index(path: Path, index: _Index) -> None:
    with contextlib.suppress(OSError):  # a results folder that nobody may write to is read all the same, only more slowly
        write_whole(path, index.model_dump_json())


def _grow(index: _Index, watched: Iterable[_Listing], base: Iterable[Record]) -> _Index:
    kept: dict[str, list[str]] = defaultdict(list)
    for record in base:
        kept[record.run].append(record.file_name)
    known = {name: (run.count, run.stamp) for name, run in index.runs.items()}
    known |= {listing.folder.name: (len(listing.names), listing.stamp(len(listing.names))) for listing in watched}
    return _Index(version=index.version, runs={name: _Run(count=count, stamp=stamp, kept=tuple(sorted(kept[name]))) for name, (count, stamp) in known.items()})


def _hash_version() -> str:
    """Of the code that decides what is valid and what lasts."""
    digest = hashlib.sha256()
    for module in (__file__, assay.bench.records.record.__file__, assay.bench.records.store.__file__, assay.bench.case.__file__):
        digest.update(Path(str(module)).read_bytes())
    return digest.hexdigest()


def _read_all(paths: Iterable[Path]) -> list[Record]:
    return [read_record(path) for path in paths]


@dataclass(slots=True)
class _Found:
    """What checking some runs brought: files of lasting records, apart for runs in order that settled and for all others."""

    settled: list[Path] = field(default_factory=list)
    unsettled: list[Path] = field(default_factory=list)
    watched: set[str] = field(default_factory=set)  # names of the former
    faults: dict[str, Sequence[str]] = field(default_factory=dict)

    def add(self, other: _Found) -> None:
        self.settled += other.settled
        self.unsettled += other.unsettled
        self.watched |= other.watched
        self.faults |= other.faults


class _Task(NamedTuple):
    folder: Path
    files: int
    settled: bool


def _check_runs(tasks: Sequence[_Task], processes: int | None) -> _Found:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = processes or (cores if sum(task.files for task in tasks) >= WORTH_PROCESSES else 1)
    if processes == 1 or len(tasks) == 1:
        return _check_share(tasks)
    found = _Found()
    # spawned, not forked: torch may have threads in this process. Names come back, not records: reading a few again is cheaper.
    # Records hold no cycles, so that the collector would only cost a tenth of the time
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=gc.disable) as pool:
        for share in pool.map(_check_share, _share(tasks, processes)):
            found.add(share)
    return found


def _share(tasks: Sequence[_Task], count: int) -> list[list[_Task]]:
    """The tasks in `count` parts of about as many files each."""
    parts: list[list[_Task]] = [[] for _ in range(count)]
    for task in sorted(tasks, key=lambda task: -task.files):
        min(parts, key=lambda part: sum(other.files for other in part)).append(task)
    return parts


_Latest = dict[tuple[object, ...], tuple[tuple[object, ...], Path]]


def _check_share(tasks: Sequence[_Task]) -> _Found:
    """Raises RecordError for a file that is no record."""
    found = _Found()
    settled: _Latest = {}
    unsettled: _Latest = {}
    for task in tasks:
        latest, faults = _check_run(task.folder)
        if faults:
            found.faults[task.folder.name] = faults
        elif task.settled:
            found.watched.add(task.folder.name)
        group = settled if task.folder.name in found.watched else unsettled
        for key, entry in latest.items():
            if key not in group or group[key][0] < entry[0]:
                group[key] = entry
    found.settled = [path for _, path in settled.values()]
    found.unsettled = [path for _, path in unsettled.values()]
    return found


def _check_run(folder: Path) -> tuple[_Latest, list[str]]:
    latest: _Latest = {}
    faults: list[str] = []
    for inspected in RunStore(folder).inspect():
        if inspected.record is None:
            raise RecordError(inspected.fault or "")
        if inspected.fault:
            faults.append(inspected.fault)
        key, moment = _describe(inspected.record), age(inspected.record)
        if key not in latest or latest[key][0] < moment:
            latest[key] = (moment, inspected.path)
    return latest, faults
