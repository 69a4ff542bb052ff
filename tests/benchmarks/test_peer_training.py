"""The comparison with a plain loop is only worth something when the peer trains the same thing: that is what is tested here."""

import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from assay.bench.case import Division, ExitCode, Precision, Preset
from assay.models.schedule import Schedule
from assay.models.splice.networks import ValidatedDeltaPredictor
from assay.models.training import Recipe
from benchmarks import peer_training
from benchmarks.contest import Lane
from benchmarks.peer_training import prepare
from benchmarks.plain_training import evaluate_plain, make_plain_predictor, train_plain
from tests.conftest import ROOT

CPU = torch.device("cpu")
RESTARTS = Schedule(kind="cosine-restarts", first_cycle=20, cycle_growth=2)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_plain_predictor_computes_what_the_suites_does():
    torch.manual_seed(0)
    suites = ValidatedDeltaPredictor(hidden=16, layers=5).eval()
    plain = make_plain_predictor(suites).eval()
    assert {name: tuple(value.shape) for name, value in plain.state_dict().items()} == {name: tuple(value.shape) for name, value in suites.state_dict().items()}
    sequence, bases = torch.randn(3, 41, 4), torch.randn(3, 2, 4)
    assert torch.allclose(plain(sequence.transpose(1, 2), bases), suites(sequence, bases), atol=1e-6)
    for network, shown in ((suites, sequence), (plain, sequence.transpose(1, 2))):
        network(shown, bases).square().sum().backward()
    for (name, own), (_, other) in zip(suites.named_parameters(), plain.named_parameters(), strict=True):
        assert own.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(own.grad, other.grad, atol=1e-4), name


def test_plain_training_is_the_recipe_step_by_step():
    torch.manual_seed(0)
    rows = TensorDataset(torch.randn(8, 3), torch.randn(8))
    model, expected = nn.Linear(3, 1), nn.Linear(3, 1)
    expected.load_state_dict(model.state_dict())
    recipe = Recipe(optimiser="adamw", learning_rate=0.1, weight_decay=0.01, batch=8, epochs=3, schedule=RESTARTS, clip=0.5)

    def loss_of(network, batch):
        return ((network(batch[0])[:, 0] - batch[1]) ** 2).mean()

    train_plain(model, loss_of, rows, None, recipe)
    optimiser = torch.optim.AdamW(expected.parameters(), lr=0.1, weight_decay=0.01)
    for epoch in range(3):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * epoch / 20)) / 2
        optimiser.zero_grad()
        loss_of(expected, rows.tensors).backward()
        nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
        optimiser.step()
    assert torch.allclose(model.weight, expected.weight, atol=1e-6)
    assert torch.allclose(model.bias, expected.bias, atol=1e-6)


def test_plain_training_keeps_the_best_epoch_only_when_the_recipe_does():
    train, validation = TensorDataset(torch.ones(2, 1), torch.full((2,), 5.0)), TensorDataset(torch.ones(1, 1), torch.zeros(1))

    def train_from_one(*, keep_best):
        model = nn.Linear(1, 1, bias=False)
        nn.init.ones_(model.weight)
        recipe = Recipe(optimiser="adamw", learning_rate=0.1, weight_decay=0.0, batch=2, epochs=4, schedule=RESTARTS, keep_best=keep_best)
        train_plain(model, lambda network, batch: ((network(batch[0])[:, 0] - batch[1]) ** 2).mean(), train, validation, recipe)
        return model.weight.item()

    # every step moves the weight by the learning rate towards 5, away from the validation target 0: the first epoch stays the best
    assert train_from_one(keep_best=True) == pytest.approx(1.1, abs=1e-3)
    assert train_from_one(keep_best=False) > 1.35


def test_plain_evaluation_weighs_rows_not_batches():
    rows = TensorDataset(torch.tensor([[1.0], [2.0], [6.0]]))
    assert evaluate_plain(nn.Identity(), lambda network, batch: network(batch[0]).mean(), rows, batch=2) == pytest.approx(3.0)


def test_splice_peer_starts_from_the_suites_weights_and_sees_its_rows(monkeypatch):
    seen = []
    monkeypatch.setattr(peer_training, "train_plain", lambda *arguments: seen.append(arguments))
    contest = prepare("splice-validated")
    assert contest.samples == 2 * 48
    untrained = contest.lanes[Lane.PEER].run(3)
    ((plain, loss_of, rows, validation, recipe, _),) = seen
    closed = peer_training._open("splice-validated", peer_training.WORKLOADS["splice-validated"], CPU, Division.CLOSED, Precision.FP32)
    torch.manual_seed(3)
    fresh = closed._task.build()
    assert sum(p.numel() for p in plain.parameters()) == 3_011_843
    assert all(torch.equal(own, other) for own, other in zip(fresh.parameters(), untrained.parameters(), strict=True))
    assert (recipe.batch, recipe.epochs, recipe.clip, validation) == (16, 2, 1.0, None)
    with torch.no_grad():
        expected = closed._task.loss(fresh.eval(), closed._splits.train).item()
        assert loss_of(plain.eval(), list(rows.tensors)).item() == pytest.approx(expected, rel=1e-4)


def test_affinity_lanes_reach_the_same_loss_and_the_open_one_no_larger(monkeypatch):
    monkeypatch.setitem(peer_training.WORKLOADS, "affinity-v2", peer_training._Size("documented", Preset.SMOKE, epochs=3))
    contest = prepare("affinity-v2")
    assert contest.measure_loss is not None
    measure = contest.measure_loss
    losses = {lane: measure(entry.run(1)) for lane, entry in contest.lanes.items()}
    assert losses[Lane.CLOSED] == pytest.approx(losses[Lane.PEER], rel=0.05)
    assert losses[Lane.OPEN] <= 1.01 * losses[Lane.PEER]
    for lane, entry in contest.lanes.items():
        assert measure(entry.run(1)) == losses[lane]  # a lane is deterministic for its seed


def test_file_level_lanes_start_alike_and_the_open_one_takes_larger_batches(monkeypatch):
    seen = []
    monkeypatch.setattr(peer_training, "train_plain", lambda *arguments: seen.append(arguments))
    contest = prepare("tissuebert-file")
    assert (contest.aim, contest.samples) == (3.0, 5 * 455)
    assert contest.lanes[Lane.OPEN].how == "batch 16, rate 0.001, fused optimiser"
    assert contest.lanes[Lane.OPEN].precision is Precision.FP32  # casting its weights costs more than bfloat16 saves
    untrained = contest.lanes[Lane.PEER].run(3)
    ((model, _, rows, validation, recipe, device),) = seen
    assert (len(rows), validation, recipe.batch, recipe.accumulate, device.type) == (455, None, 4, 1, "cpu")
    torch.manual_seed(3)
    fresh = peer_training._open("tissuebert-file", peer_training.WORKLOADS["tissuebert-file"], CPU, Division.CLOSED, Precision.FP32)._task
    torch.manual_seed(3)
    assert all(torch.equal(own, other) for own, other in zip(fresh.build().parameters(), untrained.parameters(), strict=True))
    assert model is untrained


def test_a_recipe_that_accumulates_is_not_the_plain_loops():
    recipe = Recipe(optimiser="adamw", learning_rate=0.1, weight_decay=0.0, batch=2, epochs=1, accumulate=8)
    rows = TensorDataset(torch.ones(2, 1))
    with pytest.raises(ValueError, match="updates after every batch, the recipe after 8"):
        train_plain(nn.Linear(1, 1), lambda network, batch: network(batch[0]).mean(), rows, None, recipe)


def test_command_prints_json_or_a_table(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(peer_training.WORKLOADS, "affinity-v2", peer_training._Size("documented", Preset.SMOKE, epochs=1, aim=3.0))
    arguments = ["--workload", "affinity-v2", "--rounds", "1"]
    assert peer_training.main([*arguments, "--json"]) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    results = report["results"]
    assert [(entry["lane"], entry["failures"]) for entry in results] == [(lane, []) for lane in ("peer", "assay closed", "assay open")]
    assert results[0]["speed_ratio"]["value"] == 1
    assert [entry["aim"] for entry in results] == [None, None, 3.0]
    assert results[2]["aim_met"] == (results[2]["speed_ratio"]["value"] >= 3)
    assert results[0]["mfu"]["reason"] == "profile cpu has no peak for fp32"
    assert results[0]["peak_memory"]["value"] >= 0
    assert report["options"] == {"rounds": 1, "threads": 1, "device": "cpu", "workload": "affinity-v2"}
    file = tmp_path / "peers.json"
    assert peer_training.main([*arguments, "--json", str(file)]) == ExitCode.OK
    assert json.loads(file.read_text())["results"][1]["lane"] == "assay closed"
    table = capsys.readouterr().out.splitlines()
    assert table[2].startswith("affinity-v2              assay closed")
    assert table[2].endswith("too few rounds")
    assert "; aim 3x " in table[3]


@pytest.mark.parametrize(("option", "message"), [(["--rounds", "0"], "--rounds must be at least 1"), (["--device", "cuda"], "torch sees no CUDA device here")])
def test_wrong_use_is_refused(option, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        peer_training.main(option)
    assert message in capsys.readouterr().err


def test_runs_as_a_script_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "benchmarks/peer_training.py", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--rounds" in done.stdout
