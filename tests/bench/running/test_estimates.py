"""How long a case will take: which record is taken, and what is made of it, in exact numbers."""

import pytest

from assay.bench.case import Case, Outcome, Preset
from assay.bench.profiles import load_profile
from assay.bench.records.record import Record
from assay.bench.running.estimates import Estimate, History
from assay.datasets.card import DatasetIdentity
from tests.bench.running.past import H100, REAL, TWIN, past

TRAIN = "affinity-v2/documented/train/standard/closed/fp32"
EVAL = "affinity-v2/documented/eval/standard/closed/fp32"
OTHER = "affinity-v2/by-complex/train/standard/closed/fp32"
# 10,000 steps of 67 GFLOP are 10 s at the H100's 67 TFLOP/s of float32, beside 80 s that are no training
TRAINED = {"train_wall_s": 100.0, "step_ms": 10.0, "flops_per_step": 67e9}


def expect(case: str, *records: Record, profile: str = "h100", data: DatasetIdentity | None = TWIN) -> Estimate:
    found = Case.parse(case)
    return History(records, load_profile(profile), "Xeon", {found: data}).expect(found)


def test_the_latest_record_of_this_machine_is_taken_as_it_is() -> None:
    records = [past(TRAIN, 50, gpu=H100, measured=TRAINED), past(TRAIN, 40, gpu=H100, minutes=9), past(TRAIN, 7, minutes=99)]
    assert expect(TRAIN, *records) == Estimate(40.0, "record here")


def test_on_a_cpu_this_machine_is_the_one_with_this_cpu() -> None:
    records = [past(TRAIN, 50), past(TRAIN, 40, cpu="EPYC", minutes=9), past(TRAIN, 30, gpu=H100, minutes=9)]
    assert expect(TRAIN, *records, profile="cpu") == Estimate(50.0, "record here")
    assert expect(TRAIN, records[1], profile="cpu") == Estimate(40.0, "as on EPYC")


def test_training_elsewhere_is_scaled_to_the_peak_and_its_start_kept() -> None:
    assert expect(TRAIN, past(TRAIN, 180, measured=TRAINED)) == Estimate(90.0, "FLOPs at full peak: at least")


def test_the_utilisation_that_was_seen_here_is_used_of_the_same_workload_first() -> None:
    elsewhere = past(TRAIN, 180, measured=TRAINED)
    same, other = past(OTHER, 9, gpu=H100, measured={"mfu": 0.25}), past(OTHER.replace("v2", "v1"), 9, gpu=H100, measured={"mfu": 0.5})
    assert expect(TRAIN, elsewhere, same, other) == Estimate(120.0, "FLOPs at MFU 0.25")
    assert expect(TRAIN, elsewhere, other) == Estimate(100.0, "FLOPs at MFU 0.5")


@pytest.mark.parametrize("measured", [{}, {"train_wall_s": 100.0}, {"step_ms": 10.0, "flops_per_step": 67e9}])
def test_what_holds_no_arithmetic_is_taken_as_it_is_and_says_so(measured: dict[str, float]) -> None:
    assert expect(TRAIN, past(TRAIN, 180, measured=measured)) == Estimate(180.0, "as on Xeon")


def test_a_case_that_failed_here_is_expected_to_fail_again() -> None:
    assert expect(TRAIN, past(TRAIN, 180, measured=TRAINED), past(TRAIN, 12, gpu=H100, outcome=Outcome.OOM)) == Estimate(12.0, "oom here")


def test_other_data_scale_the_training_by_rows_that_a_record_has_counted() -> None:
    twin, real = past(TRAIN, 110, gpu=H100, measured=TRAINED), past(OTHER, 60, gpu=H100, data=REAL, rows=250)
    assert expect(TRAIN, twin, real, data=REAL) == Estimate(260.0, "record here, rows x 2.5")
    assert expect(TRAIN, twin, data=REAL) == Estimate(110.0, "record here")
    assert expect(TRAIN, twin, past(TRAIN, 70, gpu=H100, data=REAL), past(TRAIN, 5, gpu=H100, minutes=9), data=REAL) == Estimate(70.0, "record here")


def test_without_a_record_the_nearest_of_its_workload_and_phase_stands_in() -> None:
    assert expect(TRAIN, past(OTHER, 60, gpu=H100), past(EVAL, 5, gpu=H100)) == Estimate(60.0, "like by-complex, record here")
    assert expect(TRAIN.replace("v2", "v1"), past(TRAIN, 60)) == Estimate(None, "unknown: longest known set aside")


def test_the_same_variant_in_another_preset_is_scaled_by_what_other_variants_took_in_both() -> None:
    own, smoke = past(TRAIN.replace("standard", "smoke"), 6), past(OTHER.replace("standard", "smoke"), 4)
    assert expect(TRAIN, own, smoke, past(OTHER, 60)) == Estimate(90.0, "like smoke x 15, as on Xeon")
    assert expect(TRAIN, own, past(OTHER, 60)) == Estimate(60.0, "like by-complex, as on Xeon")


def test_else_by_the_epochs_of_both_recipes() -> None:
    """1,000 epochs in standard, 3 in scale: of 180 s, 80 are no training."""
    scale = TRAIN.replace("standard", "scale")
    standard = past(TRAIN, 180, measured=TRAINED, recipe={"training": {"epochs": 1000}})
    assert expect(scale, standard) == Estimate(80 + 10 * 0.003, "like standard, FLOPs at full peak: at least, epochs x 0.003")
    assert expect(scale, past(TRAIN, 180, measured=TRAINED)) == Estimate(None, "unknown: longest known set aside")


def test_an_evaluation_that_nobody_ran_takes_what_a_training_takes_beside_its_training() -> None:
    assert expect(EVAL, past(TRAIN, 180, measured=TRAINED)) == Estimate(80.0, "like documented train, less its training")


def test_emulated_and_interrupted_records_tell_nothing() -> None:
    records = [past(TRAIN, 60, gpu=H100, emulated=("gpu",)), past(TRAIN, 60, gpu=H100, outcome=Outcome.INTERRUPTED)]
    assert expect(TRAIN, *records) == Estimate(None, "unknown: longest known set aside")


def test_cases_that_end_without_running() -> None:
    skipped = past(OTHER, 3, outcome=Outcome.SKIPPED)
    assert expect(TRAIN, skipped, past(TRAIN, 60), data=None) == Estimate(3.0, "their data are missing")
    assert expect(TRAIN.replace("closed/fp32", "open/fp16")) == Estimate(0.0, "the open division takes another precision here")


def test_what_is_set_aside_for_the_unknown() -> None:
    smoke, scale = TRAIN.replace("standard", "smoke"), TRAIN.replace("standard", "scale")
    records = [past(smoke, 2), past(smoke, 4, gpu=H100), past(smoke, 6), past(scale, 90), past(smoke, 99, outcome=Outcome.TIMEOUT)]
    history = History(records, load_profile("h100"), "Xeon", {})
    assert [history.assume(preset) for preset in (Preset.SMOKE, Preset.SCALE, Preset.STANDARD)] == [4.0, 90.0, 90.0]
    assert History([], load_profile("h100"), "Xeon", {}).assume(Preset.SMOKE) == 0.0


def test_a_new_record_changes_the_estimate() -> None:
    case = Case.parse(TRAIN)
    history = History([past(TRAIN, 180)], load_profile("h100"), "Xeon", {case: TWIN})
    assert history.expect(case).seconds == 180.0
    history.learn(past(TRAIN, 20, gpu=H100))
    assert history.expect(case) == Estimate(20.0, "record here")
