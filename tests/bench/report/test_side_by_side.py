import pytest

from assay.bench.case import Outcome, Quantity
from assay.bench.records.record import Comparability, Record
from assay.bench.report.side_by_side import compare_speed

KEY = Comparability(
    case="x", declaration_sha256="a" * 64, dataset="d", dataset_sha256="b" * 64, environment="sha256:1", device="NVIDIA A40", device_memory_gib=45, threads=1,
    seed=42, torch="2.13.0", cuda="13.0",
)  # fmt: skip


def with_speed(record: Record, value: float, low: float, high: float, **key: object) -> Record:
    speeds = {"samples_per_s": Quantity(value, "samples/s", 10, low, high)}
    return record.model_copy(update={"measurements": speeds, "comparability": KEY.model_copy(update=key)})


@pytest.fixture
def one(records: list[Record]) -> Record:
    return with_speed(records[0], 100, 95, 110)


def test_the_ratio_lies_between_the_far_ends(one: Record) -> None:
    two = with_speed(one, 50, 44, 57, environment="sha256:2", torch="2.1.2", cuda="12.1")
    ratio = compare_speed(one, two)
    assert (ratio.value, ratio.low, ratio.high) == (0.5, 44 / 110, 57 / 95)


@pytest.mark.parametrize(("change", "reason"), [({"driver": "535"}, "not comparable: driver: None -> 535"), ({"seed": 1}, "not comparable: seed: 42 -> 1")])
def test_nothing_but_the_software_may_differ(one: Record, change: dict[str, object], reason: str) -> None:
    assert compare_speed(one, with_speed(one, 50, 44, 57, **change)).reason == reason


def test_a_failed_an_emulated_and_an_unmeasured_case_have_no_ratio(one: Record) -> None:
    failed = one.model_copy(update={"outcome": Outcome.UNSUPPORTED, "reason": "no FlexAttention"})
    assert compare_speed(one, failed).reason == "unsupported"
    assert compare_speed(one.model_copy(update={"emulated": ("gpu",)}), one).reason == "emulated"
    assert compare_speed(one, one.model_copy(update={"measurements": {}})).reason == "no speed measured"
    assert compare_speed(one, one.model_copy(update={"comparability": None})).reason == "no comparability key"
