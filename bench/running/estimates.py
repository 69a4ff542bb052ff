"""How long a case will take on a profile's machine, and where that number comes from: earlier records alone."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from assay.bench.case import Case, Outcome, Phase, Preset, Unsupported
from assay.bench.measure.precision import require_precision
from assay.bench.profiles import Profile
from assay.bench.records.index import age
from assay.bench.records.record import Record
from assay.bench.registry import get_variant, get_workload
from assay.datasets.card import DatasetIdentity

_COMPLETE = (Outcome.OK, Outcome.INVALID)  # the case did all of its work


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds that a case will take, None where nothing is known of it; and where the number comes from."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class _Past:
    """A record as an example of how long its case takes."""

    record: Record
    case: Case
    here: bool  # on the machine that is planned for

    @property
    def complete(self) -> bool:
        return self.record.outcome in _COMPLETE

    @cached_property
    def seconds(self) -> float:
        return (self.record.ended - self.record.started).total_seconds()

    @property
    def device(self) -> str:
        machine = self.record.machine
        return "another machine" if machine is None else machine.gpu or machine.cpu

    @property
    def work(self) -> float:
        """Seconds of training; all else (start-up, data, rounds of a fixed length) does not depend on the machine's arithmetic as far as a record tells."""
        return min(self.measure("train_wall_s") or 0.0, self.seconds)

    @property
    def data(self) -> str | None:
        return self.record.comparability.dataset_sha256 if self.record.comparability else None

    def measure(self, name: str) -> float | None:
        found = self.record.measurements.get(name)
        return None if found is None else found.value


class History:
    """Earlier records, as far as they tell how long cases take on the machine of a profile.

    cpu: this machine's CPU, which tells records of this machine from others where the profile has no GPU.
    data: of each case, what it would read; None where that is missing.
    """

    def __init__(self, records: Iterable[Record], profile: Profile, cpu: str, data: Mapping[Case, DatasetIdentity | None]) -> None:
        self.profile, self.cpu, self.data = profile, cpu, data
        self._all: list[_Past] = []
        self._of_case: dict[Case, list[_Past]] = defaultdict(list)
        self._estimates: dict[Case, Estimate] = {}
        for record in records:
            self.learn(record)

    def learn(self, record: Record) -> None:
        """Takes a record into account. What ended by a signal or ran on pretended hardware tells nothing."""
        if record.emulated or record.outcome is Outcome.INTERRUPTED:
            return
        past = _Past(record, record.case.case, self._is_here(record))
        self._all.append(past)
        self._of_case[past.case].append(past)
        self._estimates.clear()

    def was_here(self, case: Case) -> bool:
        """Whether there is a record of the case on this machine and, as far as is known, on these data."""
        return any(past.here and past.data in (None, self._sha256(case)) for past in self._of_case[case])

    def find_like(self, case: Case) -> Record | None:
        """The latest record of the case on these data, from any machine, that did all of its work."""
        found = [past for past in self._of_case[case] if past.complete and past.data == self._sha256(case)]
        return max(found, key=lambda past: age(past.record)).record if found else None

    def find_kin(self, case: Case) -> Record | None:
        """The latest record of the same workload and phase that did all of its work: it tells which numbers such a case gives."""
        found = [past for past in self._all if past.complete and (past.case.workload, past.case.phase) == (case.workload, case.phase)]
        return max(found, key=lambda past: (past.case.variant == case.variant, age(past.record))).record if found else None

    def expect(self, case: Case) -> Estimate:
        """The first that there is of: a record of the case on this machine; one from another machine, its training scaled by arithmetic;
        the nearest record of the same workload and phase, scaled by what presets differ in: what other variants took in both, else epochs."""
        if case not in self._estimates:
            self._estimates[case] = self._find(case)
        return self._estimates[case]

    def assume(self, preset: Preset) -> float:
        """Seconds set aside for a case that nothing is known of: the longest case of its preset on this machine, else on any machine, else of
        any preset; 0 where there is no record at all, so that something starts and is known the next time."""
        complete = [past for past in self._all if past.complete]
        of_preset = [past for past in complete if past.case.preset is preset]
        here = [past for past in of_preset if past.here]
        return max((past.seconds for past in here or of_preset or complete), default=0.0)

    def _find(self, case: Case) -> Estimate:
        try:
            require_precision(case, get_variant(get_workload(case.workload), case.variant), self.profile)
        except Unsupported:
            return Estimate(0.0, "the open division takes another precision here")
        same = self._of_case[case]
        here = [past for past in same if past.here]
        if case in self.data and self.data[case] is None:  # it will end with that reason
            skipped = [past.seconds for past in self._all if past.record.outcome is Outcome.SKIPPED]
            return Estimate(max(skipped, default=None), "their data are missing")
        if complete := [past for past in here if past.complete]:
            return self._scale(self._choose(complete, case), case)
        if here:
            latest = max(here, key=lambda past: age(past.record))
            return Estimate(latest.seconds, f"{latest.record.outcome} here")
        if complete := [past for past in same if past.complete]:
            return self._scale(self._choose(complete, case), case)
        return self._find_near(case)

    def _choose(self, pasts: Iterable[_Past], case: Case) -> _Past:
        return max(pasts, key=lambda past: (past.data == self._sha256(case), age(past.record)))

    def _find_near(self, case: Case) -> Estimate:
        def rank(past: _Past) -> tuple[object, ...]:
            other = past.case
            # the same network at another size of the work is nearer than another network
            alike = (other.variant == case.variant, other.preset is case.preset, past.here, other.division is case.division, other.precision is case.precision)
            return (*alike, age(past.record))

        kin = [past for past in self._all if past.complete and (past.case.workload, past.case.phase) == (case.workload, case.phase)]
        for past in sorted(kin, key=rank, reverse=True):
            other_preset = past.case.preset is not case.preset
            ratio = self._compare_presets(case, past.case.preset) if other_preset else 1.0
            epochs = _compare_epochs(case, past.record) if ratio is None else None
            if ratio is not None or epochs is not None:
                ratio = ratio or 1.0
                scaled = self._scale(past, case, epochs)
                names = ("variant", "preset", "division", "precision")
                like = " ".join(str(getattr(past.case, name)) for name in names if getattr(past.case, name) != getattr(case, name))
                times = "" if ratio == 1.0 else f" x {ratio:.3g}"
                return Estimate((scaled.seconds or 0.0) * ratio, f"like {like}{times}, {scaled.source}")
        trained = [past for past in self._all if past.complete and past.case.workload == case.workload and past.case.phase is Phase.TRAIN]
        if case.phase is Phase.EVAL and trained:  # which evaluates too
            past = max(trained, key=rank)
            return Estimate(past.seconds - past.work, f"like {past.case.variant} train, less its training")
        return Estimate(None, "unknown: longest known set aside")

    def _compare_presets(self, case: Case, preset: Preset) -> float | None:
        """How many times as long the case's preset takes as another one: median over what this workload and phase has of both on one device."""
        both: dict[tuple[object, ...], dict[Preset, float]] = defaultdict(dict)
        for past in self._all:
            other = past.case
            if past.complete and (other.workload, other.phase) == (case.workload, case.phase):
                both[other.variant, other.division, other.precision, past.device][other.preset] = past.seconds
        ratios = [found[case.preset] / found[preset] for found in both.values() if case.preset in found and found.get(preset)]
        return statistics.median(ratios) if ratios else None

    def _scale(self, past: _Past, case: Case, epochs: float | None = None) -> Estimate:
        """The record's duration with its training fitted to this machine, these data and so many times its epochs; its start-up is kept."""
        work, source = past.work, "record here"
        if not past.here:
            work, source = self._scale_arithmetic(past, case)
        rows, theirs = self._count_rows(self._sha256(case)), sum(past.record.dataset.rows.values()) if past.record.dataset else 0
        if past.data != self._sha256(case) and rows and theirs and past.work:
            work *= rows / theirs
            source += f", rows x {rows / theirs:.3g}"
        if epochs is not None and past.work:
            work *= epochs
            source += f", epochs x {epochs:.3g}"
        return Estimate(past.seconds - past.work + work, source)

    def _scale_arithmetic(self, past: _Past, case: Case) -> tuple[float, str]:
        """Seconds of training here: its FLOPs over the profile's peak, at the utilisation that was seen here, if any was."""
        flops, step_ms, peak = past.measure("flops_per_step"), past.measure("step_ms"), self.profile.peak_flops.get(case.precision)
        if not (flops and step_ms and peak and past.work):
            return past.work, f"as on {past.device}"
        total = flops * past.work / (step_ms / 1e3)
        here = [(other.case.workload, mfu) for other in self._all if other.here and (mfu := other.measure("mfu"))]
        seen = [mfu for workload, mfu in here if workload == case.workload] or [mfu for _, mfu in here]
        if not seen:
            return total / peak.value, "FLOPs at full peak: at least"
        share = statistics.median(seen)
        return total / (peak.value * share), f"FLOPs at MFU {share:.2g}"

    def _count_rows(self, sha256: str | None) -> int | None:
        """Rows of these data, where a record of any case has read them."""
        return next((sum(past.record.dataset.rows.values()) for past in self._all if sha256 and past.data == sha256 and past.record.dataset), None)

    def _sha256(self, case: Case) -> str | None:
        identity = self.data.get(case)
        return identity.sha256 if identity else None

    def _is_here(self, record: Record) -> bool:
        if record.machine is None:
            return False
        if self.profile.device == "cpu":
            return record.machine.gpu is None and record.machine.cpu == self.cpu
        return record.machine.gpu is not None and self.profile.fits(record.machine.gpu)


def _compare_epochs(case: Case, past: Record) -> float | None:
    """How many times the epochs of a record the case's recipe has; None where either names none."""
    own, theirs = _count_epochs(get_workload(case.workload).recipe(case)), _count_epochs(past.recipe)
    return own / theirs if own and theirs else None


def _count_epochs(recipe: Mapping[str, object]) -> float:
    """Of all stages of a resolved recipe."""
    own = sum(value for name, value in recipe.items() if name.endswith("epochs") and isinstance(value, int | float))
    return own + sum(_count_epochs(inner) for inner in recipe.values() if isinstance(inner, Mapping))
