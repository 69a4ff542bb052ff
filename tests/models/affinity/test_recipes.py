from dataclasses import asdict, replace

import pytest

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.models.affinity.recipes import ABLATIONS, V1, V2, find_restarts, resolve


def flatten(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, part in value.items() for name, leaf in flatten(part, f"{prefix}.{key}".lstrip(".")).items()}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("without-gelu", {"shape.activation": "relu"}),
        ("without-depth", {"shape.hidden": (256, 128), "shape.dropout": (0.3, 0.3)}),
        ("without-extreme-weights", {"extreme_factor": 1.0}),
        ("without-low-rate", {"training.learning_rate": 1e-3, "training.schedule.floor": 1e-5}),
        ("without-focal", {"focal_gamma": None}),
        ("without-clipping", {"training.clip": None}),
        ("without-restarts", {"training.optimiser": "adam", "training.weight_decay": 1e-5, "training.schedule": "plateau"}),
        ("without-xavier", {"shape.initialisation": "torch-default"}),
    ],
)
def test_each_ablation_takes_back_one_change_and_nothing_else(name, changed):
    ours, full = flatten(asdict(ABLATIONS[name][1])), flatten(asdict(V2))
    different = {key: value for key, value in ours.items() if value != full[key]}
    if name == "without-restarts":
        assert ABLATIONS[name][1].training.schedule == V1.training.schedule
        different = {key: value for key, value in different.items() if "schedule" not in key} | {"training.schedule": ours["training.schedule.kind"]}
    assert different == changed


def test_taking_back_all_eight_changes_gives_v1():
    recipe = V2
    for _, ablation in ABLATIONS.values():
        for name in ("extreme_factor", "focal_gamma"):
            if getattr(ablation, name) != getattr(V2, name):
                recipe = replace(recipe, **{name: getattr(ablation, name)})
        shape = {name: value for name, value in asdict(ablation.shape).items() if value != asdict(V2.shape)[name]}
        training = {name: getattr(ablation.training, name) for name in asdict(V2.training) if getattr(ablation.training, name) != getattr(V2.training, name)}
        recipe = replace(recipe, shape=replace(recipe.shape, **shape), training=replace(recipe.training, **training))
    assert recipe == V1


def test_the_schedule_restarts_at_20_and_60():
    assert find_restarts(V2.training) == [20, 60]
    assert find_restarts(replace(V2.training, epochs=60)) == [20]


def test_presets_set_epochs_and_the_open_division_takes_fewer_larger_steps():
    case = Case("affinity-v2", "documented", Phase.TRAIN, Preset.DOCUMENTED, Division.CLOSED, Precision.FP32)
    closed = resolve(V2, case).training
    assert (closed.epochs, closed.batch, closed.fused) == (100, 128, False)
    smoke = resolve(V2, replace(case, preset=Preset.SMOKE, division=Division.OPEN, precision=Precision.BF16)).training
    assert (smoke.epochs, smoke.fused, smoke.batch) == (5, True, 512)
    assert (smoke.learning_rate, smoke.schedule.floor) == pytest.approx((8e-4, 8e-6))
    assert not resolve(V2, case).quick_dropout
