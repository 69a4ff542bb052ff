"""What our own records say of each documented number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

from assay.bench.case import ClaimVerdict, Division, ExitCode, Outcome, Phase, Preset, Quantity
from assay.bench.claims.conditions import compare_conditions, name_device
from assay.bench.claims.documented import Claim, ClaimKind, Claims, Direction
from assay.bench.formatting.numbers import format_documented, format_number
from assay.bench.records.record import Record


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the records say of one claim."""

    claim: Claim
    verdict: ClaimVerdict
    measured: Quantity | None
    record: Record | None  # the record that decided, or the one that came closest
    reason: str  # one line
    differences: tuple[str, ...] = ()  # conditions that keep claim and record from being compared
    twin: bool = False  # measured on generated data that the document does not speak of


class _Derived(NamedTuple):
    """A documented metric that is a measurement under another name or unit."""

    measurement: str
    phase: Phase | None
    divide_by: float
    unit: str


_GB = 1e9  # the documents count decimal gigabytes
_DERIVED = {
    "vram_reserved_gb": _Derived("reserved_peak", Phase.TRAIN, _GB, "GB"),
    "min_vram_gb": _Derived("device_peak", None, _GB, "GB"),
    "train_sequences_per_s": _Derived("samples_per_s", Phase.TRAIN, 1, "sequences/s"),
    "train_wall_s": _Derived("train_wall_s", Phase.TRAIN, 1, "s"),
}
_DEVICE_BOUND = {*_DERIVED, "vram_allocated_gb"}  # a correlation or a loss does not depend on the card, these do


class _Candidate(NamedTuple):
    record: Record
    measured: Quantity | None
    differences: tuple[str, ...]
    twin: bool

    @property
    def merit(self) -> tuple[object, ...]:
        """Orders candidates, the one to quote last: age decides only between records that say equally much of the claim."""
        record, has_value = self.record, self.measured is not None and self.measured.value is not None
        return (has_value, -len(self.differences), not self.twin, record.case.preset is not Preset.SMOKE, record.ended, record.run, record.sequence)


def judge(claims: Claims, records: Iterable[Record]) -> list[Judgement]:
    """A verdict on every claim, in the order of the claims file, from records that were read and validated before."""
    by_workload: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_workload[record.case.workload].append(record)
    return [_judge_one(claim, by_workload[claim.workload], claims.generated_datasets) for claim in claims.claim]


def can_decide(claim: Claim, foreseen: Record, generated: Sequence[str], *, metrics_known: bool) -> bool:
    """Whether a record under these conditions would be compared with the claim, whatever its values: `foreseen` is of a case not run yet.

    metrics_known: its measurements, quality and facts have the names that the case will give; else the metric is taken to be among them.
    """
    case = foreseen.case
    phase = _DERIVED[claim.metric].phase if claim.metric in _DERIVED else None
    if claim.workload != case.workload or claim.variant not in (None, case.variant) or phase not in (None, case.phase):
        return False
    if metrics_known:
        found = _measure(claim, foreseen)
        # what a CPU cannot give, a GPU can
        if found is None or (found.value is None and (foreseen.machine is None or foreseen.machine.gpu is None)):
            return False
    return claim.kind is ClaimKind.FACT or not _differences(claim, foreseen, generated)


def exit_code(judgements: Sequence[Judgement]) -> int:
    """Exit code of a strict judgement: 1 where a number was missed or contradicted, 3 where none could be compared, else 0.

    Without --strict the command exits with 0: a wrong document is a finding, not a failure of ours.
    """
    verdicts = {judgement.verdict for judgement in judgements}
    if verdicts & {ClaimVerdict.MISSED, ClaimVerdict.CONTRADICTED}:
        return ExitCode.VERDICT_FAILED
    return ExitCode.OK if verdicts & {ClaimVerdict.REPRODUCED, ClaimVerdict.EXCEEDED} else ExitCode.INCONCLUSIVE


def _judge_one(claim: Claim, records: Sequence[Record], generated: Sequence[str]) -> Judgement:
    usable = [r for r in records if claim.variant in (None, r.case.variant) and r.outcome is Outcome.OK and not r.emulated]
    if not usable:
        return Judgement(claim, ClaimVerdict.NOT_RUN, None, None, _why_not_run(claim, records))
    if claim.kind is ClaimKind.FACT:
        candidates = [_Candidate(r, _measure(claim, r), (), twin=False) for r in usable]
    else:
        phase = _DERIVED[claim.metric].phase if claim.metric in _DERIVED else None
        usable = [r for r in usable if phase in (None, r.case.phase)] or usable
        candidates = [_Candidate(r, _measure(claim, r), _differences(claim, r, generated), _on_twin(claim, r, generated)) for r in usable]
    return _decide(claim, max(candidates, key=lambda candidate: candidate.merit))


def _why_not_run(claim: Claim, records: Sequence[Record]) -> str:
    what = claim.workload if claim.variant is None else f"{claim.workload}/{claim.variant}"
    same = [r for r in records if claim.variant in (None, r.case.variant)]
    failed = [r for r in same if r.outcome is not Outcome.OK]
    if failed:
        latest = max(failed, key=lambda r: (r.ended, r.run, r.sequence))
        return f"no run of {what} ended in order; the latest is {latest.outcome}: {latest.reason}"
    return f"{what} ran only on emulated hardware" if same else f"there is no record of {what}"


def _measure(claim: Claim, record: Record) -> Quantity | None:
    if claim.kind is ClaimKind.FACT:
        fact = record.facts.get(claim.metric)
        return None if fact is None else Quantity(fact, "", how="computed, not measured")
    if claim.metric in _DERIVED:
        derived = _DERIVED[claim.metric]
        found = record.measurements.get(derived.measurement)
        if found is None or found.value is None:
            return found
        low, high = (None if bound is None else bound / derived.divide_by for bound in (found.low, found.high))
        return replace(found, value=found.value / derived.divide_by, low=low, high=high, unit=derived.unit)
    return record.quality.get(claim.metric) or record.measurements.get(claim.metric)


def _differences(claim: Claim, record: Record, generated: Sequence[str]) -> tuple[str, ...]:
    where = {"division": Division.CLOSED.value, **claim.where}  # a document speaks of its recipe as written
    # what a model needs at least is a bound that any data can test; every other number belongs to the data it was taken on
    twin = record.dataset if _on_twin(claim, record, generated) and claim.metric != "min_vram_gb" else None
    skipped = {"variant", *(["dataset"] if twin else []), *([] if claim.metric in _DEVICE_BOUND else ["gpu"])}
    differences = compare_conditions({key: value for key, value in where.items() if key not in skipped}, record)
    if twin:
        differences = [f"data: documented {claim.where.get('dataset', 'real data')}, here a synthetic twin ({twin.name})", *differences]
    if claim.metric == "min_vram_gb":
        differences += _why_bound_is_open(record)
    return tuple(differences)


def _on_twin(claim: Claim, record: Record, generated: Sequence[str]) -> bool:
    return record.synthetic and claim.where.get("dataset") not in generated


def _why_bound_is_open(record: Record) -> list[str]:
    if record.machine is None or record.machine.gpu is None:
        return ["device: the least memory that a model needs cannot be told from a run on a CPU"]
    return ["preset: a smoke run asks less of the memory than the documented use"] if record.case.preset is Preset.SMOKE else []


def _decide(claim: Claim, best: _Candidate) -> Judgement:
    measured, record = best.measured, best.record
    if best.differences:
        reason = "; ".join(best.differences)
        if measured is None:
            reason += f"; nor does any run of {claim.workload} here give {claim.metric}"
        return Judgement(claim, ClaimVerdict.NOT_COMPARABLE, measured, record, reason, best.differences, best.twin)
    if measured is None or measured.value is None:
        reason = f"the runs of {claim.workload} give no {claim.metric}" + (f": {measured.reason}" if measured else "")
        return Judgement(claim, ClaimVerdict.NOT_COMPARABLE, measured, record, reason, twin=best.twin)
    verdict = _bound_verdict(claim, measured.value) if claim.metric == "min_vram_gb" else _compare(claim, measured.value, measured.low, measured.high)
    return Judgement(claim, verdict, measured, record, _explain(claim, verdict, measured.value, record), twin=best.twin)


def _bound_verdict(claim: Claim, peak: float) -> ClaimVerdict:
    return ClaimVerdict.REPRODUCED if Decimal(peak) <= claim.value else ClaimVerdict.NOT_COMPARABLE


def _compare(claim: Claim, value: float, low: float | None, high: float | None) -> ClaimVerdict:
    lowest, highest = Decimal(value if low is None else low), Decimal(value if high is None else high)
    if claim.agrees(value) or (claim.kind is not ClaimKind.FACT and lowest <= claim.value <= highest):
        return ClaimVerdict.REPRODUCED
    if claim.kind is ClaimKind.FACT or claim.direction is Direction.EQUAL:
        return ClaimVerdict.CONTRADICTED
    better = lowest > claim.value if claim.direction is Direction.HIGHER else highest < claim.value
    return ClaimVerdict.EXCEEDED if better else ClaimVerdict.MISSED


def _explain(claim: Claim, verdict: ClaimVerdict, value: float, record: Record) -> str:
    numbers = f"{format_documented(claim.value)} documented, {format_number(value)} "
    if claim.kind is ClaimKind.FACT:
        return numbers + "computed" + (", the same to the last documented digit" if verdict is ClaimVerdict.REPRODUCED else "")
    where = f"measured on {name_device(record)}"
    if claim.metric == "min_vram_gb":
        tail = "; the run stayed within the documented memory" if verdict is ClaimVerdict.REPRODUCED else "; a smaller batch might still fit"
        return numbers + where + tail
    elsewhere = claim.metric not in _DEVICE_BOUND and compare_conditions({"gpu": claim.where["gpu"]} if "gpu" in claim.where else {}, record)
    card = f" (documented on {claim.where['gpu']}; {claim.metric} does not depend on the card)" if elsewhere else ""
    return numbers + where + card + _say_when_reached(claim, record)


def _say_when_reached(claim: Claim, record: Record) -> str:
    moment = find_moment(claim, record)
    return f"; first reached after {format_number(moment.seconds)} s, epoch {moment.epoch}" if moment else ""


class Moment(NamedTuple):
    """A point of a training: seconds since its start, and the epoch that ended there, counted from 1."""

    seconds: float
    epoch: int


def find_moment(claim: Claim, record: Record) -> Moment | None:
    """When training first reached the documented quality, from the curve that a case of documented conditions records; None if it never did."""
    sign = 1 if claim.direction is Direction.HIGHER else -1
    epochs = zip(record.curves.get(f"test_{claim.metric}", ()), record.curves.get("epoch_end_s", ()), strict=False)
    return next((Moment(seconds, epoch) for epoch, (value, seconds) in enumerate(epochs, start=1) if sign * Decimal(value) >= sign * claim.value), None)
