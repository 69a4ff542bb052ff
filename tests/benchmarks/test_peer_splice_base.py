"""The contest with the published form: equal outputs, and the command."""

import json

import pytest
import torch

from assay.bench.case import ExitCode
from assay.models.splice.base.network import SPLICEAI_80NT, SPLICEAI_400NT
from benchmarks import peer_splice_base
from benchmarks.contest import Lane
from benchmarks.peer_splice_base import check_agreement, make_lanes


def test_both_forms_give_the_same_probabilities_within_50_nt_and_others_are_refused():
    lanes = make_lanes(SPLICEAI_400NT, 3, torch.device("cpu"))
    with torch.inference_mode():
        assert (lanes[Lane.PEER]() - lanes[Lane.OPEN]()).abs().max() < 1e-6
    with pytest.raises(ValueError, match=r"probabilities differ by 0\.001"):
        check_agreement({**lanes, Lane.OPEN: lambda: lanes[Lane.PEER]() + 1e-3})


def test_command_prints_json_or_a_table(monkeypatch, capsys):
    monkeypatch.setattr(peer_splice_base, "SPLICEAI_10K", SPLICEAI_80NT)
    threads = torch.get_num_threads()
    try:
        assert peer_splice_base.main(["--rounds", "1", "--json"]) == ExitCode.OK
        assert [entry["failures"] for entry in json.loads(capsys.readouterr().out)["results"]] == [[], []]
        assert peer_splice_base.main(["--rounds", "1"]) == ExitCode.OK
    finally:
        torch.set_num_threads(threads)
    assert "no padding, the scanned positions only" in capsys.readouterr().out
