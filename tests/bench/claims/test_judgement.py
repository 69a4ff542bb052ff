"""Documented numbers against records: which may be compared, and what the comparison says."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from assay.bench.case import Case, ClaimVerdict, ExitCode, Outcome, Quantity
from assay.bench.claims.conditions import matches_device
from assay.bench.claims.documented import Claim, Claims, Direction
from assay.bench.claims.judgement import Judgement, exit_code, judge
from assay.bench.records.record import CaseFields, Dataset, Machine, Record
from tests.conftest import ROOT

DOCUMENTED = ROOT / "results" / "baselines" / "documented.toml"
V = ClaimVerdict
CONDITIONS = {"dataset": "abag", "n_train": 231_532, "n_test": 49_615, "epochs": 100, "batch": 128}
T4 = Machine(cpu="Xeon", cores=4, threads=4, memory_bytes=2**34, system="Linux", gpu="Tesla T4")
CPU = T4.model_copy(update={"gpu": None})
REAL = Dataset(name="abag", sha256="0" * 64, synthetic=False, source="s", licence="MIT", rows={"train": 231_532})
TWIN = REAL.model_copy(update={"name": "abag-twin", "synthetic": True})


def record(case: str = "affinity-v1/documented/train/documented/closed/fp32", **changes: Any) -> Record:
    began = datetime(2024, 1, 2, tzinfo=UTC)
    fields: dict[str, Any] = {"run": "r", "sequence": 0, "case": CaseFields.of(Case.parse(case)), "outcome": Outcome.OK, "started": began, "ended": began + timedelta(minutes=1)}
    fields |= {"profile": "t4", "conditions": CONDITIONS, "dataset": REAL, "machine": T4, "facts": {"parameters": 72_449}}
    return Record.model_validate(fields | changes)


def claim(**changes: Any) -> Claim:
    fields: dict[str, Any] = {"id": "c", "workload": "affinity-v1", "metric": "spearman", "value": Decimal("0.3912"), "direction": "higher", "kind": "measured", "source": "004"}
    return Claim.model_validate(fields | {"where": {"variant": "documented", "dataset": "abag", "n_train": 231_532, "gpu": "T4", "epochs": 100}} | changes)


def judged(one: Claim, *records: Record, **lists: Any) -> Judgement:
    (judgement,) = judge(Claims(claim=(one,), **lists), records)
    return judgement


def fact(value: str, metric: str = "parameters") -> Claim:
    return claim(metric=metric, value=Decimal(value), direction="equal", kind="fact", where={"variant": "documented"})


def scored(value: float, low: float | None = None, high: float | None = None, **changes: Any) -> Record:
    return record(quality={"spearman": Quantity(value, "rho", 100, low, high)}, **changes)


class TestLastDigit:
    @pytest.mark.parametrize(
        ("documented", "low", "high"),
        [
            ("3000000", 2_500_000, 3_500_000),
            ("78000", 77_500, 78_500),
            ("19500000", 19_450_000, 19_550_000),
            ("231532", 231_531.5, 231_532.5),
            ("0.36", 0.355, 0.365),
            ("0.140", 0.1395, 0.1405),
            ("1.0", 0.95, 1.05),
            ("64", 63.5, 64.5),
            ("-0.07", -0.075, -0.065),
            ("0", -0.5, 0.5),
        ],
    )
    def test_half_a_unit_on_either_side(self, documented: str, low: float, high: float) -> None:
        one = fact(documented)
        width = (high - low) / 1000
        assert one.agrees(low + width)
        assert one.agrees(high - width)
        assert not one.agrees(low - width)
        assert not one.agrees(high + width)


class TestFacts:
    @pytest.mark.parametrize(("documented", "computed", "verdict"), [("78000", 72_449, V.CONTRADICTED), ("3000000", 3_070_210, V.REPRODUCED), ("64", 63.883, V.REPRODUCED), ("40", 60, V.CONTRADICTED)])
    def test_agree_to_the_last_documented_digit_or_are_contradicted(self, documented: str, computed: float, verdict: V) -> None:
        assert judged(fact(documented), record(facts={"parameters": computed})).verdict is verdict

    def test_reason_gives_both_numbers(self) -> None:
        judgement = judged(fact("78000"), record())
        assert judgement.reason == "78,000 documented, 72,449 computed"
        assert judgement.measured == Quantity(72_449, "", how="computed, not measured")

    def test_hold_on_any_machine_data_preset_and_division(self) -> None:
        anywhere = record("affinity-v1/documented/eval/smoke/open/bf16", dataset=TWIN, machine=CPU, conditions={})
        assert judged(fact("72449"), anywhere).verdict is V.REPRODUCED

    def test_of_another_variant_say_nothing(self) -> None:
        judgement = judged(fact("72449"), record("affinity-v1/by-complex/train/smoke/closed/fp32"))
        assert (judgement.verdict, judgement.reason) == (V.NOT_RUN, "there is no record of affinity-v1/documented")

    def test_that_a_record_does_not_have(self) -> None:
        judgement = judged(fact("1", "layers"), record())
        assert (judgement.verdict, judgement.reason) == (V.NOT_COMPARABLE, "the runs of affinity-v1 give no layers")


class TestEqualConditions:
    @pytest.mark.parametrize(
        ("direction", "value", "low", "high", "verdict"),
        [
            ("higher", 0.38, 0.37, 0.40, V.REPRODUCED),
            ("higher", 0.39121, 0.39120, 0.39122, V.REPRODUCED),
            ("higher", 0.39123, 0.391225, 0.391235, V.REPRODUCED),  # rounds to it
            ("higher", 0.42, 0.41, 0.43, V.EXCEEDED),
            ("higher", 0.30, 0.29, 0.31, V.MISSED),
            ("lower", 0.30, 0.29, 0.31, V.EXCEEDED),
            ("lower", 0.42, 0.41, 0.43, V.MISSED),
            ("equal", 0.42, 0.41, 0.43, V.CONTRADICTED),
            ("equal", 0.38, 0.37, 0.40, V.REPRODUCED),
            ("higher", 0.39124, None, None, V.REPRODUCED),
            ("higher", 0.39126, None, None, V.EXCEEDED),
            ("lower", 0.39126, None, None, V.MISSED),
            ("equal", 0.39126, None, None, V.CONTRADICTED),
        ],
    )
    @pytest.mark.parametrize("kind", ["measured", "estimate"])
    def test_interval_decides_and_without_one_the_last_digit(self, kind: str, direction: Direction, value: float, low: float | None, high: float | None, verdict: V) -> None:
        assert judged(claim(direction=direction, kind=kind), scored(value, low, high)).verdict is verdict

    def test_quality_is_compared_across_cards_and_the_reason_says_so(self) -> None:
        judgement = judged(claim(), scored(0.38, 0.37, 0.40, machine=CPU))
        assert judgement.verdict is V.REPRODUCED
        assert judgement.reason == "0.3912 documented, 0.3800 measured on CPU (Xeon) (documented on T4; spearman does not depend on the card)"

    def test_loss_is_found_among_the_measurements(self) -> None:
        one = claim(metric="train_loss_final", value=Decimal("0.001918"), direction="equal")
        assert judged(one, record(measurements={"train_loss_final": Quantity(0.0019184, "loss")}, machine=CPU)).verdict is V.REPRODUCED


class TestDifferingConditions:
    def test_every_difference_is_named_with_both_values_in_the_order_of_the_claim(self) -> None:
        small = scored(0.9, conditions=CONDITIONS | {"n_train": 700, "epochs": 5}, dataset=REAL.model_copy(update={"name": "skempi"}))
        judgement = judged(claim(), small.model_copy(update={"conditions": {**small.conditions, "dataset": "skempi"}}))
        assert judgement.verdict is V.NOT_COMPARABLE
        assert judgement.differences == ("dataset: documented abag, here skempi", "n_train: documented 231,532, here 700", "epochs: documented 100, here 5")
        assert judgement.reason == "; ".join(judgement.differences)
        assert judgement.measured is not None
        assert judgement.measured.value == 0.9

    def test_a_metric_that_no_run_gives_is_told_beside_the_differences(self) -> None:
        judgement = judged(claim(metric="bic"), record(conditions=CONDITIONS | {"epochs": 5}))
        assert judgement.reason == "epochs: documented 100, here 5; nor does any run of affinity-v1 here give bic"

    @pytest.mark.parametrize("metric", ["spearman", "train_wall_s", "vram_reserved_gb"])
    def test_synthetic_twin_is_never_compared_however_alike(self, metric: str) -> None:
        twin = record(dataset=TWIN, quality={"spearman": Quantity(0.3912, "rho")}, measurements={"train_wall_s": Quantity(1.0, "s"), "reserved_peak": Quantity(1e9, "bytes")})
        judgement = judged(claim(metric=metric), twin)
        assert judgement.verdict is V.NOT_COMPARABLE
        assert judgement.differences == ("data: documented abag, here a synthetic twin (abag-twin)",)

    def test_data_that_the_document_made_up_itself_may_be_synthetic(self) -> None:
        one = claim(metric="train_loss_first", value=Decimal("3.7144"), direction="equal", where={"dataset": "random-tokens"})
        ours = record(dataset=TWIN, conditions={"dataset": "random-tokens"}, measurements={"train_loss_first": Quantity(3.71441, "loss")})
        assert judged(one, ours, generated_datasets=("random-tokens",)).verdict is V.REPRODUCED
        assert judged(one, ours).verdict is V.NOT_COMPARABLE

    def test_unrecorded_condition_is_a_difference(self) -> None:
        assert judged(claim(), scored(0.39, conditions={"dataset": "abag", "n_train": 231_532})).differences == ("epochs: documented 100, here not recorded",)

    def test_open_division_is_not_the_documented_recipe(self) -> None:
        judgement = judged(claim(), scored(0.39, case="affinity-v1/documented/train/documented/open/bf16"))
        assert judgement.differences == ("division: documented closed, here open",)

    def test_phase_and_library_versions_can_be_conditions(self) -> None:
        one = claim(where={"phase": "eval", "triton": "2"})
        assert judged(one, scored(0.39)).differences == ("phase: documented eval, here train", "triton: documented 2, here not recorded")

    def test_numbers_beyond_any_float_do_no_harm(self) -> None:
        judgement = judged(claim(), scored(0.39, conditions=CONDITIONS | {"epochs": 10**400}))
        assert judgement.verdict is V.NOT_COMPARABLE


class TestSpeedAndMemory:
    @pytest.mark.parametrize(("metric", "key", "raw", "documented"), [("vram_reserved_gb", "reserved_peak", 0.68e9, "0.68"), ("train_sequences_per_s", "samples_per_s", 800.0, "800"), ("train_wall_s", "train_wall_s", 3144.0, "3144")])
    def test_measurements_are_converted_to_the_documented_unit(self, metric: str, key: str, raw: float, documented: str) -> None:
        measured = record(measurements={key: Quantity(raw, "?", low=raw * 0.9, high=raw * 1.1)})
        judgement = judged(claim(metric=metric, value=Decimal(documented)), measured)
        assert judgement.verdict is V.REPRODUCED
        assert judgement.measured is not None
        assert judgement.measured.value == pytest.approx(float(documented))
        assert judgement.measured.high == pytest.approx(float(documented) * 1.1)

    def test_card_is_a_condition(self) -> None:
        judgement = judged(claim(metric="train_wall_s"), record(machine=CPU, measurements={"train_wall_s": Quantity(1.0, "s")}))
        assert judgement.differences == ("gpu: documented T4, here CPU (Xeon)",)

    def test_training_speed_is_not_read_from_an_evaluation(self) -> None:
        speeds = {"samples_per_s": Quantity(5000.0, "samples/s")}
        trained = record(measurements={"samples_per_s": Quantity(800.0, "samples/s")})
        evaluated = record("affinity-v1/documented/eval/documented/closed/fp32", measurements=speeds, ended=datetime(2025, 1, 1, tzinfo=UTC))
        assert judged(claim(metric="train_sequences_per_s", value=800), trained, evaluated).record == trained

    def test_missing_figure_gives_its_own_reason(self) -> None:
        judgement = judged(claim(metric="vram_reserved_gb"), record(measurements={"reserved_peak": Quantity.missing("bytes", "the allocator was replaced")}))
        assert judgement.reason == "the runs of affinity-v1 give no vram_reserved_gb: the allocator was replaced"

    @pytest.mark.parametrize(
        ("changes", "verdict", "reason"),
        [
            ({}, V.REPRODUCED, "4 documented, 3 measured on Tesla T4; the run stayed within the documented memory"),
            ({"measurements": {"device_peak": Quantity(5e9, "bytes")}}, V.NOT_COMPARABLE, "4 documented, 5 measured on Tesla T4; a smaller batch might still fit"),
            ({"machine": CPU}, V.NOT_COMPARABLE, "device: the least memory that a model needs cannot be told from a run on a CPU"),
            ({"case": "affinity-v1/documented/train/smoke/closed/fp32"}, V.NOT_COMPARABLE, "preset: a smoke run asks less of the memory than the documented use"),
        ],
    )
    def test_least_memory_is_a_bound_that_a_twin_can_test_on_a_gpu(self, changes: dict[str, Any], verdict: V, reason: str) -> None:
        bound: dict[str, Any] = {"dataset": TWIN, "measurements": {"device_peak": Quantity(3e9, "bytes")}}
        one = claim(metric="min_vram_gb", value=4, direction="lower", kind="estimate", where={"variant": "documented"})
        judgement = judged(one, record(**bound | changes))
        assert (judgement.verdict, judgement.reason) == (verdict, reason)


class TestChoiceOfRecord:
    def test_comparable_beats_later(self) -> None:
        good, later = scored(0.38, 0.37, 0.40), scored(0.9, conditions={}, ended=datetime(2030, 1, 1, tzinfo=UTC))
        assert judged(claim(), later, good).record == good

    def test_latest_of_comparable_ones(self) -> None:
        old, new = scored(0.38), scored(0.37, ended=datetime(2030, 1, 1, tzinfo=UTC))
        assert judged(claim(), new, old).record == new

    def test_fewest_differences_of_incomparable_ones(self) -> None:
        near, far = scored(0.38, conditions=CONDITIONS | {"epochs": 5}), scored(0.37, conditions={}, ended=datetime(2030, 1, 1, tzinfo=UTC))
        assert judged(claim(), far, near).record == near

    def test_of_equally_close_ones_real_data_before_a_twin_then_standard_before_smoke_then_the_latest(self) -> None:
        def ended(day: int) -> datetime:
            return datetime(2030, 1, day, tzinfo=UTC)

        case = "affinity-v1/documented/train/{}/closed/fp32"
        other = REAL.model_copy(update={"name": "skempi"})
        real_smoke = scored(0.1, case=case.format("smoke"), dataset=other, conditions=CONDITIONS | {"dataset": "skempi"}, ended=ended(1))
        real = real_smoke.model_copy(update={"case": real_smoke.case.model_copy(update={"preset": "standard"}), "ended": ended(1)})
        twin = scored(0.2, case=case.format("standard"), dataset=TWIN, conditions=CONDITIONS | {"dataset": "abag-twin"}, ended=ended(3))
        smoke_twin = scored(0.3, case=case.format("smoke"), dataset=TWIN, conditions=CONDITIONS | {"dataset": "abag-twin"}, ended=ended(4))
        assert [len(judged(claim(), one).differences) for one in (real_smoke, real, twin, smoke_twin)] == [1, 1, 1, 1]
        assert judged(claim(), smoke_twin, twin, real, real_smoke).record == real
        assert judged(claim(), smoke_twin, twin, real_smoke).record == real_smoke
        assert judged(claim(), smoke_twin, twin).record == twin
        assert [judged(claim(), one).twin for one in (real, twin)] == [False, True]

    def test_failed_emulated_and_foreign_records_do_not_count(self) -> None:
        failed = record(outcome=Outcome.OOM, reason="CUDA out of memory")
        assert judged(claim(), failed).reason == "no run of affinity-v1/documented ended in order; the latest is oom: CUDA out of memory"
        assert judged(claim(), scored(0.39, emulated=("gpu: fake NVML",))).reason == "affinity-v1/documented ran only on emulated hardware"
        assert judged(claim(), scored(0.39, case="affinity-v2/documented/train/smoke/closed/fp32")).verdict is V.NOT_RUN


@pytest.mark.parametrize(
    ("documented", "device", "same"),
    [
        ("A40", "NVIDIA A40", True),
        ("A40", "NVIDIA RTX A4000", False),
        ("A40", "NVIDIA A40-48Q", False),
        ("T4", "Tesla T4", True),
        ("A100-80GB", "NVIDIA A100-SXM4-80GB", True),
        ("A100-80GB", "NVIDIA A100 80GB PCIe", True),
        ("A100-80GB", "NVIDIA A100-SXM4-40GB", False),
        ("A100-80GB", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", False),
        ("V100/A100", "Tesla V100-SXM2-16GB", True),
        ("V100/A100", "NVIDIA A100-SXM4-80GB", True),
        ("V100/A100", "NVIDIA H100 80GB HBM3", False),
        ("RTX4090", "NVIDIA GeForce RTX 4090", True),
        ("RTX4090", "NVIDIA GeForce RTX 4090 Laptop GPU", False),
        ("M1", "Apple M1", True),
        ("M1", "Apple M1 Max", False),
    ],
)
def test_device_names(documented: str, device: str, *, same: bool) -> None:
    assert matches_device(documented, device) is same


@pytest.mark.parametrize(
    ("verdicts", "code"),
    [
        ((V.REPRODUCED, V.NOT_RUN), ExitCode.OK),
        ((V.EXCEEDED,), ExitCode.OK),
        ((V.REPRODUCED, V.MISSED), ExitCode.VERDICT_FAILED),
        ((V.CONTRADICTED,), ExitCode.VERDICT_FAILED),
        ((V.NOT_COMPARABLE, V.NOT_RUN), ExitCode.INCONCLUSIVE),
        ((), ExitCode.INCONCLUSIVE),
    ],
)
def test_strict_exit_code(verdicts: tuple[V, ...], code: int) -> None:
    assert exit_code([Judgement(claim(), verdict, None, None, "") for verdict in verdicts]) == code


def test_judging_leaves_the_measured_quantity_as_it_was() -> None:
    quality = Quantity(0.38, "rho", 49_615, 0.37, 0.40, "percentile bootstrap")
    assert judged(claim(), record(quality={"spearman": quality})).measured == replace(quality)
