"""A training that is killed and resumed ends with the very same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from assay.bench.case import Precision
from assay.datasets.card import DataError, DatasetCard, identify_twin
from assay.models.schedule import Schedule
from assay.models.training import Recipe, Splits, TrainingSession
from tests.conftest import ROOT

FULL = Recipe(
    optimiser="adamw",
    learning_rate=0.01,
    weight_decay=0.01,
    batch=8,
    epochs=6,
    schedule=Schedule(kind="one-cycle", peak=0.05),
    clip=1.0,
    accumulate=3,
    keep_best=True,
    patience=5,
)


class Noisy:
    """Dropout and batch norm: random numbers and buffers must come back too."""

    width = 8

    def build(self):
        return nn.Sequential(nn.Linear(1, self.width), nn.BatchNorm1d(self.width), nn.Dropout(0.3), nn.Linear(self.width, 1))

    def loss(self, model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    def predict(self, model, batch):
        return model(batch[0])

    def score(self, prediction):
        return {}


def open_session(task=None, seed=3, precision=Precision.FP32, **recipe):
    x = torch.linspace(0, 1, 75).unsqueeze(1)
    splits = Splits((x, 2 * x), (x[::5], 2 * x[::5]), (x[::7], 2 * x[::7]))
    card = DatasetCard(identify_twin("line", rows=75), "drawn here", "CC0-1.0", {"train": 75})
    changed = replace(FULL, **recipe)
    return TrainingSession(task or Noisy(), splits, changed, card=card, conditions={}, unit="points", device=torch.device("cpu"), precision=precision, seed=seed)


def fit(session, save_at=None, path=None):
    def progress(done, total, note):
        if done == save_at:
            session.save_checkpoint(path)

    return session.fit(progress)


def assert_equal(ours, theirs):
    for name, tensor in ours.model.state_dict().items():
        assert torch.equal(tensor, theirs.model.state_dict()[name]), name


# 1: the first batch; 4: amid an accumulation; 10: an epoch's last batch; 23: the third epoch
@pytest.mark.parametrize("done", [1, 4, 10, 23])
@pytest.mark.parametrize(
    "schedule",
    [FULL.schedule, Schedule(kind="plateau", patience=0), Schedule(kind="cosine-restarts", first_cycle=2), Schedule(kind="warm-up", share=0.5)],
    ids=lambda s: s.kind,
)
def test_a_resumed_training_is_the_uninterrupted_one_to_the_last_bit(tmp_path, done, schedule):
    whole, cut, resumed = (open_session(schedule=schedule) for _ in range(3))
    expected = fit(whole)
    fit(cut, done, tmp_path / "c.safetensors")
    assert_equal(cut, whole)  # saving disturbs nothing
    torch.manual_seed(99)
    resumed.load_checkpoint(tmp_path / "c.safetensors")
    history = fit(resumed)
    assert_equal(resumed, whole)
    assert (history.train_loss, history.validation_loss, history.first_loss) == (expected.train_loss, expected.validation_loss, expected.first_loss)
    assert (history.best_epoch, len(history.seconds)) == (expected.best_epoch, len(expected.seconds))
    fit(resumed)  # the next fit starts afresh
    assert_equal(resumed, whole)


def test_bfloat16_with_a_fused_optimiser_resumes_too(tmp_path):
    whole, resumed = (open_session(precision=Precision.BF16, fused=True) for _ in range(2))
    fit(whole, 13, tmp_path / "c.safetensors")
    resumed.load_checkpoint(tmp_path / "c.safetensors")
    fit(resumed)
    assert_equal(resumed, whole)


KILLED = """
import sys, time
from pathlib import Path
from tests.models.test_checkpoint import open_session
session, path = open_session(), Path(sys.argv[1])
def progress(done, total, note):
    if done == 17:
        session.save_checkpoint(path)
        print("saved", flush=True)
    if done > 17:
        time.sleep(60)
session.fit(progress)
"""


def test_a_process_killed_amid_an_epoch_resumes_to_identical_weights(tmp_path):
    path = tmp_path / "c.safetensors"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "saved\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    whole, resumed = open_session(), open_session()
    fit(whole)
    resumed.load_checkpoint(path)
    fit(resumed)
    assert_equal(resumed, whole)


def test_time_before_the_checkpoint_counts(tmp_path):
    session = open_session()
    started = time.perf_counter()
    fit(session, 23, tmp_path / "c.safetensors")
    until = time.perf_counter() - started
    resumed = open_session()
    resumed.load_checkpoint(tmp_path / "c.safetensors")
    seconds = fit(resumed).seconds
    assert list(seconds) == sorted(seconds)
    assert seconds[-1] < 20 * until


class Wide(Noisy):
    width = 9


def test_the_checkpoint_of_another_network_or_training_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(open_session(), 5, path)
    with pytest.raises(DataError, match=r"is of another architecture: '0.weight' has shape \(8, 1\), expected \(9, 1\)"):
        open_session(Wide()).load_checkpoint(path)
    with pytest.raises(DataError, match="is of another training: its seed is 3, here 4"):
        open_session(seed=4).load_checkpoint(path)
    with pytest.raises(DataError, match="is of another training: its recipe"):
        open_session(batch=9).load_checkpoint(path)
    with pytest.raises(DataError, match="is of another training: its precision is 'fp32', here 'bf16'"):
        open_session(precision=Precision.BF16).load_checkpoint(path)


def test_a_damaged_missing_or_plain_weights_file_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(open_session(), 5, path)
    assert not list(tmp_path.glob("*.tmp"))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"c.safetensors: cannot be read as a checkpoint"):
        open_session().load_checkpoint(path)
    with pytest.raises(DataError, match=r"gone.safetensors: cannot be read as a checkpoint"):
        open_session().load_checkpoint(tmp_path / "gone.safetensors")
    save_file({"0.weight": torch.zeros(2)}, path)
    with pytest.raises(DataError, match="holds weights but no training to go on with"):
        open_session().load_checkpoint(path)


def test_a_training_that_is_no_json_or_incomplete_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(open_session(), 5, path)
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        whole = json.loads(file.metadata()["training"])
    save_file(tensors, path, {"training": "{not json"})
    with pytest.raises(DataError, match=r"c.safetensors: cannot be read as a checkpoint \(Expecting property name"):
        open_session().load_checkpoint(path)
    broken: list[object] = [[], {}, *({**whole, key: None} for key in ("of", "place", "param_groups", "random", "schedule")), {**whole, "place": {"epochs": 1}}]
    for state in broken:
        save_file(tensors, path, {"training": json.dumps(state)})
        with pytest.raises(DataError, match=r"c.safetensors: is damaged: the training in it is incomplete"):
            open_session().load_checkpoint(path)
    for group in ("model", "batch", "random"):
        save_file({name: tensor for name, tensor in tensors.items() if not name.startswith(f"{group}/")}, path, {"training": json.dumps(whole)})
        with pytest.raises(DataError, match=r"c.safetensors: is"):
            open_session().load_checkpoint(path)


def test_the_file_is_plain_safetensors_with_json(tmp_path):
    path = tmp_path / "c.safetensors"
    fit(open_session(), 5, path)
    assert "model/0.weight" in load_file(path)
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    assert json.loads(json.loads(header)["__metadata__"]["training"])["place"]["epoch"] == 0
