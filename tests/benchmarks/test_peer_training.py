"""The comparison with a plain loop is only worth something when the peer trains the same thing: that is what is tested here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from bench.case import Division, ExitCode, Precision, Preset, Quantity
from benchmarks import peer_training
from benchmarks.peer_training import Contest, Lane, Result, compete, judge, prepare, take_median
from benchmarks.plain_training import evaluate_plain, make_plain_predictor, train_plain
from models.schedule import Schedule
from models.splice.networks import ValidatedDeltaPredictor
from models.training import Recipe

ROOT = Path(__file__).resolve().parents[2]
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
    untrained = contest.train[Lane.PEER](3)
    ((plain, loss_of, rows, validation, recipe),) = seen
    closed = peer_training._open("splice-validated", peer_training.WORKLOADS["splice-validated"], Division.CLOSED, Precision.FP32)
    torch.manual_seed(3)
    fresh = closed._task.build()
    assert sum(p.numel() for p in plain.parameters()) == 3_011_843
    assert all(torch.equal(own, other) for own, other in zip(fresh.parameters(), untrained.parameters(), strict=True))
    assert (recipe.batch, recipe.epochs, recipe.clip, validation) == (16, 2, 1.0, None)
    with torch.no_grad():
        expected = closed._task.loss(fresh.eval(), closed._splits.train).item()
        assert loss_of(plain.eval(), list(rows.tensors)).item() == pytest.approx(expected, rel=1e-4)


def test_affinity_lanes_reach_the_same_loss(monkeypatch):
    monkeypatch.setitem(peer_training.WORKLOADS, "affinity-v2", peer_training._Size("documented", Preset.SMOKE, epochs=3))
    contest = prepare("affinity-v2")
    losses = {lane: contest.measure_loss(contest.train[lane](1)) for lane in Lane}
    for lane in Lane:
        assert losses[lane] == pytest.approx(losses[Lane.PEER], rel=0.05)
        assert contest.measure_loss(contest.train[lane](1)) == losses[lane]  # a lane is deterministic for its seed


def test_compete_takes_ratios_within_a_round(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("benchmarks.peer_training.time.perf_counter", lambda: now[0])
    cost = {Lane.PEER: 2.0, Lane.CLOSED: 1.0, Lane.OPEN: 0.5}
    seen = []

    def make(lane):
        def train(seed):
            seen.append((lane, seed))
            now[0] += cost[lane] * (1 + seed)  # the machine slows down for everyone
            return nn.Linear(1, 1)

        return train

    contest = Contest("made", "rows", 100, {lane: make(lane) for lane in Lane}, lambda model: 3.0)
    results = compete(contest, rounds=7)
    assert [(r.lane, r.speed_ratio.value, r.speed_ratio.low, r.speed_ratio.high) for r in results] == [
        (Lane.PEER, 1, 1, 1),
        (Lane.CLOSED, 2, 2, 2),
        (Lane.OPEN, 4, 4, 4),
    ]
    assert [r.samples_per_s.value for r in results] == [100 / 2 / 4, 100 / 4, 100 / 0.5 / 4]
    assert [r.loss_ratio.value for r in results] == [1, 1, 1]
    rounds = [[lane for lane, seed in seen[3:] if seed == number] for number in range(7)]
    assert all(sorted(lanes) == sorted(Lane) for lanes in rounds)
    assert len({tuple(lanes) for lanes in rounds}) > 1


def test_median_has_an_interval_from_six_rounds_on():
    assert take_median([3.0, 1.0, 2.0], "x") == Quantity(2.0, "x", 3, how="median of 3 rounds; no interval: 95 % takes at least 6 rounds")
    nine = take_median([float(n) for n in range(1, 10)], "x")
    assert (nine.value, nine.low, nine.high) == (5.0, 2.0, 8.0)


def ratio(low, high):
    return Quantity((low + high) / 2, "x peer", 9, low, high)


@pytest.mark.parametrize(
    ("lane", "speed", "loss", "expected"),
    [
        (Lane.PEER, (1, 1), (1, 1), []),
        (Lane.CLOSED, (0.9, 1.1), (0.9, 1.1), []),
        (Lane.CLOSED, (0.8, 0.99), (0.9, 1.1), ["slower than the peer"]),
        (Lane.OPEN, (1.01, 1.5), (0.9, 1.1), []),
        (Lane.OPEN, (1.0, 1.5), (0.9, 1.1), ["not faster than the peer"]),
        (Lane.CLOSED, (1.1, 1.2), (1.01, 1.1), ["test loss differs from the peer's"]),
        (Lane.OPEN, (0.8, 0.9), (0.5, 0.9), ["not faster than the peer", "test loss differs from the peer's"]),
    ],
)
def test_verdicts(lane, speed, loss, expected):
    assert judge(Result("w", lane, Quantity(1.0, "rows/s"), ratio(*speed), Quantity(1.0, "loss"), ratio(*loss))) == expected


def test_too_few_rounds_give_no_verdict():
    bare = Quantity(0.5, "x peer")
    assert judge(Result("w", Lane.CLOSED, Quantity(1.0, "rows/s"), bare, Quantity(1.0, "loss"), bare)) == []


def test_command_prints_json_or_a_table(monkeypatch, capsys):
    monkeypatch.setitem(peer_training.WORKLOADS, "affinity-v2", peer_training._Size("documented", Preset.SMOKE, epochs=1))
    arguments = ["--workload", "affinity-v2", "--rounds", "1"]
    assert peer_training.main([*arguments, "--json"]) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert [(entry["lane"], entry["failures"]) for entry in report] == [(lane.value, []) for lane in Lane]
    assert report[0]["speed_ratio"]["value"] == 1
    assert peer_training.main(arguments) == ExitCode.OK
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 4
    assert table[2].startswith("affinity-v2       assay closed fp32")
    assert table[2].endswith("too few rounds")


def test_runs_as_a_script_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, ROOT / "benchmarks/peer_training.py", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--rounds" in done.stdout
