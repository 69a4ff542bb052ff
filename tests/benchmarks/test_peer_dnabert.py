"""The comparison is only worth something when every lane embeds the same: that is what is tested here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from assay.models.dnabert.attention.packing import alibi_bias, alibi_slopes
from assay.models.dnabert.network import EncoderConfig
from benchmarks.contest import Lane, compete
from benchmarks.peer_dnabert import WAYS, check_agreement, main, make_lanes, prepare
from benchmarks.plain_dnabert import make_bias

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "peer_dnabert.py"


@pytest.mark.parametrize("heads", [4, 12])
def test_both_ways_to_write_the_bias_agree(heads):
    torch.testing.assert_close(make_bias(heads, 20), alibi_bias(alibi_slopes(heads), 20), atol=1e-6, rtol=0)


def test_lanes_agree_and_one_that_does_not_is_refused():
    results = compete(prepare(layers=1, sequences=3, shortest=4, longest=20), rounds=1)
    assert [result.lane for result in results] == list(WAYS)
    assert results[0].speed_ratio.value == 1
    assert [result.aim for result in results] == [None, None, 3.0]
    assert results[2].loss_ratio.reason == "embeddings agree within 0.0001, checked before timing"
    lanes = make_lanes(EncoderConfig(layers=1), torch.tensor([20, 7]), 20, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"unpadded, sdpa by length: embeddings differ by 0\.001"):
        check_agreement({**lanes, Lane.OPEN: lambda: lanes[Lane.PEER]() + 1e-3})


def test_wrong_use_is_refused():
    with pytest.raises(SystemExit, match="2"):
        main(["--longest", "8"])


def test_the_script_prints_one_document():
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--rounds", "1", "--layers", "1", "--sequences", "2", "--longest", "16", "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [result["lane"] for result in document["results"]] == list(WAYS)
