"""The comparison is only worth something when the peer trains the same thing: that is what is tested here."""

import json

import pytest
import torch
from torch.utils.data import TensorDataset

from assay.bench.case import Division, ExitCode, Preset
from assay.models.audiogram.data import Mice
from assay.models.audiogram.losses import Pairing
from benchmarks import peer_audiogram
from benchmarks.contest import Lane
from benchmarks.peer_audiogram import aim_plainly, compute_plain_loss, find_partners, make_plain_network, prepare, train_plain

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def test_partners_go_around_the_gene():
    assert find_partners([7, 3, 7, 3, 7]) == [2, 3, 4, 1, 0]


@pytest.mark.parametrize("variant", ["base", "base-corrected"])
def test_plain_loss_and_gradients_are_the_suites(variant):
    session = peer_audiogram._open(variant, Preset.SMOKE, Division.CLOSED, CPU)
    network = session._network.eval()  # no dropout, no sampling: both compute the same numbers
    plain = make_plain_network(network).eval()
    rows = torch.arange(32)
    mice = Mice(session._data.train.abr[rows], session._data.train.context[rows])
    genes = torch.arange(32) // 2
    partner = torch.arange(32) ^ 1
    aim = session._aim()
    target = None if aim is None else aim[rows]
    assert (target is not None) == (variant == "base-corrected")
    own = session._loss(network(mice.abr, mice.context), mice, Pairing.of(genes, partner), target, joint=True)
    data = session._data.train
    if target is not None:
        torch.testing.assert_close(aim_plainly(plain, TensorDataset(data.abr, data.context), 100), aim)
    terms, _ = compute_plain_loss(plain, mice.abr, mice.context, genes, session._recipe, target)
    other = torch.stack(list(terms.values())).sum()
    assert own.item() == pytest.approx(other.item(), rel=1e-5)
    own.backward()
    other.backward()
    for (name, ours), (_, theirs) in zip(network.named_parameters(), plain.named_parameters(), strict=True):
        if ours.grad is not None:
            assert theirs.grad is not None, name
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-4 * max(1.0, theirs.grad.abs().max().item())), name


def test_peer_takes_the_steps_it_is_told():
    session = peer_audiogram._open("base", Preset.SMOKE, Division.CLOSED, CPU)
    plain = make_plain_network(session._network)
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    train_plain(plain, session, steps=8, seed=0)
    assert plain.remembered == 8
    assert not torch.equal(before["mean.weight"], plain.state_dict()["mean.weight"])


def test_lanes_reach_the_same_error():
    contest = prepare("base-corrected", epochs=3, preset=Preset.SMOKE)
    assert contest.measure_loss is not None
    measure = contest.measure_loss
    errors = {lane: measure(entry.run(1)) for lane, entry in contest.lanes.items()}
    for lane in contest.lanes:
        assert errors[lane] == pytest.approx(errors[Lane.PEER], rel=0.05)
    assert measure(contest.lanes[Lane.CLOSED].run(1)) == errors[Lane.CLOSED]  # deterministic for its seed


def test_command_prints_json_or_a_table(monkeypatch, capsys):
    monkeypatch.setattr(peer_audiogram, "prepare", lambda variant, epochs, place: prepare(variant, epochs, Preset.SMOKE, place))
    assert peer_audiogram.main(["--rounds", "1", "--epochs", "1", "--json"]) == ExitCode.OK
    assert [entry["aim"] for entry in json.loads(capsys.readouterr().out)["results"]] == [None, None, 3.0]
    assert peer_audiogram.main(["--rounds", "1", "--epochs", "1"]) == ExitCode.OK
    assert "too few rounds" in capsys.readouterr().out
