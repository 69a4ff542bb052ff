"""What fits where: the documents' table of models and GPUs beside what records say of the same pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assay.bench.case import ClaimVerdict, Outcome, Phase, Preset
from assay.bench.claims.conditions import matches_device, name_device
from assay.bench.claims.documented import Claims, Fit
from assay.bench.formatting.numbers import format_number
from assay.bench.records.index import age
from assay.bench.records.record import Record
from assay.bench.report.leaderboard import select_latest

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

    Of every case, data set and batch the latest record counts. Training decides where there is any: a model that can be evaluated on a
    card but not trained does not fit it. One that trained fits, even if larger batches ran out of memory. A record counts for a card
    when it was taken on it, or under an emulation that names it; one from another GPU is quoted without a verdict. Runs on a CPU,
    emulated or not, and smoke runs do not count: they say nothing of a GPU's memory, or ask less of it.
    """
    judged = [r for r in records if (r.outcome in _RUNS or r.outcome is Outcome.OOM) and r.machine is not None and r.machine.gpu is not None]
    latest = select_latest(judged)
    return [_compare_row(fit, [r for r in latest if _speaks_of(fit, r)]) for fit in claims.fits]


def _speaks_of(fit: Fit, record: Record) -> bool:
    case = record.case
    if case.workload != fit.workload or case.preset is Preset.SMOKE or (fit.variants and case.variant not in fit.variants):
        return False
    if fit.context_nt is None:
        return True
    length = _find_length(record)
    if length is None:
        return False
    # what runs at a longer context runs at this one, and what does not run at a shorter one does not; a K is 1,000 or 1,024
    return length <= fit.context_nt * 1.024 if record.outcome is Outcome.OOM else length >= fit.context_nt - 1


def _find_length(record: Record) -> int | float | None:
    """Nucleotides of a sequence. A case that was killed before its data were open can tell by its recipe, if that makes up the data."""
    length: object = record.conditions.get("length_nt")
    if length is None and record.case.preset is Preset.SCALE:
        length = record.recipe.get("twin_length")
    return length if isinstance(length, int | float) else None


def _compare_row(fit: Fit, records: Sequence[Record]) -> FitRow:
    model = fit.workload + (f" ({fit.called})" if fit.called else "")
    return FitRow(model, [_compare_cell(gpu, documented, records) for gpu, documented in fit.gpus.items()])


def _compare_cell(gpu: str, documented: str, records: Sequence[Record]) -> Cell:
    there = [r for r in records if _ran_on(gpu, r) and not r.emulated]
    if there:
        decisive = max(there, key=_weigh)
        agrees = (decisive.outcome is Outcome.OOM) == (documented == "oom")
        verdict = ClaimVerdict.REPRODUCED if agrees else ClaimVerdict.CONTRADICTED
        return Cell(gpu, documented, verdict, _describe(decisive), decisive)
    elsewhere = [r for r in records if not r.emulated]
    for group, how in ((_emulations(gpu, records), "emulated"), (elsewhere, "on another GPU")):
        if group:
            decisive = max(group, key=_weigh)
            return Cell(gpu, documented, ClaimVerdict.NOT_COMPARABLE, f"{how}: {_describe(decisive)}", decisive)
    return Cell(gpu, documented, ClaimVerdict.NOT_RUN, "", None)


def _weigh(record: Record) -> tuple[object, ...]:
    """Orders records, the one that decides last: training, then what ran at some batch, then the latest."""
    return (record.case.phase is Phase.TRAIN, record.outcome is not Outcome.OOM, age(record))


def _ran_on(gpu: str, record: Record) -> bool:
    sized = _SIZED.fullmatch(gpu)
    machine = record.machine
    if machine is None or machine.gpu is None or not matches_device(sized[1] if sized else gpu, machine.gpu):
        return False
    memory = (machine.gpu_memory_bytes or machine.memory_bytes) / 2**30  # an Apple GPU has no memory of its own
    return sized is None or _NOMINAL_SHARE <= memory / int(sized[2]) <= 1 / _NOMINAL_SHARE


def _emulations(gpu: str, records: Sequence[Record]) -> list[Record]:
    return [r for r in records if any(gpu.casefold() in what.casefold() for what in r.emulated)]


def _describe(record: Record) -> str:
    batch = record.conditions.get("batch", record.comparability.batch if record.comparability else None)
    at = f"{record.case.phase} of {record.case.variant}" + ("" if batch is None else f", batch {batch}") + f" on {name_device(record)}"
    if record.outcome is Outcome.OOM:
        return f"out of memory, {at}"
    peak = record.measurements.get("device_peak")
    return f"ran{f' in {format_number(peak.value / 1e9)} GB' if peak and peak.value is not None else ''}, {at}"
