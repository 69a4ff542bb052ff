"""The workload as the suite sees it: facts, recipes, data by preset, the four stages, determinism."""

import csv
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from assay.bench.case import Case, Division, Outcome, Phase, Precision, Preset, Unsupported
from assay.bench.records.store import RunStore
from assay.bench.registry import expand_cases
from assay.datasets.audiograms import FULL_CSV, UNION_CSV
from assay.datasets.card import DataError, MissingData
from assay.models.audiogram import WORKLOADS, audiogram_vae
from assay.models.audiogram.recipes import RECIPES, resolve
from assay.models.audiogram.session import AudiogramSession
from assay.models.workload import Resources
from tests.conftest import ROOT

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(variant="memory-optimised", preset=Preset.SMOKE, division=Division.CLOSED, precision=Precision.FP32):
    return Case(audiogram_vae.name, variant, Phase.TRAIN, preset, division, precision)


def open_session(tmp_path, variant="memory-optimised", data=None, batch=None, seed=0, **changes):
    """The smoke case of any variant, also of those that the preset leaves out."""
    case = make_case(variant)
    workload = replace(audiogram_vae, recipes={name: replace(recipe, **changes) for name, recipe in RECIPES.items()})
    return workload.open(case, Resources(device=CPU, data=data, batch=batch, seed=seed, cache=tmp_path / "cache"))


def ignore_progress(done, total, note):
    pass


@pytest.mark.parametrize(("variant", "parameters"), [("base", 19_455), ("memory-optimised", 50_459), ("large", 172_315)])
def test_facts(variant, parameters):
    facts = audiogram_vae.facts(variant)
    assert facts["parameters"] == parameters
    assert facts["weights_gb"] == pytest.approx(4 * parameters / 1e9)
    assert facts["checkpoint_mb"] == pytest.approx(4 * parameters / 1e6, rel=0.05)
    assert facts["checkpoint_mb"] > 4 * parameters / 1e6  # batch-norm statistics come on top


def test_three_smoke_cases_and_the_documented_recipe():
    smoke = [case for case in expand_cases(WORKLOADS) if case.preset is Preset.SMOKE]
    assert [(case.variant, case.phase) for case in smoke] == [("memory-optimised", Phase.TRAIN), ("memory-optimised", Phase.EVAL), ("large", Phase.TRAIN)]
    recipe = json.loads(json.dumps(audiogram_vae.recipe(make_case("base", Preset.DOCUMENTED))))
    assert (recipe["pretrain_epochs"], recipe["joint_epochs"], recipe["batch"], recipe["recentre_every"]) == (50, 150, 512, 10)
    assert (recipe["learning_rate"], recipe["weight_decay"], recipe["clip"], recipe["patience"]) == (1e-3, 1e-5, 1.0, 30)
    assert recipe["weights"]["ABR_WEIGHT"] == 2
    assert audiogram_vae.recipe(make_case("memory-optimised", Preset.DOCUMENTED))["batch"] == 256
    assert audiogram_vae.recipe(make_case("base", Preset.DOCUMENTED, Division.OPEN))["fused"] is True


def test_learning_rate_falls_along_one_cosine():
    recipe = RECIPES["base"]
    assert recipe.rate(0) == pytest.approx(1e-3)
    assert recipe.rate(100) == pytest.approx((1e-3 + 1e-6) / 2)
    assert recipe.rate(200) == pytest.approx(1e-6)


def test_data_by_preset(tmp_path, real_data):
    assert audiogram_vae.identify(make_case(), None).name == "audiogram-twin"
    assert audiogram_vae.identify(make_case(), tmp_path).name == "audiogram-twin"
    assert audiogram_vae.identify(make_case(preset=Preset.STANDARD), real_data).name == "impc-abr-union"
    assert audiogram_vae.identify(make_case(preset=Preset.SCALE), real_data).synthetic
    with pytest.raises(MissingData, match="no data folder was given"):
        audiogram_vae.identify(make_case(preset=Preset.DOCUMENTED), None)
    with pytest.raises(MissingData, match=FULL_CSV.name):
        audiogram_vae.identify(make_case(preset=Preset.DOCUMENTED), tmp_path)


def test_smoke_passes_through_four_stages_and_its_weights_load_elsewhere(tmp_path):
    session = open_session(tmp_path)
    assert session.step() in range(127, 130)
    notes = []
    history = session.fit(lambda done, total, note: notes.append(note))
    assert notes[0].startswith("pre-training")
    assert "k-means with 6 clusters" in notes
    assert notes[-1].startswith("joint training")
    assert len(history.train_loss) == len(history.validation_loss) == len(history.seconds) == 2
    assert history.curves["search_clusters"] == list(range(6, 19))
    scores = session.evaluate()
    assert scores["clusters_chosen"].value == int(np.median(history.curves["search_votes"]))
    for name in ("abr_rmse", "abr_rmse_click", "silhouette_abr", "purity", "ari", "nmi", "genes_enriched", "baseline_kmeans_ari", "baseline_mean_abr_rmse"):
        assert scores[name].value is not None, name
    assert scores["baseline_gmm_ari"].reason == "this preset fits no Gaussian mixture"
    assert scores["search_silhouette_k12"].value == history.curves["search_silhouette"][6]
    assert [scores[f"search_vote_{name}"].value for name in ("silhouette", "davies_bouldin", "calinski_harabasz", "elbow")] == history.curves["search_votes"]
    assert scores["validation_total"].value == history.validation_loss[history.best_epoch]
    assert scores["best_joint_epoch"].value == 1
    assert scores["graph_bytes_per_step"].value > 128 * 4 * 128  # one hidden layer of one batch, to begin with
    assert any("planted best" in note for note in session.card.notes)
    other = open_session(tmp_path, seed=9)
    other.model.load_state_dict(session.model.state_dict())
    ours = {name: quantity for name, quantity in scores.items() if not name.startswith(("search_", "validation_total", "best_joint", "graph_bytes", "steps_to_"))}
    assert other.evaluate() == ours  # the search and the epochs are the training's own
    assert other.infer() == session.card.rows["test"]  # 96 mice in one batch


def test_baselines_have_the_networks_number_of_clusters_and_all_are_compared_in_one_space(tmp_path):
    session = open_session(tmp_path)
    for clusters in (7, 9):
        session._network.set_centres(torch.randn(clusters, 24))
        scores = session.evaluate()
        assert scores["clusters_chosen"].value == clusters
        assert f"{clusters} clusters, as many as the network's" in scores["baseline_kmeans_clusters_found"].how
        assert scores["baseline_kmeans_silhouette_abr"].value == scores["baseline_kmeans_silhouette"].value
    for name in ("silhouette_abr", "genes_enriched_all", "baseline_kmeans_genes_enriched_all"):
        assert name in scores
    assert scores["baseline_gmm_silhouette_abr"].reason == "this preset fits no Gaussian mixture"


@pytest.mark.parametrize(("scale", "collapsed"), [(100.0, 0), (1e-6, 1)])
def test_a_collapsed_network_is_marked_and_its_latent_space_not_scored(tmp_path, scale, collapsed):
    session = open_session(tmp_path)
    with torch.no_grad():
        for parameter in session._network.mean.parameters():
            parameter.mul_(scale)
    scores = session.evaluate()
    assert scores["collapsed"].value == collapsed
    assert (scores["active_dimensions"].value == 0) == collapsed
    reason = "collapsed: no latent dimension varies by more than 0.01 over the mice, so distances in it are no structure"
    assert scores["silhouette"].reason == (reason if collapsed else None)
    assert (scores["silhouette_abr"].reason or "") != reason


def test_genes_with_one_mouse_are_counted_in_card_and_conditions(tmp_path, real_data):
    session = open_session(tmp_path, data=real_data)
    genes = session._data.table.genes[session._data.split.train]
    names, counts = np.unique(genes[genes != ""], return_counts=True)
    single = int((counts == 1).sum())
    assert (session.conditions["genes"], session.conditions["genes_single"]) == (len(names), single)
    note = f"{single} of {len(names)} training genes have one mouse: it has no contrastive partner; without these genes {len(names) - single} would remain"
    assert note in session.card.notes
    twin = open_session(tmp_path)
    assert twin.conditions["genes_single"] == 0
    assert not any("have one mouse" in note for note in twin.card.notes)


def test_a_step_trains_whatever_was_called_before_it(tmp_path):
    session = open_session(tmp_path)
    session.step()
    session.infer()
    assert not session.model.training
    session.step()  # of the same epoch
    assert session.model.training


def test_equal_seeds_give_equal_weights(tmp_path):
    one, other, third = (open_session(tmp_path, seed=seed) for seed in (1, 1, 2))
    one.step()
    losses = [session.fit(ignore_progress).train_loss for session in (one, other, third)]
    assert losses[0] == losses[1] != losses[2]
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_documented_training_keeps_its_graphs_and_corrected_training_none(tmp_path):
    stages = {"joint_epochs": 3}
    curves = {}
    for variant in ("base", "base-corrected"):
        session = open_session(tmp_path, variant)
        session._recipe = replace(session._recipe, **stages)
        curves[variant] = session.fit(ignore_progress).curves["history_graph_nodes"]
    first, second, third = curves["base"]
    assert second - first == third - second > 100
    assert curves["base-corrected"] == [0, 0, 0]


def test_corrected_training_learns_what_the_documented_decoder_cannot(tmp_path):
    errors, baseline = {}, 0.0
    for variant in ("base", "base-corrected"):
        session = open_session(tmp_path, variant, batch=64, learning_rate=1e-2)
        session._recipe = replace(session._recipe, pretrain_epochs=12, joint_epochs=1)
        session.fit(ignore_progress)
        scores = session.evaluate()
        errors[variant], baseline = scores["abr_rmse"].value, scores["baseline_mean_abr_rmse"].value
    assert errors["base-corrected"] < 0.75 * baseline
    assert errors["base-corrected"] < 0.8 * errors["base"]


def test_a_case_leaves_the_search_and_the_memory_curve_in_its_record(tmp_path):
    run = tmp_path / "run"
    arguments = ["--assay-case", make_case().id, "--assay-run", str(run)]
    done = subprocess.run([sys.executable, "-m", "pytest", "bench/cases", "-q", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = RunStore(run).read()
    assert record.outcome is Outcome.OK
    assert record.facts["parameters"] == 50_459
    assert list(record.curves["search_clusters"]) == list(range(6, 19))
    assert record.curves["history_graph_nodes"][0] > 100
    assert len(record.curves["resident_bytes"]) == 1


def test_early_stop_keeps_the_best_epoch(tmp_path):
    session = open_session(tmp_path)
    session._recipe = replace(session._recipe, joint_epochs=6, patience=1, min_delta=1e9)
    history = session.fit(ignore_progress)
    # nothing improves by so much but the first epoch, which beats infinity
    assert (history.best_epoch, history.stopped_early, len(history.train_loss)) == (1, True, 3)


def test_real_mice_train_and_score(tmp_path, real_data):
    session = open_session(tmp_path, "base-corrected", data=real_data)
    session.fit(ignore_progress)
    scores = session.evaluate()
    assert scores["ari"].value is None
    assert scores["abr_rmse_6khz"].value is not None
    assert session.conditions["dataset"] == "impc-abr-union"
    assert any("control mice have no gene" in note for note in session.card.notes)


def test_a_table_without_two_mice_of_a_gene_is_refused(tmp_path, real_data):
    with (real_data / UNION_CSV).open(newline="") as stream:
        header, *rows = csv.reader(stream)
    place, seen, kept = header.index("gene_symbol"), set(), []
    for row in rows:
        if row[place] and row[place] not in seen:
            seen.add(row[place])
            kept.append(row)
    path = tmp_path / UNION_CSV
    path.parent.mkdir()
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *kept])
    with pytest.raises(DataError, match="no gene has two mice in the training split"):
        open_session(tmp_path, data=tmp_path)


def test_a_table_of_fewer_mice_than_clusters_is_refused(tmp_path, real_data):
    header, *rows = (real_data / UNION_CSV).read_text().splitlines()
    path = tmp_path / UNION_CSV
    path.parent.mkdir()
    path.write_text("\n".join([header, *rows[:20]]) + "\n")
    with pytest.raises(DataError, match=r"union_unique_mice\.csv: \d+ training mice are too few for a search up to 18 clusters"):
        open_session(tmp_path, data=tmp_path)


def test_the_conditions_tell_the_documented_recipe_from_the_corrected_one(tmp_path):
    told = [open_session(tmp_path, variant=variant).conditions["recipe"] for variant in ("base", "base-corrected")]
    assert told == ["original", "corrected"]


def test_a_profiles_batch_is_taken(tmp_path):
    session = open_session(tmp_path, batch=64)
    assert session.conditions["batch"] == 64
    assert session.step() in range(63, 66)


def test_impossible_precision_is_refused_before_any_work(tmp_path):
    with pytest.raises(Unsupported):
        audiogram_vae.open(make_case(precision=Precision.TF32), Resources(device=CPU, data=None, batch=None, seed=0, cache=tmp_path))


def test_sessions_have_the_frames_face(tmp_path):
    session = open_session(tmp_path)
    assert isinstance(session, AudiogramSession)
    assert session.unit == "mice"
    assert resolve(RECIPES["base"], make_case("base", Preset.SCALE)).joint_epochs == 2


def test_score_of_predictions_made_elsewhere():
    scores = audiogram_vae.score(np.array([40.0, 50.0]), np.array([43.0, 46.0]))
    assert scores["abr_rmse"].value == pytest.approx(np.sqrt(12.5))
    assert scores["abr_mae"].value == pytest.approx(3.5)
