"""Ranks with ties: a row is behind another one only where their intervals do not overlap."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assay.bench.case import Outcome
from assay.bench.records.comparability import is_older
from assay.bench.records.index import name_line
from assay.bench.records.record import Record

if TYPE_CHECKING:
    from assay.models.workload import Target


PROBLEM = ("split", "targets", "classes", "n_test")
"""Conditions that say what a model was tested on, beyond the data set: an error of 22 classes is not one of 39."""


def identify_problem(record: Record) -> tuple[str, ...]:
    """What the record says of each of PROBLEM; empty text for what it leaves out."""
    return tuple(str(record.conditions.get(name, "")) for name in PROBLEM)


def spell_problem(record: Record) -> str:
    """`split by-complex, n_test 113`: of PROBLEM what the record says anything of."""
    return ", ".join(f"{name} {value}" for name, value in zip(PROBLEM, identify_problem(record), strict=True) if value)


@dataclass(frozen=True, slots=True)
class Rank:
    """A place within rows of the same metric, data set, test problem, preset and phase. `key` orders the rows of one place, smaller first."""

    metric: str
    position: int
    tied: bool
    key: float

    def __str__(self) -> str:
        return f"{self.position}=" if self.tied else str(self.position)


def find_replaced(records: Iterable[Record]) -> set[tuple[str, int]]:
    """(run, sequence) of the records of older source beside which there is one of today's that ended in order: of the same case, device, line
    of software and data set, whatever the version of the data."""

    def describe(record: Record) -> tuple[object, ...]:
        key = record.comparability
        return (record.case, record.profile, record.emulated, name_line(record), key and (key.device, key.device_memory_gib, key.dataset))

    identified = [record for record in records if record.comparability]
    today = {describe(record) for record in identified if record.outcome is Outcome.OK and not is_older(record)}
    return {(record.run, record.sequence) for record in identified if is_older(record) and describe(record) in today}


def rank_by_quality(records: Sequence[Record], targets: Mapping[str, Target]) -> dict[int, Rank]:
    """Index of a record -> its rank, for every record that ended in order, on real hardware, with the metric that ranks its workload, and
    was not replaced by one of newer source, on whatever machine that ran.

    A position is one more than the number of rows whose whole interval is better; equal positions are ties. A value
    without an interval counts as an interval of no width.
    """
    groups: dict[tuple[object, ...], list[tuple[int, tuple[float, float, float]]]] = defaultdict(list)
    replaced = find_replaced(records)
    for index, record in enumerate(records):
        target = targets.get(record.case.workload)
        interval = _cost(record, target) if target else None
        if target and interval and record.dataset and record.outcome is Outcome.OK and not record.emulated and (record.run, record.sequence) not in replaced:
            data = (record.dataset.name, record.dataset.sha256, identify_problem(record))
            groups[target.metric, target.higher_is_better, data, record.case.preset, record.case.phase].append((index, interval))
    for rows in groups.values():
        today = {records[index].case for index, _ in rows if not is_older(records[index])}
        rows[:] = [row for row in rows if records[row[0]].case not in today or not is_older(records[row[0]])]
    return {index: rank for group, rows in groups.items() for index, rank in _rank_group(str(group[0]), rows).items()}


def _cost(record: Record, target: Target) -> tuple[float, float, float] | None:
    """(best, value, worst) with the sign turned so that lower is always better."""
    quantity = record.quality.get(target.metric)
    if quantity is None or quantity.value is None:
        return None
    low = quantity.value if quantity.low is None else quantity.low
    high = quantity.value if quantity.high is None else quantity.high
    return (-high, -quantity.value, -low) if target.higher_is_better else (low, quantity.value, high)


def _rank_group(metric: str, rows: Sequence[tuple[int, tuple[float, float, float]]]) -> dict[int, Rank]:
    worst_ends = sorted(worst for _, (_, _, worst) in rows)
    positions = {index: 1 + bisect_left(worst_ends, best) for index, (best, _, _) in rows}
    taken = Counter(positions.values())
    return {index: Rank(metric, positions[index], taken[positions[index]] > 1, value) for index, (_, value, _) in rows}
