"""One row per record, every figure with its interval, for spreadsheets and data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from assay.bench.case import Quantity
from assay.bench.claims.conditions import name_device
from assay.bench.records.record import Record

TEXT_LENGTH = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the start of a formula

Cell = str | float | int | bool | None


def tabulate(records: Sequence[Record]) -> pd.DataFrame:
    """Columns: what the record is about, then `measurement.NAME.value`, `.low`, `.high`, `.unit`, `.n` and `.reason`, the same for `quality`,
    then `fact.NAME`, names in alphabetical order."""
    rows = [_describe(record) | _spread(record) for record in records]
    fixed = list(_describe(records[0])) if records else []
    names = sorted({name for row in rows for name in row} - {*fixed})
    return pd.DataFrame(rows, columns=[*fixed, *names])


def write_csv(records: Sequence[Record], path: Path) -> None:
    """UTF-8 with a header. Text that a spreadsheet would run as a formula starts with an apostrophe."""
    table = tabulate(records)
    for column in table.select_dtypes(include=["object", "str"]):
        table[column] = [_disarm(value) if isinstance(value, str) else value for value in table[column]]
    table.rename(columns=_disarm).to_csv(path, index=False, lineterminator="\n")


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """The same table, typed."""
    tabulate(records).to_parquet(path, index=False)


def _disarm(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _describe(record: Record) -> dict[str, Cell]:
    case, machine, environment, data, key = record.case, record.machine, record.environment, record.dataset, record.comparability
    return {
        "run": record.run,
        "sequence": record.sequence,
        "case": case.case.id,
        "workload": case.workload,
        "variant": case.variant,
        "phase": str(case.phase),
        "preset": str(case.preset),
        "division": str(case.division),
        "precision": str(case.precision),
        "outcome": str(record.outcome),
        "reason": record.reason and record.reason[:TEXT_LENGTH],
        "started": record.started.isoformat(),
        "ended": record.ended.isoformat(),
        "profile": record.profile,
        "emulated": "; ".join(record.emulated),
        "device": name_device(record),
        "driver": machine.driver if machine else None,
        "dataset": data.name if data else None,
        "dataset_sha256": data.sha256 if data else None,
        "synthetic": data.synthetic if data else None,
        "batch": key.batch if key else None,
        "attention": _spell(record.conditions.get("attention")),
        "comparability": key.key if key else None,
        "torch": environment.torch if environment else None,
        "triton": environment.triton if environment else None,
        "image_digest": environment.image_digest if environment else None,
        "git_sha": environment.git_sha if environment else None,
        "weights_sha256": record.weights_sha256,
    }


def _spell(value: object) -> str | None:
    return None if value is None else str(value)


def _spread(record: Record) -> dict[str, Cell]:
    groups: Sequence[tuple[str, Mapping[str, Quantity]]] = (("measurement", record.measurements), ("quality", record.quality))
    cells: dict[str, Cell] = {
        f"{kind}.{name}.{field}": getattr(quantity, field)
        for kind, quantities in groups
        for name, quantity in quantities.items()
        for field in ("value", "low", "high", "unit", "n", "reason")
    }
    return cells | {f"fact.{name}": value for name, value in record.facts.items()}
