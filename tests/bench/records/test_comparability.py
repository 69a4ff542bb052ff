"""Which records are of older source."""

from datetime import UTC, datetime

import pytest

from assay.bench.case import Case, Outcome
from assay.bench.profiles import load_profile
from assay.bench.records.comparability import hash_today, is_older
from assay.bench.records.record import CaseFields, Comparability, Record
from assay.bench.registry import hash_declaration

CASE = "affinity-v1/documented/train/smoke/closed/fp32"
TODAY = hash_declaration(Case.parse(CASE), load_profile("cpu"))
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


def make(case: str, declaration: str | None, profile: str = "cpu") -> Record:
    key = declaration and Comparability(
        case=case, declaration_sha256=declaration, dataset="d", dataset_sha256="2" * 64, environment="e", device="Xeon", device_memory_gib=16, threads=1, seed=42, torch="2"
    )
    fields = CaseFields.of(Case.parse(case))
    return Record(run="r", sequence=0, case=fields, outcome=Outcome.OK, started=MOMENT, ended=MOMENT, profile=profile, comparability=key or None)


@pytest.mark.parametrize(
    ("record", "older"),
    [
        (make(CASE, TODAY), False),
        (make(CASE, "1" * 64), True),
        (make(CASE, TODAY, profile="a40"), True),  # whose peaks are others
        (make(CASE, TODAY, profile="gone"), True),
        (make(CASE.replace("documented", "retired", 1), TODAY), True),
        (make(CASE.replace("affinity-v1", "retired"), TODAY), True),
        (make(CASE, None), False),
    ],
)
def test_a_record_is_older_where_its_source_recipe_or_profile_is_not_today_s(record: Record, older: bool) -> None:
    assert is_older(record) is older


def test_what_is_not_declared_has_no_hash() -> None:
    assert hash_today(Case.parse(CASE), "cpu") == TODAY
    assert hash_today(Case.parse(CASE.replace("fp32", "bf16")), "cpu") is None
