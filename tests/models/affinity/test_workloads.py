import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.datasets.abag import ABAG_CSV, FEATURE_COLUMNS, SKEMPI_CSV
from assay.datasets.card import DataError, MissingData
from assay.models.affinity import WORKLOADS, affinity_v1, affinity_v2
from assay.models.affinity.data import open_data
from assay.models.affinity.recipes import EPOCHS, V1
from assay.models.affinity.task import AffinityTask, make_splits
from assay.models.training import TrainingSession
from assay.models.workload import Resources

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def make_case(workload=affinity_v2, variant="documented", preset=Preset.SMOKE, division=Division.CLOSED, precision=Precision.FP32):
    return Case(workload.name, variant, Phase.TRAIN, preset, division, precision)


def make_resources(tmp_path, data=None, seed=7):
    return Resources(device=CPU, data=data, batch=None, seed=seed, cache=tmp_path / "cache")


def read(quantity, part="value"):
    number = getattr(quantity, part)
    assert number is not None
    return number


def ignore_progress(done, total, note):
    pass


def test_facts():
    v1, v2 = affinity_v1.facts("documented"), affinity_v2.facts("documented")
    assert (v1["parameters"], v2["parameters"], v2["linear_parameters"]) == (72_449, 251_777, 249_857)
    assert affinity_v2.facts("without-depth")["parameters"] == 72_449
    # batch norm adds two statistics per hidden unit and one 8-byte counter per layer to the float32 parameters
    assert v2["checkpoint_mb"] == pytest.approx((4 * (251_777 + 2 * 960) + 4 * 8) / 1e6, rel=1e-12)
    assert (v2["first_restart_epoch"], v2["second_restart_epoch"]) == (20, 60)
    assert [v1[f"{part}_rows_of_330762"] for part in ("train", "validation", "test")] == [231_532, 49_615, 49_615]


def test_declarations_cover_documented_split_ablations_and_open_division():
    assert set(affinity_v1.variants) == {"documented", "by-complex", "esm2"}
    assert len(affinity_v2.variants) == 11
    ablations = [variant for name, variant in affinity_v2.variants.items() if name.startswith("without-")]
    assert len(ablations) == 8
    assert all(variant.phases == (Phase.TRAIN,) and Preset.SCALE not in variant.presets for variant in ablations)
    assert affinity_v2.variants["documented"].precisions[Division.OPEN] == (Precision.BF16, Precision.FP16, Precision.FP32)
    for workload in WORKLOADS:
        assert set(workload.variants) == set(workload.recipes)


@pytest.mark.parametrize(("workload", "variant"), [(w, v) for w in WORKLOADS for v in w.variants if Preset.SMOKE in w.variants[v].presets])
def test_every_smoke_case_trains_on_the_twin_and_scores(tmp_path, workload, variant):
    session = workload.open(make_case(workload, variant), make_resources(tmp_path))
    history = session.fit(ignore_progress)
    assert len(history.train_loss) == len(history.validation_loss) == 5
    assert history.train_loss[-1] < history.train_loss[0]
    assert session.card.identity == workload.identify(make_case(workload, variant), None)
    assert session.conditions["dataset"] == "abag-twin"
    scores = session.evaluate()
    assert read(scores["rmse"]) > 0
    assert read(scores["spearman"]) > 0  # the planted signal is found within five epochs, whatever the variant


def test_open_division_in_bfloat16_learns_no_less_than_closed(tmp_path):
    closed = affinity_v2.open(make_case(), make_resources(tmp_path))
    opened = affinity_v2.open(make_case(division=Division.OPEN, precision=Precision.BF16), make_resources(tmp_path))
    losses = [session.fit(ignore_progress).validation_loss[-1] for session in (closed, opened)]
    assert losses[1] <= 1.02 * losses[0]


def test_equal_seeds_give_equal_weights_and_metrics(tmp_path):
    runs = []
    for seed in (3, 3, 4):
        session = affinity_v2.open(make_case(), make_resources(tmp_path, seed=seed))
        session.step()  # steps before the fit must not matter
        session.fit(ignore_progress)
        runs.append((session.model.state_dict(), session.evaluate()))
    assert all(torch.equal(a, b) for a, b in zip(runs[0][0].values(), runs[1][0].values(), strict=True))
    assert runs[0][1] == runs[1][1]
    assert not torch.equal(runs[0][0]["layers.0.weight"], runs[2][0]["layers.0.weight"])


@pytest.mark.parametrize("split", ["random", "by-complex"])
def test_a_trained_model_beats_the_mean_and_not_the_planted_best(tmp_path, split):
    recipe = replace(V1, split=split, training=replace(V1.training, epochs=40))
    data = open_data(Preset.SMOKE, recipe, make_resources(tmp_path))
    task = AffinityTask(recipe, data)
    session = TrainingSession(
        task, make_splits(recipe, data), recipe.training, card=data.card, conditions={}, unit="pairs", device=CPU, precision=Precision.FP32, seed=1
    )
    session.fit(ignore_progress)
    scores = session.evaluate()
    note = next(note for note in data.card.notes if note.startswith("planted best"))
    best_rmse, best_pearson = (float(part.split()[-1]) for part in note.removesuffix(" (Bayes predictor)").split(","))
    spread = data.pkd[data.split.test].std()
    assert best_rmse < 0.5 * spread
    assert 0.95 * best_rmse < read(scores["rmse"]) < spread  # 450 rows: the standard error of an RMSE is some 3 %
    assert 0.5 < read(scores["pearson"]) < best_pearson + 0.02


def test_real_pairs_end_to_end_and_the_random_split_leaks(tmp_path, real_data, monkeypatch):
    monkeypatch.setitem(EPOCHS, Preset.STANDARD, 100)  # a tenth of the preset's shows the leak as well
    rho, shared = {}, {}
    for variant in ("documented", "by-complex"):
        case = make_case(affinity_v1, variant, Preset.STANDARD)
        session = affinity_v1.open(case, make_resources(tmp_path, real_data))
        assert session.card.identity == affinity_v1.identify(case, real_data)
        assert (session.card.identity.name, session.card.identity.synthetic) == ("abag-skempi", False)
        assert sum(session.card.rows.values()) == 761
        session.fit(ignore_progress)
        rho[variant] = session.evaluate()["spearman"]
        shared[variant] = next(note for note in session.card.notes if "also have training rows" in note)
    assert shared["by-complex"].startswith("0 of the 6 complexes")
    assert int(shared["documented"].split()[0]) >= 15
    assert read(rho["documented"]) > read(rho["by-complex"]) + 0.25
    assert read(rho["by-complex"], "high") < read(rho["documented"])


def make_abag_folder(tmp_path, rows=60):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.standard_normal((rows, 150)), columns=list(FEATURE_COLUMNS))
    frame["pKd"], frame["antigen"], frame["pdb_id"] = random.uniform(4, 11, rows), "MK", [f"{i % 10}abc" for i in range(rows)]
    (tmp_path / ABAG_CSV).parent.mkdir()
    frame.to_csv(tmp_path / ABAG_CSV, index=False)
    return frame


def test_documented_preset_reads_the_abag_table_and_says_so(tmp_path):
    make_abag_folder(tmp_path)
    session = affinity_v2.open(make_case(preset=Preset.DOCUMENTED), make_resources(tmp_path, tmp_path))
    assert session.conditions == {"dataset": "abag", "split": "random", "n_train": 42, "n_test": 9, "epochs": 100, "batch": 128}
    assert session.step() == 42
    assert session.infer() == 9


def test_documented_preset_without_the_table_is_missing_data(tmp_path):
    case = make_case(preset=Preset.DOCUMENTED)
    with pytest.raises(MissingData, match="no data folder was given, and the documented preset has no twin"):
        affinity_v2.identify(case, None)
    with pytest.raises(MissingData, match=r"merged_with_all_features\.csv: no such file\. .*--data DIR"):
        affinity_v2.open(case, make_resources(tmp_path, tmp_path))


def test_bad_rows_and_empty_splits_reach_the_user_by_name(tmp_path):
    frame = make_abag_folder(tmp_path)
    frame.loc[11, "pKd"] = np.nan
    frame.to_csv(tmp_path / ABAG_CSV, index=False)
    with pytest.raises(DataError, match=r"merged_with_all_features\.csv, row 13: pKd is empty or NaN\. Correct or remove the row"):
        affinity_v2.open(make_case(preset=Preset.DOCUMENTED), make_resources(tmp_path, tmp_path))
    frame.head(2).to_csv(tmp_path / ABAG_CSV, index=False)
    with pytest.raises(DataError, match=r"merged_with_all_features\.csv: the train split is empty: 2 rows are too few"):
        affinity_v2.open(make_case(preset=Preset.DOCUMENTED), make_resources(tmp_path, tmp_path))
    with pytest.raises(DataError, match=r"split is empty: 2 groups cannot fill every part"):
        affinity_v2.open(make_case(variant="by-complex", preset=Preset.DOCUMENTED), make_resources(tmp_path, tmp_path))


def test_standard_falls_back_to_the_twin_and_scale_never_takes_real_data(tmp_path, real_data):
    assert affinity_v2.identify(make_case(preset=Preset.STANDARD), tmp_path).name == "abag-twin"
    assert affinity_v2.identify(make_case(preset=Preset.SCALE), real_data).synthetic


def test_esm2_needs_real_sequences():
    with pytest.raises(MissingData, match="ESM-2 embeds real sequences only"):
        affinity_v1.identify(make_case(affinity_v1, "esm2", Preset.STANDARD), None)


def test_features_never_see_test_rows(tmp_path, real_data):
    (tmp_path / SKEMPI_CSV).parent.mkdir()
    shutil.copy(real_data / SKEMPI_CSV, tmp_path / SKEMPI_CSV)
    before = open_data(Preset.STANDARD, V1, make_resources(tmp_path, tmp_path))
    frame = pd.read_csv(tmp_path / SKEMPI_CSV)
    frame.loc[before.split.test, "antigen"] = "WWWW"
    frame.to_csv(tmp_path / SKEMPI_CSV, index=False)
    after = open_data(Preset.STANDARD, V1, make_resources(tmp_path, tmp_path))
    np.testing.assert_array_equal(after.features[after.split.train], before.features[before.split.train])


def test_the_recipe_is_json_ready_and_follows_the_case():
    recipe = json.loads(json.dumps(affinity_v2.recipe(make_case())))
    assert recipe["training"]["epochs"] == 5
    assert recipe["shape"]["hidden"] == [512, 256, 128, 64]
    assert recipe["bin_edges"] == [0, 5, 7, 9, 11, 16]
    assert recipe["split_seed"] == 42
    assert affinity_v2.recipe(make_case(variant="by-complex"))["split"] == "by-complex"
    assert affinity_v2.recipe(make_case(preset=Preset.DOCUMENTED)) != affinity_v2.recipe(make_case())
