"""What a case is worth on a machine: which claims it would decide, by the rules that judge them."""

from decimal import Decimal
from typing import Any

import pytest

from assay.bench.case import Case, Outcome, Quantity
from assay.bench.claims.documented import Claim, ClaimKind, Claims, Direction
from assay.bench.profiles import load_profile
from assay.bench.records.record import Record
from assay.bench.running.estimates import History
from assay.bench.running.worth import Rating, Worth, rate_cases
from assay.datasets.card import DatasetIdentity
from tests.bench.running.past import H100, REAL, TWIN, past

TRAIN = "affinity-v2/documented/train/standard/closed/fp32"
MEASURED: dict[str, Any] = {"quality": {"spearman": Quantity(0.5, "rho")}, "conditions": {"dataset": "abag", "epochs": 100}}


def claim(metric: str = "spearman", kind: ClaimKind = ClaimKind.MEASURED, name: str = "affinity", **where: Any) -> Claim:
    return Claim(id=name, workload="affinity-v2", metric=metric, value=Decimal("0.5"), direction=Direction.HIGHER, kind=kind, where=where, source="000")


def rate(*records: Record, case: str = TRAIN, claims: tuple[Claim, ...] = (), profile: str = "h100", data: DatasetIdentity | None = REAL, finished: tuple[Case, ...] = ()) -> Rating:
    found = Case.parse(case)
    history = History(records, load_profile(profile), "Xeon", {found: data})
    return rate_cases([found], finished, history, records, Claims(claim=claims))[found]


@pytest.mark.parametrize(
    ("where", "decides"),
    [
        ({"dataset": "abag", "epochs": 100}, True),
        ({"dataset": "abag", "epochs": 50}, False),
        ({"dataset": "abag", "n_train": 7}, False),
        ({"dataset": "abag", "variant": "by-complex"}, False),
        ({"dataset": "abag", "phase": "eval"}, False),
        ({"dataset": "abag", "division": "open"}, False),
    ],
)
def test_an_earlier_record_says_which_conditions_the_case_meets(where: dict[str, Any], decides: bool) -> None:
    case = Case.parse(TRAIN)
    history = History([past(TRAIN, 60, data=REAL, **MEASURED)], load_profile("h100"), "Xeon", {case: REAL})
    rating = rate_cases([case], (), history, (), Claims(claim=(claim(**where),)))[case]
    assert rating == (Rating(Worth.DECIDES, ("affinity",)) if decides else Rating(Worth.NEW))


def test_a_claim_that_has_a_verdict_is_decided_no_more() -> None:
    assert rate(past(TRAIN, 60, data=REAL, **MEASURED), claims=(claim(dataset="abag", epochs=100),)) == Rating(Worth.NEW)


@pytest.mark.parametrize(
    ("undecided", "profile", "decides"),
    [
        (claim("train_wall_s", gpu="H100", dataset="abag"), "h100", True),
        (claim("train_wall_s", gpu="H100", dataset="abag"), "a40", False),
        (claim("train_wall_s", gpu="H100", dataset="abag"), "cpu", False),
        (claim("spearman", gpu="A40", dataset="abag"), "h100", True),  # does not depend on the card
        (claim("min_vram_gb", ClaimKind.ESTIMATE), "h100", True),
        (claim("min_vram_gb", ClaimKind.ESTIMATE), "cpu", False),
        (claim("spearman", dataset="skempi"), "h100", False),
        (claim("parameters", ClaimKind.FACT), "cpu", True),
    ],
)
def test_without_a_record_what_is_known_of_the_case_must_fit(undecided: Claim, profile: str, decides: bool) -> None:
    assert rate(claims=(undecided,), profile=profile) == (Rating(Worth.DECIDES, ("affinity",)) if decides else Rating(Worth.NEW))


def test_generated_data_decide_nothing_that_is_claimed_of_real_ones() -> None:
    assert rate(claims=(claim(dataset="abag"),), data=TWIN) == Rating(Worth.NEW)


def test_numbers_that_no_such_case_gives_are_not_waited_for() -> None:
    kin = past(TRAIN.replace("documented", "by-complex"), 60, quality={"spearman": Quantity(0.5, "rho")}, measured={"reserved_peak": 1.0})
    assert rate(kin, claims=(claim("spearman"), claim("auroc", name="other"))) == Rating(Worth.DECIDES, ("affinity",))


def test_a_number_that_a_cpu_could_not_give_is_given_by_a_gpu() -> None:
    on_cpu = past(TRAIN, 60, data=REAL).model_copy(update={"measurements": {"reserved_peak": Quantity.missing("bytes", "the case ran on the CPU")}})
    vram = claim("vram_reserved_gb")
    assert rate(on_cpu, claims=(vram,)) == Rating(Worth.DECIDES, ("affinity",))
    assert rate(on_cpu.model_copy(update={"machine": on_cpu.machine and on_cpu.machine.model_copy(update={"cpu": "EPYC"})}), claims=(vram,), profile="cpu") == Rating(Worth.NEW)


def test_what_ran_here_is_a_repeat_whatever_its_end() -> None:
    undecided = (claim(dataset="abag"),)
    assert rate(past(TRAIN, 60, gpu=H100, data=REAL, outcome=Outcome.OOM), claims=undecided) == Rating(Worth.REPEAT)
    assert rate(past(TRAIN, 60, gpu=H100, data=TWIN, **MEASURED), claims=undecided) == Rating(Worth.DECIDES, ("affinity",))


def test_what_cannot_run_comes_last_and_what_is_finished_costs_nothing() -> None:
    assert rate(data=None, claims=(claim(),)) == Rating(Worth.IDLE)
    assert rate(case=TRAIN.replace("closed/fp32", "open/fp16")) == Rating(Worth.IDLE)
    assert rate(finished=(Case.parse(TRAIN),), claims=(claim(),)) == Rating(Worth.FINISHED)


def test_words() -> None:
    assert [str(Rating(Worth.DECIDES, ("a", "b", "c"))), str(Rating(Worth.DECIDES, ("a",))), str(Rating(Worth.NEW))] == ["decides a +2", "decides a", "new here"]
