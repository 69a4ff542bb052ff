"""Ours must compute what plain attention computes before it is timed; on a CPU torch's own attention stands in for the kernel."""

import re

import pytest
import torch

from assay.bench.case import Unsupported
from assay.models.dnabert.attention.packing import Packing, alibi_slopes
from assay.models.dnabert.attention.registry import AttentionKind, load_attention
from benchmarks.contest import Lane, compete, judge
from benchmarks.peer_attention import BOUND, check_agreement, main, prepare


def test_one_peer_has_the_bias_and_must_be_beaten_the_other_has_none_and_must_come_near():
    biased, unbiased = (compete(contest, rounds=1) for contest in prepare(AttentionKind.SDPA, sequences=2, length=32, repeats=3))
    assert [result.lane for result in biased + unbiased] == [Lane.PEER, Lane.OPEN] * 2
    assert [result.aim for result in biased + unbiased] == [None, None, None, BOUND]
    told = re.match(r"outputs within (\S+) and gradients within (\S+) of plain float32 attention", str(biased[1].loss_ratio.reason))
    assert told is not None
    assert all(float(error) < 0.01 for error in told.groups())
    assert unbiased[1].loss_ratio.reason == "the peer computes less: it knows no bias"
    assert judge(unbiased[1]) == []


@pytest.mark.parametrize(("part", "named"), [(0, "outputs are"), (1, "gradients are")])
def test_what_computes_something_else_is_refused(part, named):
    sdpa, slopes, packing = load_attention(AttentionKind.SDPA), alibi_slopes(4), Packing.of(torch.tensor([8, 8]), torch.device("cpu"))
    qkv, upstream = torch.randn(16, 3, 4, 16), torch.randn(16, 4, 16)

    def attend(inputs):
        return sdpa.attend(inputs, packing, slopes)

    def attend_wrongly(inputs):
        out = attend(inputs)
        return out + 1e-3 if part == 0 else out + 1e-3 * (inputs[:, 0] - inputs[:, 0].detach())  # the same values, another slope

    assert check_agreement(attend, attend, qkv, upstream, packing, slopes).endswith("of plain float32 attention, checked before timing")
    with pytest.raises(ValueError, match=named):
        check_agreement(attend_wrongly, attend, qkv, upstream, packing, slopes)


def test_a_backend_that_cannot_run_is_an_error_and_so_is_a_missing_gpu(capsys):
    with pytest.raises(Unsupported, match="attention triton"):
        next(prepare(AttentionKind.TRITON, sequences=1, length=16))
    with pytest.raises(SystemExit, match="2"):
        main(["--device", "cpu", "--attention", "triton", "--length", "16"])
    assert "attention triton" in capsys.readouterr().err
    if not torch.cuda.is_available():
        with pytest.raises(SystemExit, match="2"):
            main([])
        assert "--device cuda: torch sees no CUDA device here" in capsys.readouterr().err
