"""Read-level workloads: declarations, recipes by preset, real and synthetic reads, streaming, quality."""

import math
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score

from assay.bench.case import Case, Division, Phase, Precision, Preset, UsageError
from assay.bench.registry import expand_cases, get_workload
from assay.datasets.card import MissingData
from assay.datasets.methylation import TISSUES
from assay.models.tissuebert import WORKLOADS, tissuebert, tissuebert_region
from assay.models.tissuebert.bert import BertShape, DocumentedBert, TissueBert
from assay.models.tissuebert.data import open_reads
from assay.models.tissuebert.quality import compute_macro_f1, count_confusions, score_classes, score_given_classes
from assay.models.tissuebert.recipes import Rows, resolve
from assay.models.tissuebert.region import RegionShape
from assay.models.tissuebert.task import ReadSession, ReadTask
from assay.models.workload import Resources

CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


# float16 needs a GPU
SMOKE = [case for case in expand_cases(WORKLOADS) if case.preset is Preset.SMOKE and case.precision is not Precision.FP16]


def make_case(workload=tissuebert, variant="batch8", preset=Preset.SMOKE, division=Division.CLOSED):
    return Case(workload.name, variant, Phase.TRAIN, preset, division, Precision.BF16 if division is Division.OPEN else Precision.FP32)


def open_session(case, tmp_path, data=None, seed=1):
    return get_workload(case.workload).open(case, Resources(device=CPU, data=data, batch=None, seed=seed, cache=tmp_path))


def make_small(workload, **recipe):
    """The workload with a network that a test can afford."""
    shape = {"hidden": 32, "layers": 2, "heads": 2}
    recipes = {
        name: replace(r, shape=replace(r.shape, **shape, **({"intermediate": 64} if workload is tissuebert else {"feed_forward": 64})), **recipe)
        for name, r in workload.recipes.items()
    }
    return replace(workload, recipes=recipes)


def test_facts():
    facts = tissuebert.facts("batch8")
    assert facts["parameters"] == 19_496_487
    assert facts["tokens_of_150_bases"] == 148
    assert facts["gradients_gb"] == pytest.approx(0.077986, rel=1e-4)
    assert facts["chance_loss"] == math.log(39)
    assert tissuebert_region.facts("documented")["parameters"] == 17_852_694


def test_every_documented_batch_is_a_variant_and_smoke_stays_small():
    assert list(tissuebert.variants) == ["batch8", "batch32", "batch64", "batch128", "batch256"]
    for name in tissuebert.variants:
        recipe = tissuebert.recipe(make_case(variant=name, preset=Preset.DOCUMENTED))["recipe"]
        assert isinstance(recipe, dict)
        assert f"batch{recipe['training']['batch']}" == name
    assert len(SMOKE) <= 4


def test_the_open_division_takes_our_network_and_the_closed_one_transformers(tmp_path):
    closed, opened = (open_session(make_case(division=division), tmp_path) for division in Division)
    assert type(closed.model) is DocumentedBert
    assert type(opened.model) is TissueBert
    assert (closed.conditions["tokens"], opened.conditions["tokens"]) == (26, 24)  # ours leaves out what is padding in every read


@pytest.mark.parametrize("case", SMOKE, ids=lambda case: case.id)
def test_every_smoke_case_starts_at_chance_and_scores(case, tmp_path):
    session = open_session(case, tmp_path)
    assert session.card.identity == get_workload(case.workload).identify(case, None)
    assert session.card.identity.synthetic
    assert any("planted best" in note for note in session.card.notes)
    classes = 39 if case.workload == "tissuebert" else 22
    history = session.fit(lambda *_: None)
    assert history.first_loss == pytest.approx(math.log(classes), rel=0.1)
    assert {"accuracy", "macro_f1", "top3_accuracy"} == set(session.evaluate())
    assert sum(map(sum, session.curves.values())) == session.conditions["n_test"]
    assert session.step() == session.infer() == 4


def test_documented_conditions_are_ten_steps_on_random_tokens(tmp_path):
    small = make_small(tissuebert)
    case = make_case(preset=Preset.DOCUMENTED, division=Division.OPEN)
    session = small.open(case, Resources(device=CPU, data=None, batch=None, seed=1, cache=tmp_path))
    assert {key: session.conditions[key] for key in ("dataset", "n_train", "batch", "epochs", "tokens")} == {
        "dataset": "random-tokens",
        "n_train": 80,
        "batch": 8,
        "epochs": 1,
        "tokens": 150,
    }
    calls = []
    session.fit(lambda done, total, note: calls.append(total))
    assert calls == [10] * 10
    scores = session.evaluate()
    first = scores["train_loss_first"]
    assert first.value == pytest.approx(math.log(39), abs=0.1)
    assert first.low < math.log(39) < first.high
    assert scores["vram_allocated_gb"].value is None
    assert "cpu" in scores["vram_allocated_gb"].reason


def test_scale_streams_rows_of_39_million_reads(tmp_path):
    small = make_small(tissuebert)
    session = small.open(make_case(preset=Preset.SCALE, division=Division.OPEN), Resources(device=CPU, data=None, batch=None, seed=1, cache=tmp_path))
    assert [len(batch) for batch in (session._splits.train, session._splits.test)] == [1, 1]  # row numbers, not reads
    train, test = (batch[0] for batch in (session._splits.train, session._splits.test))
    assert train.max() < 0.8 * 39_083_085 < test.min()
    assert (len(train), len(test)) == (128, 32)
    assert session.step() == session.infer() == 8
    assert set(session.evaluate()) == {"accuracy", "macro_f1", "top3_accuracy"}


def test_standard_reads_real_reads(real_data, tmp_path):
    session = make_small(tissuebert_region).open(
        make_case(tissuebert_region, "documented", Preset.STANDARD), Resources(device=CPU, data=real_data, batch=None, seed=1, cache=tmp_path)
    )
    assert session.conditions["dataset"] == "methylbert-reads"
    assert (session.conditions["n_train"], session.conditions["n_test"]) == (640, 160)
    assert session.card.dropped == {"training reads of a fragment in test": 430, "training reads equal to a test read": 3}
    assert session.infer() == 32
    assert "groups" in session.evaluate()["accuracy"].how
    assert list(session.curves) == ["confusion_N", "confusion_T"]


def test_the_models_learn_the_planted_signatures():
    small = make_small(tissuebert_region, label_smoothing=0.0)
    recipe = small.recipes["documented"]
    recipe = replace(recipe, shape=replace(recipe.shape, classes=3, cpg_dropout=0.0, dropout=0.0), training=replace(recipe.training, learning_rate=3e-3))
    case = make_case(tissuebert_region, "documented")
    resolved = resolve(recipe, case)
    resolved = replace(resolved, rows=Rows(train=600, test=200), regions=2, bases=60)
    resolved = replace(resolved, recipe=replace(resolved.recipe, shape=replace(resolved.recipe.shape, layers=2)))
    data = open_reads(resolved, case, None)
    training = replace(resolved.recipe.training, epochs=6, batch=32)
    session = ReadSession(
        ReadTask(resolved, data), data.splits, training, card=data.card, conditions={}, unit="sequences", device=CPU, precision=Precision.FP32, seed=0
    )
    session.fit(lambda *_: None)
    best = float(next(note for note in data.card.notes if "planted best" in note).split()[7])
    reached = session.evaluate()["accuracy"]
    assert reached.value is not None
    assert best - 0.25 < reached.value < best + 0.1


def test_documented_region_data_are_the_users_files(tmp_path):
    case = make_case(tissuebert_region, "documented", Preset.DOCUMENTED)
    with pytest.raises(MissingData, match="no data folder was given"):
        tissuebert_region.identify(case, None)
    with pytest.raises(MissingData, match=r"tissuebert/train\.csv: not found"):
        tissuebert_region.identify(case, tmp_path)


def write_hdf5(folder, part, samples, regions):
    with h5py.File(folder / f"{part}.h5", "w") as file:
        file.create_dataset("dna_tokens", data=np.tile(np.arange(regions, dtype=np.uint8)[:, None] % 64, (samples, 1, 150)))
        file.create_dataset("methylation", data=np.full((samples, regions, 150), 2, np.uint8))
        names = [f"{part}{number}" for number in range(samples)]
        labels = np.arange(samples) % 22
        file.attrs.update({"n_regions_per_file": regions, "seq_length": 150, "n_tissues": 22, "tissue_labels": labels, "sample_names": names})


def test_documented_reads_are_opened_at_few_bytes_a_row(tmp_path):
    """175 files of 51,089 regions are 9 million test rows: row numbers, labels and samples of theirs fit, tokens and states do not."""
    folder, samples, regions = tmp_path / "tissuebert", 100, 1_000
    folder.mkdir()
    write_hdf5(folder, "train", 2, regions)
    write_hdf5(folder, "test", samples, regions)
    case = make_case(tissuebert_region, "documented", Preset.DOCUMENTED)
    resolved = resolve(tissuebert_region.recipes["documented"], case)
    tracemalloc.start()
    data = open_reads(resolved, case, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    groups = np.asarray(data.groups)
    assert (len(data.label), len(groups), data.label[-1], groups[-1]) == (100_000, 100_000, 99 % 22, 99)
    assert peak < 60 * samples * regions  # of which 10 are the buffer that hashes the files; tokens and states are 300 bytes a row


def test_a_documented_region_run_trains_and_scores_at_few_bytes_a_row(tmp_path):
    folder, samples, regions = tmp_path / "tissuebert", 30, 200
    folder.mkdir()
    write_hdf5(folder, "train", 2, regions)
    write_hdf5(folder, "test", samples, regions)
    small = RegionShape(hidden=16, layers=1, heads=1, feed_forward=16, head=16)
    recipes = {name: replace(recipe, shape=small) for name, recipe in tissuebert_region.recipes.items()}
    workload, case = replace(tissuebert_region, recipes=recipes), make_case(tissuebert_region, "documented", Preset.DOCUMENTED)
    session = workload.open(case, Resources(device=CPU, data=tmp_path, batch=None, seed=1, cache=tmp_path))
    history = session.fit(lambda *_: None)
    rows = samples * regions
    assert (session.conditions["n_train"], session.conditions["n_test"], len(history.train_loss)) == (2 * regions, rows, 1)
    tracemalloc.start()
    scores = session.evaluate()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500 * rows  # 200 resamples at a time would be 1,600 bytes a row
    assert (scores["accuracy"].n, scores["accuracy"].how) == (rows, "percentile bootstrap, 200 resamples of 30 groups")
    assert sum(map(sum, session.curves.values())) == rows


def test_quality_equals_scikit_learns():
    random = np.random.default_rng(0)
    truth, scores = random.integers(0, 22, 400), random.random((400, 22))
    predicted = scores.argmax(axis=1)
    assert compute_macro_f1(truth, predicted) == pytest.approx(f1_score(truth, predicted, average="macro"))
    quality = score_classes(truth, scores)
    assert quality["accuracy"].value == (truth == predicted).mean()
    assert quality["top3_accuracy"].value == np.mean([t in np.argsort(-s)[:3] for t, s in zip(truth, scores, strict=True)])
    rows = count_confusions(truth, predicted, TISSUES)
    assert list(rows.values()) == confusion_matrix(truth, predicted).tolist()
    given = score_given_classes(truth, predicted)
    assert {name: given[name].value for name in given} == {name: quality[name].value for name in given}
    with pytest.raises(UsageError, match=r"prediction number 2 is 0\.5; give the numbers of classes"):
        score_given_classes(np.array([1.0, 2.0]), np.array([1.0, 0.5]))


def test_ours_trains_like_transformers_from_the_same_weights(tmp_path):
    torch.manual_seed(0)
    shape = BertShape(hidden=32, layers=2, heads=2, intermediate=64, dropout=0.0, attention_dropout=0.0)
    theirs, ours = DocumentedBert(shape), TissueBert(shape)
    ours.load_state_dict(theirs.state_dict())
    tokens, label = torch.randint(0, 64, (24, 30), dtype=torch.uint8), torch.randint(0, 39, (24,))
    for network in (theirs, ours):
        optimiser = torch.optim.AdamW(network.parameters(), 1e-3, fused=network is ours)
        for _ in range(5):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(tokens), label).backward()
            optimiser.step()
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens), ours(tokens), rtol=0, atol=1e-3)


def test_a_tissuebert_training_resumes_to_the_same_weights(tmp_path):
    small, case = make_small(tissuebert), make_case(division=Division.OPEN)
    whole, resumed = (small.open(case, Resources(device=CPU, data=None, batch=None, seed=1, cache=tmp_path)) for _ in range(2))
    path = tmp_path / "c.safetensors"
    whole.fit(lambda done, total, note: whole.save_checkpoint(path) if done == 3 else None)
    resumed.load_checkpoint(path)
    resumed.fit(lambda *_: None)
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name]), name
