"""The documents' table of what fits where, beside records."""

from collections.abc import Callable
from typing import Any

import pytest

from assay.bench.case import ClaimVerdict, Outcome, Quantity
from assay.bench.checkout import PUBLISHED
from assay.bench.claims.documented import Claims, Fit, find_claims, load_claims
from assay.bench.records.record import Machine, Record
from assay.bench.report.fits import Cell, compare_fits

MakeRecord = Callable[..., Record]
CASE = "splice-hyenadna/small-32k/train/standard/closed/fp32"


def gpu(name: str, gib: int) -> Machine:
    return Machine(cpu="Xeon", cores=4, threads=4, memory_bytes=2**38, system="Linux", gpu=name, gpu_memory_bytes=gib << 30)


def compare(documented: str, *records: Record, card: str = "A40-48GB", **fit: Any) -> Cell:
    [row] = compare_fits(Claims(fits=(Fit.model_validate({"workload": "splice-hyenadna", "gpus": {card: documented}} | fit),)), records)
    [cell] = row.cells
    return cell


@pytest.mark.parametrize(
    ("documented", "outcome", "verdict"),
    [
        ("fast", Outcome.OK, ClaimVerdict.REPRODUCED),
        ("tight", Outcome.OK, ClaimVerdict.REPRODUCED),
        ("oom", Outcome.OK, ClaimVerdict.CONTRADICTED),
        ("oom", Outcome.OOM, ClaimVerdict.REPRODUCED),
        ("slow", Outcome.OOM, ClaimVerdict.CONTRADICTED),
        ("fast", Outcome.CRASH, ClaimVerdict.NOT_RUN),
    ],
)
def test_only_whether_it_runs_is_judged(make_record: MakeRecord, documented: str, outcome: Outcome, verdict: ClaimVerdict) -> None:
    reason = None if outcome is Outcome.OK else "why"
    assert compare(documented, make_record(CASE, machine=gpu("NVIDIA A40", 45), outcome=outcome, reason=reason)).verdict is verdict


def test_what_was_found_names_peak_batch_and_card(make_record: MakeRecord) -> None:
    record = make_record(CASE, machine=gpu("NVIDIA A40", 45), batch=16, measurements={"device_peak": Quantity(12.345e9, "bytes")})
    assert compare("fast", record).found == "ran in 12.35 GB, train of small-32k, batch 16 on NVIDIA A40"


@pytest.mark.parametrize(("name", "gib", "counts"), [("NVIDIA A100-SXM4-80GB", 79, True), ("NVIDIA A100-SXM4-40GB", 40, False), ("NVIDIA A10", 80, False)])
def test_a_card_counts_by_name_and_memory(make_record: MakeRecord, name: str, gib: int, counts: bool) -> None:
    cell = compare("fast", make_record(CASE, machine=gpu(name, gib)), card="A100-80GB")
    assert cell.verdict is (ClaimVerdict.REPRODUCED if counts else ClaimVerdict.NOT_COMPARABLE)


def test_another_gpu_and_an_emulated_one_are_quoted_and_not_judged(make_record: MakeRecord) -> None:
    elsewhere = make_record(CASE, machine=gpu("NVIDIA H200", 140))
    assert compare("oom", elsewhere).found == "on another GPU: ran, train of small-32k, batch 128 on NVIDIA H200"
    emulated = make_record(CASE, machine=gpu("NVIDIA H200", 140), emulated=("memory: that of an A40-48GB",), minutes=1)
    cell = compare("oom", elsewhere, emulated)
    assert (cell.verdict, cell.record) == (ClaimVerdict.NOT_COMPARABLE, emulated)
    assert cell.found.startswith("emulated: ran")


def test_cpu_smoke_and_other_variants_say_nothing(make_record: MakeRecord) -> None:
    a40: dict[str, Any] = {"machine": gpu("NVIDIA A40", 45)}
    others = [make_record(CASE), make_record(CASE.replace("standard", "smoke"), **a40), make_record(CASE.replace("small-32k", "tiny-1k"), **a40)]
    assert compare("fast", *others, variants=["small-32k"]).verdict is ClaimVerdict.NOT_RUN


@pytest.mark.parametrize(
    ("length", "outcome", "verdict"),
    [
        (1023, Outcome.OK, ClaimVerdict.NOT_RUN),
        (8191, Outcome.OK, ClaimVerdict.REPRODUCED),
        (32_767, Outcome.OK, ClaimVerdict.REPRODUCED),
        (1023, Outcome.OOM, ClaimVerdict.CONTRADICTED),
        (8191, Outcome.OOM, ClaimVerdict.CONTRADICTED),
        (32_767, Outcome.OOM, ClaimVerdict.NOT_RUN),
    ],
)
def test_what_runs_must_be_as_long_as_the_context_and_what_does_not_no_longer(make_record: MakeRecord, length: int, outcome: Outcome, verdict: ClaimVerdict) -> None:
    reason = None if outcome is Outcome.OK else "why"
    record = make_record(CASE, machine=gpu("NVIDIA A40", 45), conditions={"length_nt": length}, outcome=outcome, reason=reason)
    assert compare("fast", record, context_nt=8000).verdict is verdict


@pytest.mark.parametrize(("case", "verdict"), [("small-32k-context/train/scale", ClaimVerdict.CONTRADICTED), ("small-32k-context/train/standard", ClaimVerdict.NOT_RUN)])
def test_a_case_that_was_killed_before_its_data_were_open_tells_by_the_recipe_of_its_twin(make_record: MakeRecord, case: str, verdict: ClaimVerdict) -> None:
    killed: dict[str, Any] = {"identified": False, "dataset": None, "recipe": {"twin_length": 8001}, "outcome": Outcome.OOM, "reason": "killed by the kernel"}
    record = make_record(f"splice-hyenadna/{case}/closed/fp32", machine=gpu("NVIDIA A40", 45), **killed)
    assert compare("fast", record, variants=["small-32k-context"], context_nt=8000).verdict is verdict
    assert compare("fast", record, variants=["small-32k-context"]).verdict is ClaimVerdict.CONTRADICTED


def test_the_documents_large_is_not_the_published_large() -> None:
    (fit,) = (fit for fit in load_claims(find_claims(PUBLISHED)).fits if fit.called and fit.called.startswith("large"))
    assert (fit.variants, fit.context_nt) == (("medium-450k", "medium-450k-context"), 160_000)


def test_training_that_ran_out_of_memory_is_not_hidden_by_an_evaluation(make_record: MakeRecord) -> None:
    a40: dict[str, Any] = {"machine": gpu("NVIDIA A40", 45)}
    failed = make_record(CASE, outcome=Outcome.OOM, reason="why", minutes=1, **a40)
    evaluated = make_record(CASE.replace("train", "eval"), minutes=2, **a40)
    cell = compare("fast", failed, evaluated)
    assert (cell.verdict, cell.record) == (ClaimVerdict.CONTRADICTED, failed)
    assert compare("fast", evaluated, make_record(CASE, minutes=1, **a40)).found == "ran, train of small-32k, batch 128 on NVIDIA A40"


def test_a_model_that_trains_at_some_batch_fits_whatever_a_larger_one_needs(make_record: MakeRecord) -> None:
    a40: dict[str, Any] = {"machine": gpu("NVIDIA A40", 45)}
    smaller = make_record(CASE, batch=4, minutes=1, **a40)
    cell = compare("fast", smaller, make_record(CASE, outcome=Outcome.OOM, reason="why", minutes=3, **a40))
    assert (cell.verdict, cell.record) == (ClaimVerdict.REPRODUCED, smaller)


def test_an_emulated_run_on_a_cpu_is_no_evidence_of_memory(make_record: MakeRecord) -> None:
    assert compare("oom", make_record(CASE, emulated=("gpu: A40-48GB",))).verdict is ClaimVerdict.NOT_RUN


def test_the_latest_record_decides(make_record: MakeRecord) -> None:
    old = make_record(CASE, machine=gpu("NVIDIA A40", 45), outcome=Outcome.OOM, reason="why")
    new = make_record(CASE, machine=gpu("NVIDIA A40", 45), minutes=1)
    assert compare("fast", new, old).record is new
