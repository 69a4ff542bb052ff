"""The comparison is only worth something when every lane trains the same network from the same weights: that is what is tested here."""

from dataclasses import replace

import pytest
import torch

from assay.models.tissuebert.bert import BertShape, DocumentedBert, TissueBert
from benchmarks.contest import Lane, compete
from benchmarks.peer_tissuebert import prepare

TINY = BertShape(hidden=32, layers=2, heads=2, intermediate=64, dropout=0.0, attention_dropout=0.0)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_dropout_one_step_of_every_lane_ends_at_the_same_weights():
    contest = prepare(8, steps=1, shape=TINY)
    trained = {lane: {name: tensor.clone() for name, tensor in contest.lanes[lane].run(3).state_dict().items()} for lane in contest.lanes}
    for name, tensor in trained[Lane.PEER].items():
        # Adam's first step is the learning rate in the gradient's direction, whatever its size
        torch.testing.assert_close(trained[Lane.CLOSED][name], tensor, rtol=0, atol=2.1e-4)
        torch.testing.assert_close(trained[Lane.OPEN][name], tensor, rtol=0, atol=2.1e-4)


def test_lanes_differ_in_network_and_start_afresh_each_time():
    contest = prepare(8, steps=2, shape=replace(TINY, dropout=0.1))
    assert contest.measure_loss is not None
    measure = contest.measure_loss
    assert type(contest.lanes[Lane.PEER].run(0)) is type(contest.lanes[Lane.CLOSED].run(0)) is DocumentedBert
    assert type(contest.lanes[Lane.OPEN].run(0)) is TissueBert
    losses = [measure(contest.lanes[Lane.CLOSED].run(1)) for _ in range(2)]
    assert losses[0] == losses[1]


def test_a_contest_reports_every_lane():
    results = compete(prepare(8, steps=1, shape=TINY), rounds=1)
    assert [result.lane for result in results] == [Lane.PEER, Lane.CLOSED, Lane.OPEN]
    assert results[0].speed_ratio.value == 1
    assert results[2].loss_ratio.value == pytest.approx(1, abs=0.01)
    assert [result.aim for result in results] == [None, None, 2.5]
