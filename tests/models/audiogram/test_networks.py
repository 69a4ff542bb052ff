import itertools

import pytest
import torch
from torch.autograd.graph import Node

from assay.datasets.audiograms import count_metadata
from assay.models.audiogram.memory import GraphMeter
from assay.models.audiogram.networks import BASE, HISTORY, LARGE, MEMORY_OPTIMISED, ContrastiveVae, FrequencyAttention, NetworkShape, count_parameters
from assay.models.audiogram.recipes import RECIPES
from benchmarks.peer_audiogram import PlainAttention


def make_inputs(shape: NetworkShape, mice: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(mice, 6, generator=random), torch.randn(mice, count_metadata(shape.encoding) + 2, generator=random)


@pytest.mark.parametrize(("shape", "expected"), [(BASE, 19_455), (MEMORY_OPTIMISED, 50_459), (LARGE, 172_315)])
def test_parameters_of_the_documented_configurations(shape, expected):
    assert count_parameters(shape) == expected


@pytest.mark.parametrize("name", ["base", "memory-optimised", "large"])
def test_corrections_add_only_what_the_further_metadata_columns_take(name):
    documented, corrected = RECIPES[name].shape, RECIPES[f"{name}-corrected"].shape
    columns = count_metadata("all-categories") - count_metadata("ten-columns")
    # one weight per column and unit of the metadata layer; a weight from each of 16 units and a bias per reconstructed column
    assert count_parameters(corrected) - count_parameters(documented) == columns * (documented.context_width + 16 + 1)


@pytest.mark.parametrize(("heads", "width"), [(1, 1), (2, 8), (8, 32)])
def test_attention_by_rank_one_scores_is_textbook_attention(heads, width):
    torch.manual_seed(0)
    ours, plain = FrequencyAttention(heads, width).double(), PlainAttention(heads, width).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(5, 6, dtype=torch.float64)
    assert torch.allclose(ours(x), plain(x), atol=1e-12)
    for layer in (ours, plain):
        layer(x).square().sum().backward()
    for (name, own), (_, other) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert other.grad is not None
        gradient = torch.zeros_like(own) if own.grad is None else own.grad  # the key's bias cancels in the softmax: no gradient at all
        assert torch.allclose(gradient, other.grad, atol=1e-10), name
        assert name == "key.bias" or own.grad is not None


def test_documented_decoder_knows_no_negative_z_score_and_the_corrected_one_does():
    for name, least in (("base", 0.0), ("base-corrected", -torch.inf)):
        shape = RECIPES[name].shape
        torch.manual_seed(3)
        outputs = ContrastiveVae(shape).eval()(*make_inputs(shape))
        assert outputs.abr.min() >= least
        assert (outputs.abr < 0).any() == (name == "base-corrected")


def test_outputs_have_their_shapes_and_meanings():
    torch.manual_seed(0)
    network = ContrastiveVae(BASE)
    abr, context = make_inputs(BASE)
    outputs = network.eval()(abr, context)
    assert [tuple(tensor.shape) for tensor in outputs] == [(16, 6), (16, 12), (16, 10), (16, 10), (16, 12), (16, 64)]
    assert torch.allclose(outputs.assignment.sum(1), torch.ones(16))
    assert torch.allclose(outputs.projection.norm(dim=1), torch.ones(16), atol=1e-6)
    assert torch.equal(network(abr, context).abr, outputs.abr)  # no sampling in evaluation mode
    network.train()
    assert not torch.equal(network(abr, context).abr, network(abr, context).abr)


def test_assignment_is_students_t_around_the_centres():
    network = ContrastiveVae(BASE)
    network.set_centres(torch.eye(3, 10))
    assigned = network.assign(torch.zeros(1, 10) + torch.eye(1, 10))  # on the first centre, at squared distance 2 of the others
    assert torch.allclose(assigned, torch.tensor([[1, 1 / 3, 1 / 3]]) / (5 / 3), atol=1e-6)


def test_weights_with_another_number_of_centres_load():
    trained, fresh = ContrastiveVae(BASE), ContrastiveVae(BASE)
    trained.set_centres(torch.randn(7, 10))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.centres, trained.centres)
    assert fresh.history.shape == (HISTORY, 7)
    with pytest.raises(RuntimeError, match=r"size mismatch for mean\.weight"):
        ContrastiveVae(LARGE).load_state_dict(trained.state_dict())


def train_steps(name: str, steps: int) -> list[int]:
    shape = RECIPES[name].shape
    torch.manual_seed(0)
    network, meter = ContrastiveVae(shape), GraphMeter()
    counts = []
    for _ in range(steps):
        outputs = network(*make_inputs(shape))
        network.remember(outputs.assignment)
        outputs.abr.sum().backward()
        counts.append(meter.count(network.history))
    return counts


def test_documented_history_keeps_every_steps_graph_and_the_corrected_one_none():
    growing, flat = train_steps("base", HISTORY + 20), train_steps("base-corrected", HISTORY + 20)
    assert flat == [0] * (HISTORY + 20)
    steps = [after - before for before, after in itertools.pairwise(growing)]
    assert min(steps) == max(steps) > 10  # each step adds its own graph, without end: also when the ring starts over
    assert growing[-1] > 10 * HISTORY


def test_the_meter_counts_what_a_full_walk_finds():
    def walk(node: Node | None, seen: set[Node]) -> set[Node]:
        if node is not None and node not in seen:
            seen.add(node)
            for following, _ in node.next_functions:
                walk(following, seen)
        return seen

    meter, total = GraphMeter(), torch.zeros(2)
    weight = torch.ones(2, requires_grad=True)
    for _ in range(5):
        total = total + weight * 2
        assert meter.count(total) == len(walk(total.grad_fn, set()))
    assert meter.count(total.detach()) == 0
