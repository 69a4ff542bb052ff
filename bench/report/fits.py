"""What fits where: the documents' table of models and GPUs beside what records say of the same pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.case import ClaimVerdict, Outcome, Preset
from bench.claims import Claims, Fit
from bench.conditions import matches_device, name_device
from bench.numbers import format_number
from bench.record import Record

_SIZED = re.compile(r"(.+)-(\d+)GB")
_NOMINAL_SHARE = 0.9  # a driver gives a little less than the memory that the name of a card promises
_RUNS = (Outcome.OK, Outcome.INVALID)  # an unfit machine makes a speed invalid, not the fact that a model fitted


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one GPU. `documented` is fast, slow, tight or oom; `found` says what ran, where, and with which peak."""

    gpu: str
    documented: str
    verdict: ClaimVerdict
    found: str
    record: Record | None


@dataclass(frozen=True, slots=True)
class FitRow:
    """One model of the documents' table."""

    model: str
    cells: Sequence[Cell]


def compare_fits(claims: Claims, records: Sequence[Record]) -> list[FitRow]:
    """The documents' table in its own order. Only whether a model runs is judged: the documents give no limit between fast and slow.

    A record counts for a card when it was taken on it, or under an emulation that names it; one from another GPU is quoted without a
    verdict. Runs on a CPU and smoke runs do not count: they say nothing of a GPU's memory, or ask less of it.
    """
    return [_compare_row(fit, [r for r in records if _speaks_of(fit, r)]) for fit in claims.fits]


def _speaks_of(fit: Fit, record: Record) -> bool:
    variant, _, context = (fit.variant or "").partition(", ")
    if record.case.workload != fit.workload or record.case.preset is Preset.SMOKE or not record.case.variant.startswith(variant):
        return False
    thousands = re.match(r"(\d+)K context", context)
    length = record.conditions.get("length_nt", 0)
    return thousands is None or (isinstance(length, int | float) and length >= 1000 * int(thousands[1]) - 1)


def _compare_row(fit: Fit, records: Sequence[Record]) -> FitRow:
    model = fit.workload + (f" ({fit.variant})" if fit.variant else "")
    return FitRow(model, [_compare_cell(gpu, documented, records) for gpu, documented in fit.gpus.items()])


def _compare_cell(gpu: str, documented: str, records: Sequence[Record]) -> Cell:
    judged = [r for r in records if r.outcome in _RUNS or r.outcome is Outcome.OOM]
    there = [r for r in judged if _ran_on(gpu, r) and not r.emulated]
    if there:
        latest = max(there, key=lambda r: (r.ended, r.run, r.sequence))
        agrees = (latest.outcome is Outcome.OOM) == (documented == "oom")
        verdict = ClaimVerdict.REPRODUCED if agrees else ClaimVerdict.CONTRADICTED
        return Cell(gpu, documented, verdict, _describe(latest), latest)
    for group, how in ((_emulations(gpu, judged), "emulated"), (_elsewhere(judged), "on another GPU")):
        if group:
            latest = max(group, key=lambda r: (r.ended, r.run, r.sequence))
            return Cell(gpu, documented, ClaimVerdict.NOT_COMPARABLE, f"{how}: {_describe(latest)}", latest)
    return Cell(gpu, documented, ClaimVerdict.NOT_RUN, "", None)


def _ran_on(gpu: str, record: Record) -> bool:
    sized = _SIZED.fullmatch(gpu)
    machine = record.machine
    if machine is None or machine.gpu is None or not matches_device(sized[1] if sized else gpu, machine.gpu):
        return False
    memory = (machine.gpu_memory_bytes or machine.memory_bytes) / 2**30  # an Apple GPU has no memory of its own
    return sized is None or _NOMINAL_SHARE <= memory / int(sized[2]) <= 1 / _NOMINAL_SHARE


def _emulations(gpu: str, records: Sequence[Record]) -> list[Record]:
    return [r for r in records if any(gpu.casefold() in what.casefold() for what in r.emulated)]


def _elsewhere(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if not r.emulated and r.machine is not None and r.machine.gpu is not None]


def _describe(record: Record) -> str:
    batch = record.conditions.get("batch", record.comparability.batch if record.comparability else None)
    at = f"{record.case.phase} of {record.case.variant}" + ("" if batch is None else f", batch {batch}") + f" on {name_device(record)}"
    if record.outcome is Outcome.OOM:
        return f"out of memory, {at}"
    peak = record.measurements.get("device_peak")
    return f"ran{f' in {format_number(peak.value / 1e9)} GB' if peak and peak.value is not None else ''}, {at}"
