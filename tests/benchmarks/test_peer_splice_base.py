"""The contest with the published form: equal outputs, ratios, verdicts, and the command."""

import json

import torch

from bench.case import ExitCode, Quantity
from benchmarks import peer_splice_base
from benchmarks.peer_splice_base import Result, compete
from models.splice.base.network import SPLICEAI_80NT, SPLICEAI_400NT


def test_both_forms_give_the_same_probabilities_within_50_nt():
    result = compete(SPLICEAI_400NT, 2, 3, torch.device("cpu"))
    assert result.largest_difference < 1e-6
    assert result.speed_ratio.n == 2
    assert result.failures == []  # too few rounds for an interval


def test_verdicts():
    rate = Quantity(1.0, "sequences/s")
    assert Result(rate, rate, Quantity(2.0, "x", 9, 1.5, 2.5), 0.0).failures == []
    assert Result(rate, rate, Quantity(1.1, "x", 9, 0.9, 1.3), 1e-3).failures == ["not faster than the published form", "outputs differ"]


def test_command_prints_json_or_text(monkeypatch, capsys):
    monkeypatch.setattr(peer_splice_base, "SPLICEAI_10K", SPLICEAI_80NT)
    threads = torch.get_num_threads()
    try:
        assert peer_splice_base.main(["--rounds", "1", "--json"]) == ExitCode.OK
        assert json.loads(capsys.readouterr().out)["failures"] == []
        assert peer_splice_base.main(["--rounds", "1"]) == ExitCode.OK
    finally:
        torch.set_num_threads(threads)
    assert "times as fast" in capsys.readouterr().out
