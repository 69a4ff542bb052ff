"""What running a case is worth on a profile's machine: whether it would decide a claim, be the first of its kind there, or repeat one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from assay.bench.case import Case, ClaimVerdict, Outcome, Unsupported
from assay.bench.claims.documented import Claim, Claims
from assay.bench.claims.judgement import can_decide, judge
from assay.bench.measure.precision import require_precision
from assay.bench.records.record import CaseFields, Dataset, Machine, Record
from assay.bench.registry import get_variant, get_workload
from assay.bench.running.estimates import History

_UNDECIDED = (ClaimVerdict.NOT_RUN, ClaimVerdict.NOT_COMPARABLE)
_SEEN_ELSEWHERE = ("dataset", "variant", "gpu", "phase")  # conditions that are known of a case without any record


class Worth(IntEnum):
    """Lower comes first."""

    FINISHED = 0  # in this run: it costs nothing to say so
    DECIDES = 1
    NEW = 2
    REPEAT = 3
    IDLE = 4  # it ends without having run: its data are missing, or this machine has no units for it


@dataclass(frozen=True, slots=True)
class Rating:
    """A case's worth, and the ids of the claims that it can decide."""

    worth: Worth
    claims: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" +{len(self.claims) - 1}" if len(self.claims) > 1 else ""
        words = {Worth.FINISHED: "finished", Worth.NEW: "new here", Worth.REPEAT: "repeat", Worth.IDLE: "will not run"}
        return words.get(self.worth) or f"decides {self.claims[0]}{more}"


def rate_cases(cases: Sequence[Case], finished: Iterable[Case], history: History, records: Sequence[Record], claims: Claims) -> dict[Case, Rating]:
    """The worth of each case, from what is known before it runs.

    A claim is open while no record gives it a verdict. A case can decide it where its conditions are met: as an earlier record of the case on
    the same data has them; without one, where data set, variant, phase and card are the documented ones.
    """
    done = set(finished)
    undecided: dict[str, list[Claim]] = defaultdict(list)
    for judgement in judge(claims, records):
        if judgement.verdict in _UNDECIDED:
            undecided[judgement.claim.workload].append(judgement.claim)
    return {case: Rating(Worth.FINISHED) if case in done else _rate(case, history, undecided[case.workload], claims.generated_datasets) for case in cases}


def _rate(case: Case, history: History, undecided: Sequence[Claim], generated: Sequence[str]) -> Rating:
    try:
        require_precision(case, get_variant(get_workload(case.workload), case.variant), history.profile)
    except Unsupported:
        return Rating(Worth.IDLE)
    if history.data[case] is None:
        return Rating(Worth.IDLE)
    if history.was_here(case):  # what it could say of a claim here, that record has said
        return Rating(Worth.REPEAT)
    like, kin = history.find_like(case), history.find_kin(case)
    foreseen = _foresee(case, history, like, kin)
    decides = tuple(
        claim.id for claim in undecided if can_decide(claim, foreseen if like else _assume(foreseen, claim), generated, metrics_known=kin is not None)
    )
    return Rating(Worth.DECIDES, decides) if decides else Rating(Worth.NEW)


def _foresee(case: Case, history: History, like: Record | None, kin: Record | None) -> Record:
    """A record as the case would leave it here, as far as claims are compared with it. It holds names of numbers; the values are another run's."""
    named, data, now = like or kin, history.data[case], datetime.now(UTC)
    gpu = None if history.profile.device == "cpu" else history.profile.title
    return Record(
        run="plan",
        sequence=0,
        case=CaseFields.of(case),
        outcome=Outcome.OK,
        started=now,
        ended=now,
        profile=history.profile.name,
        machine=Machine(cpu=history.cpu, cores=1, threads=1, memory_bytes=1, system="", gpu=gpu),
        dataset=Dataset(name=data.name, sha256=data.sha256, synthetic=data.synthetic, source="", licence="", rows={}) if data else None,
        environment=like.environment if like else None,
        conditions=like.conditions if like else {},
        facts=named.facts if named else {},
        measurements=named.measurements if named else {},
        quality=named.quality if named else {},
    )


def _assume(foreseen: Record, claim: Claim) -> Record:
    """What no record has told of the case's conditions, as the claim wants it."""
    told: Mapping[str, object] = {key: value for key, value in claim.where.items() if key not in _SEEN_ELSEWHERE}
    return foreseen.model_copy(update={"conditions": told})
