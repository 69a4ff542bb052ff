"""An evaluation takes the weights of its own training, or says whose they are."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from assay.bench.case import Case, Outcome, Phase
from assay.bench.profiles import load_profile
from assay.bench.records.store import RunStore, read_record
from assay.bench.running.execution import Execution, Settings
from assay.datasets.card import MissingData
from assay.models.workload import ignore_progress

TRAIN = Case.parse("affinity-v1/documented/train/smoke/closed/fp32")
EVAL = replace(TRAIN, phase=Phase.EVAL)
WEIGHTS = "weights/affinity-v1.documented.train.smoke.closed.fp32.safetensors"


def execute(case: Case, run: Path, seed: int, parallel: int = 1) -> Execution:
    settings = Settings(
        run=RunStore.create(run.parent, run.name).folder,
        profile=load_profile("cpu"),
        data=None,
        seed=seed,
        cache=run.parent / "cache",
        round_seconds=0.01,
        rounds=3,
        warm_up_seconds=0.1,
        parallel=parallel,
        command=("pytest",),
    )
    return Execution(case, settings, ignore_progress, tuple)


def train(run: Path, seed: int) -> str:
    training = execute(TRAIN, run, seed)
    training.fit(training.open())
    weights = read_record(training.finish(Outcome.OK, None)).weights_sha256
    assert weights is not None
    return weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "one"
    train(run, seed=1)
    return run


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "one")
    return tmp_path / "one"


def load(run: Path, seed: int = 1, parallel: int = 1) -> tuple[str | None, str | None]:
    evaluation = execute(EVAL, run, seed, parallel)
    return evaluation.load_weights(evaluation.open()), evaluation.weights_sha256


def test_weights_of_the_same_training_are_taken_whatever_ran_beside_it(run):
    assert load(run, parallel=2) == (None, read_record(RunStore(run).find(TRAIN)[0]).weights_sha256)


def test_weights_of_the_latest_training_are_taken(run):
    assert load(run, seed=1)[1] != train(run, seed=2)
    assert load(run, seed=2)[0] is None


def test_weights_of_another_seed_are_refused(run):
    remedy = f"Train them anew with --select '{TRAIN.id}', or choose another --name"
    with pytest.raises(MissingData, match=rf"fp32\.safetensors: trained under other conditions \(here -> there: seed: 2 -> 1\)\. {remedy}"):
        load(run, seed=2)


def test_weights_without_the_record_of_a_training_are_refused(run):
    for path in RunStore(run).find(TRAIN):
        path.unlink()
    with pytest.raises(MissingData, match="no record of this run says how they were trained"):
        load(run)


def test_weights_that_were_exchanged_are_refused(run):
    path = run / WEIGHTS
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    with pytest.raises(MissingData, match=r"no record of this run says how they were trained: .*, or the file was changed since"):
        load(run)


def test_without_weights_the_reason_is_given(run):
    (run / WEIGHTS).unlink()
    assert load(run) == ("no trained weights: the training case of this run did not finish here", None)
