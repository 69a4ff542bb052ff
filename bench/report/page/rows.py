"""One record as the page shows it: a row of the table, and the details of its own view."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

from assay.bench.case import Quantity
from assay.bench.claims.conditions import name_device
from assay.bench.formatting.markdown import clean_text
from assay.bench.records.record import Record
from assay.bench.report.leaderboard import name_image
from assay.bench.report.links import locate_record
from assay.bench.report.page.payload import Json, round_quantity
from assay.bench.report.page.reproduction import write_commands
from assay.bench.report.ranking import Rank, spell_problem

if TYPE_CHECKING:
    from assay.models.workload import Target  # needs torch, and every command imports this module

GB = 1e9
MEASURED: Mapping[str, tuple[str, float]] = {  # column: measurement, divisor
    "speed": ("samples_per_s", 1),
    "wall": ("train_wall_s", 1),
    "best": ("time_to_best_s", 1),
    "allocated": ("allocated_peak", GB),
    "reserved": ("reserved_peak", GB),
    "device_memory": ("device_peak", GB),
    "rss": ("rss_peak", GB),
    "energy": ("energy_per_1000_samples", 1),
    "mfu": ("mfu", 0.01),
    "flops": ("flops_per_step", 1),
    "bytes": ("bytes_per_step", 1),
    "step_ms": ("step_ms", 1),
}
MAX_FIELDS, MAX_QUANTITIES = 150, 80  # of one record; a real one stays far below


@dataclass(frozen=True, slots=True)
class Row:
    """A record and what the other records and the declarations say of it."""

    record: Record
    family: str
    target: Target | None
    latest: bool  # of its case, device, data set, batch size and line of software
    rank: Rank | None
    synthetic: bool | None  # None where the data set is not known
    data: str  # as the leaderboard calls it
    documented: str = ""  # of the latest records: the document's value and what this one says of it
    moment: str = ""  # and when training reached it [s]
    older_source: bool = False  # made from other source than the page


def tell_columns(row: Row) -> dict[str, Json]:
    """Cells of the table by column: text, counts and flags as they are, a measured number as (value, low, high)."""
    record, case, key = row.record, row.record.case, row.record.comparability
    batch = record.conditions.get("batch", key.batch if key else None)
    attention = record.conditions.get("attention", key.attention if key else None)
    text = {
        "family": row.family,
        "workload": case.workload,
        "variant": case.variant,
        "data": row.data,
        "problem": spell_problem(record),
        "image": name_image(record),
        "documented": row.documented,
        "moment": row.moment,
        "device": name_device(record) if record.machine else "",
        "attention": "" if attention is None else str(attention),
        "run": record.run,
        "profile": record.profile,
        "emulated": "; ".join(record.emulated),
        "reason": record.reason or "",
        "metric": row.target.metric if row.target else "",
        "weights": str(record.conditions.get("weights", "")),
    }
    plain = {
        "phase": case.phase,
        "preset": case.preset,
        "division": case.division,
        "precision": case.precision,
        "outcome": record.outcome,
        "sequence": record.sequence,
        "batch": batch if isinstance(batch, int) else None,
        "synthetic": None if row.synthetic is None else int(row.synthetic),
        "latest": int(row.latest),
        "older_source": int(row.older_source),
        "gpu": int(record.machine is not None and record.machine.gpu is not None),
        "rank": str(row.rank) if row.rank else "",
        "position": row.rank.position if row.rank else None,
        "higher": int(row.target.higher_is_better) if row.target else None,
        "ended": int(record.ended.timestamp()),
    }
    quality = record.quality.get(row.target.metric) if row.target else None
    measured = {column: round_quantity(record.measurements.get(name), divisor) for column, (name, divisor) in MEASURED.items()}
    return {name: clean_text(value, 300) for name, value in text.items()} | plain | {"quality": round_quantity(quality)} | measured


QUANTITY_COLUMNS = ("quality", *MEASURED)


QuantityRow = tuple[tuple[str, ...], float | None, float | None, float | None]  # (kind, name, unit, how, reason, n), value, low, high


@dataclass(frozen=True, slots=True)
class Detail:
    """What the view of one record shows. Every part is a list of (label, text)."""

    parts: Mapping[str, Sequence[tuple[str, str]]]
    commands: Sequence[str]
    file: str
    quantities: Sequence[QuantityRow]


def tell_detail(row: Row) -> Detail:
    """The record's whole provenance, cleaned for display; curves aside."""
    record = row.record
    parts = {
        "run": [*_flatten({"case": record.case.case.id, "started": record.started.isoformat(), "ended": record.ended.isoformat()}), *_identify(record)],
        "data": _tell_model(record.dataset, "no data set was opened"),
        "conditions": list(_flatten(record.conditions)),
        "recipe": list(_flatten(record.recipe)),
        "facts": list(_flatten(record.facts)),
        "machine": _tell_model(record.machine, "the case ended before its machine was recorded"),
        "environment": _tell_model(record.environment, "the case ended before its environment was recorded"),
        "comparability": _tell_model(record.comparability, "the case ended before it knew what it would be compared by"),
    }
    quantities = [("measured", name, q) for name, q in record.measurements.items()] + [("quality", name, q) for name, q in record.quality.items()]
    rows = [_tell_quantity(kind, name, q) for kind, name, q in quantities[:MAX_QUANTITIES]]
    kept = {name: part[:MAX_FIELDS] for name, part in parts.items()}
    return Detail(kept, write_commands(record), locate_record(record) or "", rows)


def _identify(record: Record) -> Iterator[tuple[str, str]]:
    key = record.comparability
    yield from _flatten({
        "comparability key": key.key if key else None,
        "seeds": dict(record.seeds),
        "trained weights, sha256": record.weights_sha256,
        "fitness": list(record.fitness),
        "other runs on this machine meanwhile": list(record.beside),
        "emulated": list(record.emulated),
        "reason": record.reason,
    })


def _tell_quantity(kind: str, name: str, quantity: Quantity) -> QuantityRow:
    unit, divisor = ("GB", GB) if quantity.unit == "bytes" else (quantity.unit, 1)
    texts = (kind, name, unit, quantity.how, quantity.reason or "", f"{quantity.n:,}")
    return tuple(clean_text(text, 300) for text in texts), *round_quantity(quantity, divisor)


def _tell_model(model: BaseModel | None, absence: str) -> list[tuple[str, str]]:
    if model is None:
        return [("", absence)]
    fields = model.model_dump(mode="json")
    if "command" in fields:
        fields["command"] = shlex.join(fields["command"])
    reasons = fields.pop("unavailable", {})
    known = {name: value for name, value in fields.items() if name not in reasons}
    return [*_flatten(known), *((clean_text(name, 100), clean_text(f"not recorded: {why}", 300)) for name, why in reasons.items())]


def _flatten(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    """(`training.batch`, `64`) for every leaf that says something."""
    if isinstance(tree, Mapping):
        for name, branch in tree.items():
            yield from _flatten(branch, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list | tuple) and any(isinstance(leaf, str | Mapping | list) for leaf in tree):
        for leaf in tree:
            yield from _flatten(leaf, path)
    elif tree is not None and tree != []:
        yield clean_text(path, 100), clean_text(_spell_leaf(tree), 600)


def _spell_leaf(leaf: object) -> str:
    if isinstance(leaf, bool | str):
        return leaf if isinstance(leaf, str) else ("yes" if leaf else "no")
    if isinstance(leaf, float) and leaf.is_integer() and abs(leaf) < 1e15:
        leaf = int(leaf)
    return f"{leaf:,}" if isinstance(leaf, int) else json.dumps(leaf)
