"""Ensembles and cross-validation: members that differ, averages and gains with known values, folds that cover every chromosome once."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from assay.bench.case import Case, Division, Phase, Precision, Preset, Quantity
from assay.datasets.card import DataError
from assay.datasets.splice_twin import make_splice_twin
from assay.datasets.splice_variants import TargetRecipe
from assay.models.hyenadna import splice_hyenadna, splice_hyenadna_binary, splice_hyenadna_ensemble
from assay.models.hyenadna.declaration import HyenaWorkload
from assay.models.splice import _others, splice_classifier, splice_ensemble, splice_validated
from assay.models.splice.ensemble import EnsembleRecipe, Kind
from assay.models.splice.ensemble.quality import score_gain, summarise_members
from assay.models.splice.ensemble.training import DeviceMemory, choose_lanes, measure_memory
from assay.models.splice.quality import area_under_roc
from assay.models.splice.recipes import SmokeSize
from assay.models.workload import Resources, ignore_progress

SMALL = "hidden128-layers6"
GIBIBYTE = 2**30


def shrink(workload):
    """The workload with a network that trains in a moment."""
    return replace(workload, recipes={SMALL: replace(workload.recipes[SMALL], hidden=16, layers=2)})


CLASSIFIER, VALIDATED = shrink(splice_classifier), shrink(splice_validated)


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(variant):
    return Case("splice-ensemble", variant, Phase.TRAIN, Preset.SMOKE, Division.CLOSED, Precision.FP32)


def open_session(recipe, tmp_path, seed=42):
    workload = replace(splice_ensemble, recipes={"tried": recipe})
    resources = Resources(device=torch.device("cpu"), data=None, batch=None, seed=seed, cache=tmp_path)
    return workload.open(make_case("tried"), resources)


def value_of(quality, metric):
    value = quality[metric].value
    assert value is not None
    return value


def test_facts_count_every_member_and_the_recipe_names_the_inner_case():
    assert splice_ensemble.facts("validated-5-members") == {"members": 5, "parameters": 5 * 3_011_843, "checkpoint_mb": pytest.approx(5 * 12.047372)}
    assert splice_ensemble.facts("validated-5-folds")["folds"] == 5
    recipe = splice_ensemble.recipe(make_case("classifier-2-members"))
    inner = Case("splice-classifier", SMALL, Phase.TRAIN, Preset.SMOKE, Division.CLOSED, Precision.FP32)
    assert recipe == {"kind": "members", "count": 2, "inner": f"splice-classifier/{SMALL}", "member": splice_ensemble.recipes["classifier-2-members"].inner.recipe(inner)}
    with pytest.raises(ValueError, match="two members or more, got 1"):
        EnsembleRecipe(inner=CLASSIFIER, variant=SMALL, kind=Kind.MEMBERS, count=1)


def test_members_are_the_inner_trainings_of_consecutive_seeds_and_quality_is_that_of_their_mean(tmp_path):
    session = open_session(EnsembleRecipe(inner=CLASSIFIER, variant=SMALL, kind=Kind.MEMBERS, count=2), tmp_path)
    assert session.conditions["seeds"] == "42 43"
    assert session.step() == 32
    assert session.infer() == 16
    seen = []
    history = session.fit(lambda done, total, note: seen.append((done, total, note)))
    assert (len(history.train_loss), len(history.seconds), history.best_epoch) == (2, 2, 1)
    assert seen[-1] == (12, 12, "member 2/2, epoch 2/2")
    quality = session.evaluate()

    inner = Case("splice-classifier", SMALL, Phase.TRAIN, Preset.SMOKE, Division.CLOSED, Precision.FP32)
    alone = [CLASSIFIER.open(inner, Resources(device=torch.device("cpu"), data=None, batch=None, seed=seed, cache=tmp_path)) for seed in (42, 43)]
    histories = [member.fit(ignore_progress) for member in alone]
    for member, ours in zip(alone, session.model, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(member.model.state_dict().values(), ours.state_dict().values(), strict=True))
    assert history.first_loss == pytest.approx(np.mean([each.first_loss for each in histories]))
    single = [value_of(member.evaluate(), "auroc") for member in alone]
    assert quality["member_mean_auroc"].value == pytest.approx(np.mean(single))
    assert quality["ensemble_gain_auroc"].value == pytest.approx(value_of(quality, "auroc") - np.mean(single))
    assert quality["ensemble_gain_auroc"].low is not None
    assert "bootstrap" in quality["ensemble_gain_auroc"].how
    assert quality["distinct_members"].value == 2
    assert quality["distinct_members"].how.count(",") == 1


INNER = [
    *((name, workload, variant) for name, (workload, variant) in _others.items()),
    ("hyenadna", splice_hyenadna, "tiny-1k"),
    ("hyenadna-binary", splice_hyenadna_binary, "small-32k"),
]


@pytest.mark.parametrize(("workload", "variant"), [pytest.param(workload, variant, id=name) for name, workload, variant in INNER])
@pytest.mark.parametrize("kind", list(Kind))
def test_any_splice_workload_can_be_an_inner_one(tmp_path, workload, variant, kind):
    tiny = {"model": "tiny-1k"} if isinstance(workload, HyenaWorkload) else {"hidden": 16, "layers": 2}
    recipe = replace(workload.recipes[variant], **tiny, smoke=SmokeSize(train=28, test=16, batch=8, epochs=1))
    inner = replace(workload, recipes={variant: recipe})
    session = open_session(EnsembleRecipe(inner=inner, variant=variant, kind=kind, count=2), tmp_path)
    training = inner.recipe(replace(make_case(variant), workload=inner.name))["training"]
    assert isinstance(training, dict)
    assert session.step() == 2 * min(8 * training["accumulate"], 24)  # 28 rows less those of the validation split
    history = session.fit(ignore_progress)
    assert len(history.train_loss) == 1
    quality = session.evaluate()
    assert quality["auroc"].n == len(session._test)
    assert quality[f"distinct_{kind}"].value == 2
    assert ("ensemble_gain_auroc" in quality) == (kind is Kind.MEMBERS)


def test_an_ensemble_counts_the_heads_of_what_is_in_it():
    assert splice_hyenadna_ensemble.facts("binary-small-32k-5-folds")["parameters"] == 5 * 3_543_553
    assert splice_ensemble.facts("simple-cnn-5-members")["parameters"] == 5 * 3_070_210


def test_equal_members_are_refused(tmp_path):
    session = open_session(EnsembleRecipe(inner=CLASSIFIER, variant=SMALL, kind=Kind.MEMBERS, count=2), tmp_path)
    session.model[1].load_state_dict(session.model[0].state_dict())
    with pytest.raises(RuntimeError, match="members 1 and 2 have equal weights: their seeds must differ"):
        session.evaluate()


def test_folds_hold_out_every_chromosome_once_and_score_out_of_fold(tmp_path):
    session = open_session(EnsembleRecipe(inner=VALIDATED, variant=SMALL, kind=Kind.FOLDS, count=3), tmp_path)
    held = [set(note.split(";")[0].split("test chromosomes ")[1].split(", ")) for note in session.card.notes if note.startswith("fold ")]
    twin = make_splice_twin(3_000, 61, 42, TargetRecipe.DOCUMENTED)
    assert len(held) == 3
    assert sorted(chromosome for fold in held for chromosome in fold) == sorted(np.unique(twin.chromosome))
    assert session.conditions["n_test"] == session.card.rows["test"] == 3 * 32
    quality = session.evaluate()
    assert quality["auroc"].n == 96
    assert quality["fold_mean_auroc"].n == quality["distinct_folds"].value == 3
    assert not [name for name in quality if name.startswith("ensemble_gain")]


def test_more_folds_than_chromosomes_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot fill 99 folds"):
        open_session(EnsembleRecipe(inner=VALIDATED, variant=SMALL, kind=Kind.FOLDS, count=99), tmp_path)


def test_side_by_side_gives_the_weights_of_in_turn(tmp_path):
    recipe = EnsembleRecipe(inner=CLASSIFIER, variant=SMALL, kind=Kind.MEMBERS, count=2)
    in_turn = open_session(recipe, tmp_path)
    in_turn.fit(ignore_progress)
    torch.set_num_threads(2)
    if choose_lanes(2, torch.device("cpu")).workers < 2:
        pytest.skip("too little free memory for two members at a time")
    side_by_side = open_session(recipe, tmp_path)
    history = side_by_side.fit(ignore_progress)
    assert len(history.seconds) == 2
    assert history.seconds[0] < history.seconds[1]
    for ours, theirs in zip(side_by_side.model.state_dict().values(), in_turn.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("free", "peak", "workers"),
    [
        (48 * GIBIBYTE, 2 * GIBIBYTE, 5),  # room for more than there are members
        (12 * GIBIBYTE, 2 * GIBIBYTE, 3),  # .8 x 12 / (2 + 600/1024) = 3.7
        (3 * GIBIBYTE, 2 * GIBIBYTE, 1),
        (GIBIBYTE, 2 * GIBIBYTE, 1),  # one trains whatever the estimate says: it has run a step
    ],
)
def test_members_share_a_gpu_as_far_as_its_memory_goes(free, peak, workers):
    assert choose_lanes(5, torch.device("cuda"), DeviceMemory(free, peak)).workers == workers


def test_memory_of_a_member_is_measured_on_cuda_alone(tmp_path):
    member = open_session(EnsembleRecipe(inner=CLASSIFIER, variant=SMALL, kind=Kind.MEMBERS, count=2), tmp_path)._members[0]
    assert measure_memory(member, torch.device("cpu")) is None


def test_members_train_in_turn_on_an_unknown_gpu_and_with_one_thread():
    assert choose_lanes(5, torch.device("cuda")).workers == 1
    assert (choose_lanes(5, torch.device("cpu")).workers, choose_lanes(5, torch.device("cpu")).threads) == (1, 1)


def test_the_interval_over_members_is_students():
    scores = [{"auroc": Quantity(value, "probability")} for value in (0.6, 0.7, 0.8)]
    mean = summarise_members(scores, "member")["member_mean_auroc"]
    half = 4.302653 * 0.1 / math.sqrt(3)  # t of 0.975 with 2 degrees of freedom
    assert [mean.value, mean.low, mean.high, mean.n] == pytest.approx([0.7, 0.7 - half, 0.7 + half, 3])
    scores[1] = {"auroc": Quantity.missing("probability", "one class")}
    assert summarise_members(scores, "fold")["fold_mean_auroc"].reason == "undefined for 1 of 3 folds"


def test_two_half_right_members_gain_what_averaging_gives_and_equal_ones_gain_nothing():
    test = make_splice_twin(400, 61, 1, TargetRecipe.DOCUMENTED)
    label = test.label.astype(float)
    odd = np.arange(len(label)) % 2 == 0
    members = [np.where(odd, label, 0.5), np.where(odd, 0.5, label)]
    gain = score_gain(test, np.mean(members, axis=0), members, ["auroc", "accuracy"])
    assert set(gain) == {"ensemble_gain_auroc"}
    assert gain["ensemble_gain_auroc"].value == pytest.approx(1 - np.mean([area_under_roc(label, member) for member in members]))
    low = gain["ensemble_gain_auroc"].low
    assert low is not None
    assert low > 0.1
    nothing = score_gain(test, members[0], [members[0], members[0]], ["auroc"])["ensemble_gain_auroc"]
    assert (nothing.value, nothing.low, nothing.high) == (0, None, None)  # all resamples agree
