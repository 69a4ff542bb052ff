"""File-level workloads: the classifier, deconvolution in phases, re-normalisation, and the user's own files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.datasets.card import DataError, MissingData
from assay.datasets.methylation_samples import Stage, draw_proportions
from assay.models.tissuebert import tissuebert_deconvolution, tissuebert_file
from assay.models.tissuebert.deconvolution import PhasedSession, cut_hard, cut_soft, score_shares
from assay.models.tissuebert.file_network import FileShape
from assay.models.tissuebert.sample_recipes import CLASSIFIERS, resolve
from assay.models.workload import Resources

TINY = {"regions": 300, "hidden": 32, "bottleneck": 48}


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(workload, variant, preset=Preset.SCALE):
    return Case(workload.name, variant, Phase.TRAIN, preset, Division.CLOSED, Precision.FP32)


def open_tiny(workload, variant, tmp_path, data=None, preset=Preset.SCALE, rate=1e-3):
    """A session on the twin with a network that a test can afford."""
    recipe = workload.recipes[variant]
    faster = [replace(phase, training=replace(phase.training, learning_rate=rate, batch=16)) for phase in recipe.phases]
    recipe = replace(recipe, shape=replace(recipe.shape, **TINY), phases=tuple(faster), training=replace(recipe.training, learning_rate=rate, accumulate=1))
    small = replace(workload, recipes={variant: recipe})
    return small.open(make_case(small, variant, preset), Resources(device=torch.device("cpu"), data=data, batch=None, seed=1, cache=tmp_path))


def test_facts_are_those_of_the_documented_networks():
    assert [tissuebert_file.facts(name)["parameters"] for name in CLASSIFIERS] == [27_785_238, 27_235_350]
    assert tissuebert_deconvolution.facts("phase3")["parameters"] == 27_785_238
    assert tissuebert_deconvolution.facts("stage2")["parameters"] == 27_785_238 - 2_049  # one tissue less
    assert tissuebert_file.facts("bottleneck2048")["regions"] == 51_089


def test_documented_recipes():
    recipe = tissuebert_file.recipe(make_case(tissuebert_file, "bottleneck2048", Preset.DOCUMENTED))
    training = recipe["training"]
    assert isinstance(training, dict)
    assert [training[key] for key in ("batch", "accumulate", "learning_rate", "epochs")] == [4, 8, 1e-5, 50]
    phases = tissuebert_deconvolution.recipe(make_case(tissuebert_deconvolution, "phase3", Preset.DOCUMENTED))["phases"]
    assert isinstance(phases, tuple)
    assert [(phase["stage"], phase["mixtures"], phase["training"]["learning_rate"]) for phase in phases] == [
        ("two-tissues", 2_500, 1e-5),
        ("several", 5_000, 2e-6),
        ("blood", 7_500, 2e-6),
    ]


def test_the_open_division_takes_larger_batches_and_as_many_samples_an_update():
    case = replace(make_case(tissuebert_file, "bottleneck2048", Preset.DOCUMENTED), division=Division.OPEN)
    documented, standard = (resolve(tissuebert_file.recipes["bottleneck2048"], replace(case, preset=preset)) for preset in (Preset.DOCUMENTED, Preset.STANDARD))
    training = documented.training
    assert (training.batch, training.accumulate, training.learning_rate, training.fused) == (32, 1, 1e-5, True)
    assert (standard.training.batch, standard.training.accumulate, standard.training.learning_rate) == (16, 1, 1e-3)
    assert standard.quick_dropout
    assert not resolve(tissuebert_file.recipes["bottleneck2048"], make_case(tissuebert_file, "bottleneck2048")).quick_dropout


def test_the_classifier_learns_the_twin_and_stays_below_its_planted_best(tmp_path):
    session = open_tiny(tissuebert_file, "bottleneck2048", tmp_path, preset=Preset.STANDARD)
    session.fit(lambda *_: None)
    best = float(next(note for note in session.card.notes if "planted best" in note).split()[7])
    accuracy = session.evaluate()["accuracy"].value
    assert 0.5 < accuracy <= best + 0.02  # chance is 1 in 22
    assert sum(map(sum, session.curves.values())) == 175


def test_documented_conditions_read_the_users_files(tmp_path):
    session = open_tiny(tissuebert_file, "bottleneck2048", tmp_path, preset=Preset.DOCUMENTED, data=write_files(tmp_path))
    assert session.card.identity.name == "tissuebert-files"
    assert {key: session.conditions[key] for key in ("n_train", "n_test", "regions", "batch")} == {"n_train": 4, "n_test": 4, "regions": 300, "batch": 4}
    assert session._splits.train[0].unique().tolist() == [0.0, 1.0]
    assert session.step() == 4
    assert set(session.evaluate()) == {"accuracy", "macro_f1", "top3_accuracy"}


def test_a_tested_sample_is_not_trained_on(tmp_path):
    data = write_files(tmp_path)
    (tmp_path / "tissuebert" / "train.csv").write_text("filename,tissue_index\ntrain0.npz,0\ntrain1.npz,1\ntest3.npz,1\n")
    session = open_tiny(tissuebert_file, "bottleneck2048", tmp_path, preset=Preset.DOCUMENTED, data=data)
    assert (session.conditions["n_train"], session.conditions["n_test"]) == (2, 4)
    assert session.card.dropped == {"training samples whose file is in test": 1, "training samples whose name is in test": 0}


def write_files(tmp_path, regions=300):
    """Four samples a part: tissue 0 methylated, tissue 1 not."""
    folder = tmp_path / "tissuebert"
    folder.mkdir(exist_ok=True)
    for part in ("train", "test"):
        rows = ["filename,tissue_index"]
        for number in range(4):
            states = np.full((regions, 150), number % 2, dtype=np.uint8)
            np.savez(
                folder / f"{part}{number}.npz",
                dna_tokens=np.ones((regions, 150), np.int32),
                methylation=states,
                region_ids=np.arange(regions).astype(str),
                tissue_label=np.eye(119)[number % 2],
                sample_name=f"{part}{number}",
            )
            rows.append(f"{part}{number}.npz,{number % 2}")
        (folder / f"{part}.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_files_of_other_regions_or_without_a_tissue_to_mix_are_refused(tmp_path):
    data = write_files(tmp_path, regions=20)
    with pytest.raises(DataError, match="the train samples have 20 regions, the documented network reads 300"):
        open_tiny(tissuebert_file, "bottleneck2048", tmp_path, data=data, preset=Preset.DOCUMENTED)
    with pytest.raises(DataError, match="the train samples have none of Bladder, Blood"):
        open_tiny(tissuebert_deconvolution, "phase1", tmp_path, data=write_files(tmp_path), preset=Preset.DOCUMENTED)
    with pytest.raises(MissingData, match="no data folder was given"):
        tissuebert_file.identify(make_case(tissuebert_file, "bottleneck2048", Preset.DOCUMENTED), None)


def test_phases_go_on_from_the_weights_before(tmp_path):
    session = open_tiny(tissuebert_deconvolution, "phase3", tmp_path)
    assert isinstance(session, PhasedSession)
    notes = []
    history = session.fit(lambda done, total, note: notes.append(note))
    assert (len(history.train_loss), len(history.seconds)) == (3, 3)
    assert list(history.seconds) == sorted(history.seconds)
    assert {note.split(",")[0] for note in notes} == {"phase 1/3", "phase 2/3", "phase 3/3"}
    second_task, _ = session._phases[1]
    assert second_task.start is not None
    for name, weights in session._phases[0][1].model.state_dict().items():
        assert torch.equal(weights, second_task.start[name])
    assert session.model is session._phases[-1][1].model
    assert session.step() == session.infer() == 16


def test_deconvolution_learns_mixtures_and_is_set_beside_nnls(tmp_path):
    session = open_tiny(tissuebert_deconvolution, "phase1", tmp_path, preset=Preset.STANDARD, rate=1e-4)
    before = session.evaluate()["mae"].value
    session.fit(lambda *_: None)
    scores = session.evaluate()
    assert scores["mae"].value < 0.6 * before
    assert scores["r2"].value > 0.5
    assert scores["mae_nnls"].value < 0.03  # the twin's mixtures are what NNLS assumes
    assert scores["r2_nnls"].value > 0.9
    assert {"mae_hard0.05", "mae_hard0.03", "mae_soft"} <= set(scores)


def test_stage_2_tells_21_tissues(tmp_path):
    session = open_tiny(tissuebert_deconvolution, "stage2", tmp_path)
    assert session._last.predict_test().shape == (200, 21)
    session.fit(lambda *_: None)
    assert {"mae", "r2", "mae_nnls"} <= set(session.evaluate())


def test_perfect_shares_score_perfectly():
    shares = draw_proportions(Stage.SEVERAL, 40, seed=5)
    scores = score_shares(shares, shares, baseline=np.full_like(shares, 1 / 22))
    assert (scores["mae"].value, scores["r2"].value) == (0.0, 1.0)
    assert scores["r2_nnls"].value == pytest.approx(0, abs=1e-6)  # the mean share everywhere
    assert score_shares(shares.ravel(), shares.ravel())["mae"].value == 0


def test_renormalisations():
    shares = np.array([[0.9, 0.06, 0.04], [0.34, 0.33, 0.33]])
    np.testing.assert_allclose(cut_hard(shares, 0.05)[0], [0.9 / 0.96, 0.06 / 0.96, 0])
    np.testing.assert_allclose(cut_hard(shares, 0.03), shares)
    np.testing.assert_allclose(cut_hard(shares, 0.5)[1], [1, 0, 0])
    weights = shares[0] / (1 + np.exp(-10 * (shares[0] - 0.05)))
    np.testing.assert_allclose(cut_soft(shares)[0], weights / weights.sum())


def test_the_shape_follows_the_preset():
    standard = tissuebert_file.recipe(make_case(tissuebert_file, "bottleneck2048", Preset.STANDARD))["shape"]
    assert isinstance(standard, dict)
    assert standard["regions"] == 2_000
    assert FileShape().regions == 51_089
