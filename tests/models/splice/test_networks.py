"""Sizes and outputs of every network of the family."""

import pytest
import torch
from torch import nn

from assay.models.splice.networks import (
    EffectTypeClassifier,
    SpliceInducingClassifier,
    UnifiedSpliceClassifier,
    ValidatedDeltaPredictor,
    ValidatedDeltaPredictorWithAttention,
)
from assay.models.splice.siamese import (
    HybridDeltaPredictor,
    QuantileDeltaPredictor,
    ScaledDeltaPredictor,
    SimpleCNNDeltaPredictor,
    TemperatureDeltaPredictor,
    pinball_loss,
    read_out,
)


def encoder_size(hidden, layers):
    return (4 * hidden + hidden) + layers * (2 * hidden * hidden * 15 + 2 * hidden + 2 * hidden)


@pytest.mark.parametrize(
    ("network", "hidden", "layers", "parameters"),
    [
        (ValidatedDeltaPredictor, 128, 6, 3_011_843),
        (ValidatedDeltaPredictor, 256, 8, 15_970_819),
        (ValidatedDeltaPredictorWithAttention, 128, 6, 3_012_100),
        (SimpleCNNDeltaPredictor, 128, 6, 3_070_210),
        (SpliceInducingClassifier, 128, 6, 3_020_033),
        (SpliceInducingClassifier, 256, 8, 16_003_585),
        (EffectTypeClassifier, 128, 6, 3_020_033 + 5 * 129),
        (ScaledDeltaPredictor, 128, 6, 3_070_211),
        (TemperatureDeltaPredictor, 128, 6, 3_070_211),
        # one linear layer per quantile in place of the head of two layers
        (QuantileDeltaPredictor, 128, 6, 3_070_210 - (128 * 129 + 2 * 129) + 3 * 2 * 129),
        (HybridDeltaPredictor, 128, 6, 3_070_210 + 64 * 129 + 65),
        # encoder, attention pooling, variant embedding, two linear heads
        (UnifiedSpliceClassifier, 128, 6, encoder_size(128, 6) + (64 * 129 + 65) + (128 * 9 + 128 * 129) + 7 * 257),
    ],
)
def test_parameter_counts_are_the_documented_ones(network, hidden, layers, parameters):
    with torch.device("meta"):
        built = network(hidden, layers)
    assert sum(weights.numel() for weights in built.parameters()) == parameters


def _inputs(batch=3, length=61):
    torch.manual_seed(0)
    one_hot = nn.functional.one_hot(torch.randint(0, 4, (batch, length)), 4).float()
    bases = nn.functional.one_hot(torch.randint(0, 4, (batch, 2)), 4).float()
    return one_hot, bases


def test_attention_weights_sum_to_one_over_positions():
    sequence, bases = _inputs()
    deltas, attention = ValidatedDeltaPredictorWithAttention(16, 2).eval()(sequence, bases)
    assert deltas.shape == (3, 3)
    assert attention.shape == (3, 61)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3))


@pytest.mark.parametrize(
    ("network", "outputs"), [(ValidatedDeltaPredictor, 3), (SpliceInducingClassifier, 1), (EffectTypeClassifier, 6), (UnifiedSpliceClassifier, 7)]
)
def test_single_pass_networks_use_the_sequence_and_both_bases(network, outputs):
    sequence, bases = _inputs()
    model = network(16, 2).eval()
    output = model(sequence, bases)
    assert output.shape == (3, outputs)
    assert not torch.equal(output, model(sequence.roll(1, dims=2), bases))
    assert not torch.equal(output, model(sequence, bases.flip(1)))


def test_a_paired_network_sees_no_difference_between_equal_sequences_and_one_where_they_differ():
    reference, _ = _inputs(2, 301)
    model = SimpleCNNDeltaPredictor(8, 3).eval()
    constant = model.delta_head(torch.zeros(8))
    torch.testing.assert_close(model(reference, reference), constant.expand(2, 301, 2))
    alternative = reference.clone()
    alternative[:, 150] = alternative[:, 150].roll(1, dims=-1)
    moved = (model.encoder(reference, alternative).abs().sum(-1) > 0)[0].nonzero().squeeze(-1)
    # two convolutions per block with dilation 1, 2, 4: 7 x 2 x 7 positions to either side
    assert 150 - 98 <= int(moved.min()) < 150 < int(moved.max()) <= 150 + 98


def test_scale_and_temperature_start_at_two_and_a_half_and_one_half():
    sequence, _ = _inputs(2)
    other = sequence.flip(1)
    plain = SimpleCNNDeltaPredictor(8, 1).eval()
    for network, factor in ((ScaledDeltaPredictor, 2.5), (TemperatureDeltaPredictor, 2.0)):
        calibrated = network(8, 1).eval()
        calibrated.load_state_dict(plain.state_dict(), strict=False)
        torch.testing.assert_close(calibrated(sequence, other), factor * plain(sequence, other))


def test_the_read_out_is_the_largest_delta_within_fifty_nucleotides_of_the_variant():
    deltas = torch.zeros(3, 201, 2)
    deltas[0, 150] = torch.tensor([0.3, -0.4])  # 50 away: in
    deltas[0, 151] = torch.tensor([9.0, 9.0])  # 51 away: out
    deltas[1, 0] = torch.tensor([-0.2, 0.0])  # the edge
    deltas[2, 99] = torch.tensor([0.0, 0.5])
    deltas[2, 101] = torch.tensor([-0.3, -0.3])  # the sum of magnitudes decides
    found = read_out(deltas, torch.tensor([100, 3, 100]))
    torch.testing.assert_close(found, torch.tensor([[0.3, -0.4], [-0.2, 0.0], [-0.3, -0.3]]))


def test_pinball_loss_weighs_misses_below_and_above_by_tau():
    target = torch.tensor([1.0, 0.0])
    prediction = torch.tensor([0.0, 1.0])  # errors +1 and -1
    for tau in (0.1, 0.5, 0.9):
        assert float(pinball_loss(prediction, target, tau)) == pytest.approx((tau + (1 - tau)) / 2)
    assert float(pinball_loss(torch.tensor([0.0]), torch.tensor([2.0]), 0.9)) == pytest.approx(1.8)
    assert float(pinball_loss(torch.tensor([2.0]), torch.tensor([0.0]), 0.9)) == pytest.approx(0.2)
