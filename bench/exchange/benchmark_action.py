"""The custom format of github-action-benchmark: a JSON list of name, value, unit, range and extra.

Source: https://github.com/benchmark-action/github-action-benchmark, `customBiggerIsBetter` and `customSmallerIsBetter`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from assay.bench.case import Outcome, Quantity, UsageError
from assay.bench.claims.conditions import name_device
from assay.bench.records.index import name_line
from assay.bench.records.record import Record
from assay.bench.registry import load_workloads

BIGGER = frozenset({"samples_per_s", "mfu"})  # of the measurements; every other one is a time, a size or an energy


def write_action_json(records: Sequence[Record], metric: str, path: Path) -> tuple[int, str]:
    """Writes one entry for each record that ended in order on real hardware with this metric; returns their number and the action's `tool`.

    Raises UsageError for a metric of which it is not known whether more is better, or that no record has.
    """
    usable = [(record, found) for record in records if (found := _find(record, metric)) is not None]
    if not usable:
        raise UsageError(f"--metric {metric}: no record that ended in order has it; e.g. samples_per_s, step_ms or the metric that ranks a workload")
    tool = "customBiggerIsBetter" if _is_bigger_better([record for record, _ in usable], metric) else "customSmallerIsBetter"
    entries = [_enter(record, metric, quantity) for record, quantity in usable]
    path.write_text(json.dumps(entries, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return len(entries), tool


def name_series(record: Record) -> str:
    """What tells the record from others of the same case: case, device, data, batch and line of software. The same name continues the same line of a chart."""
    key = record.comparability
    line = name_line(record)
    parts = [record.case.case.id, name_device(record), record.dataset.name if record.dataset else "no data", f"batch {key.batch if key else None}"]
    return " | ".join([*parts, *([line] if line else [])])


def _find(record: Record, metric: str) -> Quantity | None:
    if record.outcome is not Outcome.OK or record.emulated:
        return None
    quantity = record.measurements.get(metric) or record.quality.get(metric)
    return quantity if quantity and quantity.value is not None else None


def _is_bigger_better(records: Sequence[Record], metric: str) -> bool:
    if all(metric in record.measurements for record in records):
        return metric in BIGGER
    declared = load_workloads()
    targets = {declared[record.case.workload].target for record in records if record.case.workload in declared}
    directions = {target.higher_is_better for target in targets if target.metric == metric}
    if len(directions) != 1:
        raise UsageError(f"--metric {metric}: it is not known whether more of it is better; choose a measurement or the metric that ranks the workload")
    return directions.pop()


def _enter(record: Record, metric: str, quantity: Quantity) -> dict[str, object]:
    entry: dict[str, object] = {"name": name_series(record), "unit": quantity.unit or metric, "value": quantity.value}
    if quantity.low is not None and quantity.high is not None:
        entry["range"] = f"{quantity.low:.6g} to {quantity.high:.6g}"
    return entry | {"extra": f"{metric}; 95 % interval; n = {quantity.n}; {quantity.how}; record {record.run}/{record.sequence}"}
