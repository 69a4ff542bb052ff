"""pytest-benchmark's JSON: our records written as it writes them, and its files read as rows that nobody verified."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from assay.bench.case import Outcome, Quantity, UsageError
from assay.bench.exchange.benchmark_action import name_series
from assay.bench.exchange.imports import MAX_BYTES, MAX_ROWS, Imported, ImportedRow, Moment, Text
from assay.bench.records.documents import read_document
from assay.bench.records.record import Record
from assay.datasets.card import hash_files

_STATISTICS = (
    *("min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3"),
    *("iqr_outliers", "stddev_outliers", "outliers", "ld15iqr", "hd15iqr", "ops", "total"),
)
_AGREE = 1e-6  # relative; its statistics are computed from the very data


def write_pytest_json(records: Sequence[Record], path: Path) -> tuple[int, int]:
    """Writes what `pytest-benchmark compare` reads: seconds per step of every record that was timed in order on real hardware.

    Statistics are pytest-benchmark's own, over the rounds. A record that keeps no rounds gives one datum, its median, and says so in
    `extra_info`. Returns the numbers of entries and of those.
    """
    timed = [record for record in records if record.outcome is Outcome.OK and not record.emulated and _find_steps(record)]
    if not timed:
        raise UsageError("no record to export was timed in order; `python -m bench run` makes some")
    newest = max(timed, key=lambda record: (record.ended, record.run, record.sequence))
    environment, machine = newest.environment, newest.machine
    content = {
        "machine_info": machine.model_dump(mode="json") if machine else {},
        "commit_info": {"id": environment.git_sha if environment else None, "dirty": bool(environment and environment.git_dirty_sha256)},
        "benchmarks": [_enter(record) for record in timed],
        "datetime": newest.ended.isoformat(),
        "version": version("pytest-benchmark"),
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return len(timed), sum("step_s" not in record.curves for record in timed)


def _find_steps(record: Record) -> Sequence[float]:
    """Seconds per step, one per round, or their median alone; nothing for a case without timing."""
    median = record.measurements.get("step_ms")
    if median is None or median.value is None:
        return ()
    return record.curves.get("step_s") or (median.value / 1e3,)


def _enter(record: Record) -> dict[str, object]:
    from pytest_benchmark.stats import Stats

    stats = Stats()  # type: ignore[no-untyped-call]
    steps = _find_steps(record)
    for seconds in steps:
        stats.update(seconds)  # type: ignore[no-untyped-call]
    extra: dict[str, object] = {"record": f"{record.run}/{record.sequence}", "comparability": record.comparability.key if record.comparability else None}
    if "step_s" not in record.curves:
        extra["note"] = f"one datum: the median of {record.measurements['step_ms'].n} rounds, which this record does not keep"
    series = name_series(record)
    return {
        "group": record.case.workload,
        "name": series,
        "fullname": series,
        "params": None,
        "param": None,
        "extra_info": extra,
        "options": {"disable_gc": False, "timer": "perf_counter", "min_rounds": stats.rounds, "max_time": 0, "min_time": 0, "warmup": True},
        "stats": {name: getattr(stats, name) for name in _STATISTICS} | {"iterations": 1, "data": list(steps)},
    }


class _Lenient(BaseModel):
    """Of a stranger's file: what we read must be right, what we do not read may be anything."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Stats(_Lenient):
    median: float = Field(gt=0)
    rounds: int = Field(ge=1)
    data: tuple[float, ...] = ()


class _Benchmark(_Lenient):
    fullname: Text = Field(min_length=1)
    group: Text | None = None
    stats: _Stats


class _Commit(_Lenient):
    id: Text | None = None
    dirty: bool = False


class _Cpu(_Lenient):
    brand_raw: Text | None = None


class _Machine(_Lenient):
    cpu: _Cpu | Text | None = None
    machine: Text | None = None
    system: Text | None = None


class _File(_Lenient):
    benchmarks: Annotated[tuple[_Benchmark, ...], Field(min_length=1, max_length=MAX_ROWS)]
    machine_info: _Machine = _Machine()
    commit_info: _Commit = _Commit()
    measured: Moment = Field(alias="datetime")
    version: Text


def read_pytest_json(path: Path) -> Imported:
    """The benchmarks of a file that `pytest --benchmark-json` wrote. Raises UsageError that names file, entry and remedy."""
    remedy = "give a file that `pytest --benchmark-json=FILE` wrote to its end"
    too_large = f"{MAX_BYTES >> 20} MiB; write it without --benchmark-save-data, or in parts"
    read = read_document(path, _File, limit=MAX_BYTES, too_large=too_large, remedy=remedy)
    rows = [ImportedRow(name=entry.fullname, group=entry.group, seconds=_take(path, entry)) for entry in read.benchmarks]
    machine = read.machine_info
    cpu = machine.cpu.brand_raw if isinstance(machine.cpu, _Cpu) else machine.cpu
    commit = None if read.commit_info.id is None else read.commit_info.id[:40] + (" and changes" if read.commit_info.dirty else "")
    return Imported(
        source=path.name[:1000],
        source_sha256=hash_files([path]),
        tool=f"pytest-benchmark {read.version}"[:1000],
        measured=read.measured,
        machine=cpu or machine.machine or machine.system or "not given",
        commit=commit,
        rows=tuple(sorted(rows, key=lambda row: row.name)),
    )


def _take(path: Path, entry: _Benchmark) -> Quantity:
    from assay.bench.measure.clock import median_interval

    stats = entry.stats
    if not stats.data:
        return Quantity(stats.median, "s", stats.rounds, how="median as the file gives it; the file keeps no rounds, hence no interval")
    if not math.isclose(statistics.median(stats.data), stats.median, rel_tol=_AGREE) or len(stats.data) != stats.rounds:
        raise UsageError(f"{path}: {entry.fullname!a}: its median or number of rounds is not that of its own data; the file was changed, write it again")
    interval = median_interval(stats.data)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Quantity(stats.median, "s", stats.rounds, low, high, how="median of the rounds in the file")
