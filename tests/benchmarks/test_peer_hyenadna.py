"""The peer must compute what the suite computes, or the comparison is worth nothing."""

import json

import pytest
import torch

from assay.bench.case import ExitCode
from assay.models.hyenadna.network import CONFIGS, HyenaDNA
from benchmarks import peer_hyenadna
from benchmarks.contest import Lane
from benchmarks.peer_hyenadna import LANES, make_model, prepare
from benchmarks.plain_hyenadna import make_plain_backbone

pytestmark = pytest.mark.usefixtures("one_thread")


def test_plain_backbone_computes_what_the_suites_does():
    torch.manual_seed(0)
    suites = HyenaDNA(CONFIGS["tiny-1k"]).eval()
    plain = make_plain_backbone(suites).eval()
    assert {name: tuple(p.shape) for name, p in plain.named_parameters()} == {name: tuple(p.shape) for name, p in suites.named_parameters()}
    ids = torch.randint(7, 12, (2, 503))
    torch.testing.assert_close(plain(ids), suites(ids), atol=1e-4, rtol=1e-4)
    for network in (suites, plain):
        network(ids).square().sum().backward()
    for (name, own), (_, other) in zip(suites.named_parameters(), plain.named_parameters(), strict=True):
        assert own.grad is not None, name
        assert other.grad is not None, name
        assert torch.allclose(own.grad, other.grad, atol=1e-2 * float(other.grad.abs().max()), rtol=1e-3), name


def test_peer_computes_its_filter_at_every_call_and_the_suite_once(monkeypatch):
    asked = []
    sine = torch.sin

    def count(x):
        asked.append(len(x))
        return sine(x)

    monkeypatch.setattr(torch, "sin", count)
    ids = torch.randint(7, 12, (1, 20))
    for lane, expected in ((Lane.PEER, 2 * 2 * 3), (Lane.CLOSED, 2 * 3)):  # calls, layers, sines
        backbone = make_model("tiny-1k", lane).backbone.eval()
        asked.clear()
        with torch.inference_mode():
            backbone(ids)
            backbone(ids)
        assert len(asked) == expected


@pytest.mark.parametrize("work", ["inference", "training"])
def test_lanes_do_the_same_work(work):
    contest = prepare(work, "tiny-1k", rows=4, batch=2, length=61)
    assert contest.measure_loss is not None
    measure = contest.measure_loss
    losses = {lane: measure(contest.lanes[lane].run(1)) for lane in LANES}
    assert losses[Lane.CLOSED] == pytest.approx(losses[Lane.PEER], rel=1e-3)
    assert losses[Lane.OPEN] == pytest.approx(losses[Lane.PEER], rel=0.05)
    assert (contest.samples, contest.aim) == (4, 1.5)


def test_command_prints_json_or_a_table(capsys):
    small = ["--model", "tiny-1k", "--rows", "4", "--batch", "2", "--length", "61", "--rounds", "1", "--work", "inference"]
    assert peer_hyenadna.main([*small, "--json"]) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert [(entry["lane"], entry["failures"]) for entry in report["results"]] == [(lane.value, []) for lane in LANES]
    assert peer_hyenadna.main(small) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[2].endswith("too few rounds")
