"""The documents' table of what fits where, beside records."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.case import ClaimVerdict, Outcome, Quantity
from bench.claims import Claims, Fit
from bench.record import Machine, Record
from bench.report.fits import Cell, compare_fits

MakeRecord = Callable[..., Record]
CASE = "splice-hyenadna/small-32k/train/standard/closed/fp32"


def gpu(name: str, gib: int) -> Machine:
    return Machine(cpu="Xeon", cores=4, threads=4, memory_bytes=2**38, system="Linux", gpu=name, gpu_memory_bytes=gib << 30)


def compare(documented: str, *records: Record, card: str = "A40-48GB", variant: str | None = None) -> Cell:
    [row] = compare_fits(Claims(fits=(Fit.model_validate({"workload": "splice-hyenadna", "variant": variant, "gpus": {card: documented}}),)), records)
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
    assert compare("fast", *others, variant="small-32k").verdict is ClaimVerdict.NOT_RUN


@pytest.mark.parametrize(("length", "verdict"), [(1023, ClaimVerdict.NOT_RUN), (8191, ClaimVerdict.REPRODUCED)])
def test_a_context_asks_for_sequences_as_long(make_record: MakeRecord, length: int, verdict: ClaimVerdict) -> None:
    record = make_record(CASE, machine=gpu("NVIDIA A40", 45), conditions={"length_nt": length})
    assert compare("fast", record, variant="small-32k, 8K context").verdict is verdict


def test_the_latest_record_decides(make_record: MakeRecord) -> None:
    old = make_record(CASE, machine=gpu("NVIDIA A40", 45), outcome=Outcome.OOM, reason="why")
    new = make_record(CASE, machine=gpu("NVIDIA A40", 45), minutes=1)
    assert compare("fast", new, old).record is new
