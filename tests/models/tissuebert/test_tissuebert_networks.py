"""Parameter counts, and our BERT against transformers' with the same weights: outputs and gradients."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from assay.datasets.methylation import NO_CPG, PAD
from assay.models.tissuebert.bert import BertShape, DocumentedBert, TissueBert
from assay.models.tissuebert.file_network import FileNetwork, FileShape, to_proportions
from assay.models.tissuebert.region import RegionNetwork, RegionShape

SMALL = BertShape(hidden=64, layers=3, heads=4, intermediate=96, positions=40, dropout=0.0, attention_dropout=0.0)
SMALL_REGION = RegionShape(hidden=32, layers=2, heads=4, feed_forward=64, head=16)


def count(network):
    return sum(weights.numel() for weights in network.parameters())


def draw_tokens(lengths, width, seed=0):
    tokens = torch.randint(0, 64, (len(lengths), width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    for row, length in zip(tokens, lengths, strict=True):
        row[length:] = PAD
    return tokens


def test_parameter_counts_are_the_verified_ones():
    with torch.device("meta"):
        assert count(DocumentedBert(BertShape())) == count(TissueBert(BertShape())) == 19_496_487
        assert count(RegionNetwork(RegionShape())) == 17_852_694
        assert count(FileNetwork(FileShape())) == 27_785_238
        assert count(FileNetwork(FileShape(bottleneck=1024))) == 27_235_350


def test_ours_has_the_documented_models_weights_by_name_and_order_of_shape():
    with torch.device("meta"):
        theirs, ours = DocumentedBert(BertShape()).state_dict(), TissueBert(BertShape()).state_dict()
    assert {name: tensor.shape for name, tensor in theirs.items()} == {name: tensor.shape for name, tensor in ours.items()}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("lengths", [(20, 20, 20), (20, 11, 1)])
def test_outputs_and_gradients_equal_transformers(attention, lengths):
    theirs = DocumentedBert(SMALL, attention).train()
    ours = TissueBert(SMALL, padded=min(lengths) < 20).train()
    ours.load_state_dict(theirs.state_dict())
    tokens, label = draw_tokens(lengths, 20), torch.tensor([0, 38, 7])
    outputs = [network(tokens) for network in (theirs, ours)]
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-4)
    for output in outputs:
        F.cross_entropy(output, label).backward()
    gradients = [{name: weights.grad for name, weights in network.named_parameters()} for network in (theirs, ours)]
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=0, atol=1e-4)


def test_the_full_size_equals_transformers_too():
    exact = replace(BertShape(), layers=2)
    theirs, ours = DocumentedBert(exact).eval(), TissueBert(exact).eval()
    ours.load_state_dict(theirs.state_dict())
    tokens = draw_tokens((148, 120), 150)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(tokens), ours(tokens), rtol=0, atol=1e-4)


def test_columns_that_are_padding_in_every_read_change_nothing():
    network = TissueBert(SMALL).eval()
    tokens = draw_tokens((18, 9), 20)
    torch.testing.assert_close(network(tokens), network(tokens[:, :18]), rtol=0, atol=1e-5)


def test_weights_start_as_berts():
    torch.manual_seed(0)
    weights = TissueBert(BertShape(layers=1)).state_dict()
    assert weights["bert.encoder.layer.0.attention.self.query.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert weights["bert.encoder.layer.0.output.dense.bias"].abs().max() == 0
    assert weights["bert.embeddings.word_embeddings.weight"][PAD].abs().max() == 0


@pytest.mark.parametrize("network", [DocumentedBert(SMALL), TissueBert(SMALL)], ids=["documented", "ours"])
def test_reads_beyond_the_models_positions_are_refused(network):
    with pytest.raises(ValueError, match="reads of 41 tokens are longer than the model's 40 positions"):
        network(draw_tokens((41,), 41))
    with pytest.raises(ValueError, match="reads of 151 tokens are longer than the model's 150 positions"):
        RegionNetwork(SMALL_REGION)(draw_tokens((151,), 151), draw_tokens((151,), 151))


def test_the_region_model_reads_states_and_ignores_padding():
    torch.manual_seed(0)
    network = RegionNetwork(SMALL_REGION).eval()
    tokens, states = draw_tokens((12, 7), 14), torch.randint(0, 3, (2, 14))
    out = network(tokens, states)
    torch.testing.assert_close(out, network(tokens[:, :12], states[:, :12]), rtol=0, atol=1e-5)
    assert not torch.allclose(out, network(tokens, torch.full_like(states, NO_CPG)))
    padded = states.clone()
    padded[1, 7:] = 1 - padded[1, 7:].clamp(max=1)
    torch.testing.assert_close(out[1], network(tokens, padded)[1], rtol=0, atol=1e-5)


def test_a_read_of_padding_alone_is_refused_by_the_region_model():
    tokens = draw_tokens((9, 0, 3), 9)
    with pytest.raises(ValueError, match="read 1 of the batch has no token: every position is padding"):
        RegionNetwork(SMALL_REGION)(tokens, torch.zeros_like(tokens))


def test_cpg_dropout_hides_states_in_training_only():
    network = RegionNetwork(replace(SMALL_REGION, cpg_dropout=1.0, dropout=0.0))
    tokens, states = draw_tokens((9,), 9), torch.ones(1, 9, dtype=torch.uint8)
    hidden = network.eval()(tokens, torch.full_like(states, NO_CPG))
    torch.testing.assert_close(network.train()(tokens, states), hidden)


def test_proportions_are_sigmoids_over_their_sum():
    assert to_proportions(torch.tensor([[0.0, 0.0, -100.0, 100.0]])).tolist() == [pytest.approx([0.25, 0.25, 0.0, 0.5])]
