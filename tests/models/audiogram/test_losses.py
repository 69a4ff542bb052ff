import math

import pytest
import torch
from torch import Tensor

from assay.models.audiogram.losses import Pairing, cluster, contrast, diverge_from_prior, keep_together, reconstruct, sharpen
from assay.models.audiogram.networks import Outputs


def make_outputs(mice: int = 1, **given: Tensor) -> Outputs:
    zeros = {"abr": (mice, 6), "context": (mice, 12), "mean": (mice, 2), "log_variance": (mice, 2), "assignment": (mice, 3), "projection": (mice, 2)}
    return Outputs(**{name: torch.zeros(shape) for name, shape in zeros.items()} | given)


def test_reconstruction_weighs_thresholds_twice_and_components_by_one_and_a_half():
    abr, context = torch.full((4, 6), 1.0), torch.cat([torch.full((4, 10), 2.0), torch.full((4, 2), 3.0)], dim=1)
    assert reconstruct(make_outputs(4), abr, context).item() == pytest.approx(2 * 1 + 1 * 4 + 1.5 * 9)


def test_divergence_from_the_prior_by_dimension():
    outputs = make_outputs(2, mean=torch.tensor([[1.0, 0.0], [3.0, 0.0]]), log_variance=torch.tensor([[0.0, math.log(4)], [0.0, math.log(4)]]))
    assert torch.allclose(diverge_from_prior(outputs), torch.tensor([2.5, (4 - 1 - math.log(4)) / 2]))


def test_target_of_a_batch_and_of_a_data_set():
    q = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
    mass = torch.tensor([1.2, 0.8])
    expected = q**2 / mass / (q**2 / mass).sum(1, keepdim=True)
    assert torch.allclose(sharpen(q), expected)
    assert torch.allclose(sharpen(q[:1], mass), expected[:1])  # the mass of the whole set, whatever the batch
    assert not torch.allclose(sharpen(q[:1]), expected[:1])
    assert cluster(q, q).item() == pytest.approx(0, abs=1e-6)
    p = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    by_hand = sum(0.5 * math.log(0.5 / value) for value in (0.8, 0.2, 0.4, 0.6))
    assert cluster(q, p).item() == pytest.approx(by_hand, rel=1e-5)  # summed, not averaged


def test_contrast_by_hand():
    projection = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.0, -1.0]])
    pairing = Pairing.of(torch.tensor([5, 5, -3, -4]), torch.tensor([1, 0, 2, 3]))
    # the first: partner .6, strangers 0 and 0; the second: partner .6, strangers .8 and -.8; those without a partner do not count
    first = math.log(math.exp(1.2) + 2) - 1.2
    second = math.log(math.exp(1.2) + math.exp(1.6) + math.exp(-1.6)) - 1.2
    assert contrast(projection, pairing).item() == pytest.approx((first + second) / 2, rel=1e-5)


def test_other_mice_of_the_gene_are_no_negatives():
    projection = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    triple = Pairing.of(torch.tensor([1, 1, 1]), torch.tensor([1, 2, 0]))
    assert contrast(projection, triple).item() == pytest.approx(0, abs=1e-6)


def test_partners_pass_no_gradient():
    projection = torch.eye(3)[:, :2].clone().requires_grad_()
    loss = contrast(projection, Pairing.of(torch.tensor([1, 1, -3]), torch.tensor([1, 0, 2])))
    loss.backward()
    assert projection.grad is not None
    assert projection.grad[2].abs().sum() == 0  # a mouse without a partner is only ever a partner


def test_consistency_is_the_mean_distance_to_the_genes_mean():
    mean = torch.tensor([[0.0, 0.0], [6.0, 8.0], [100.0, 100.0]], requires_grad=True)
    loss = keep_together(mean, Pairing.of(torch.tensor([2, 2, -3]), torch.tensor([1, 0, 2])))
    assert loss.item() == pytest.approx(5)
    loss.backward()
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


def test_without_any_pair_both_terms_are_zero():
    alone = Pairing.of(torch.tensor([-1, -2]), torch.tensor([0, 1]))
    assert contrast(torch.eye(2), alone).item() == 0
    assert keep_together(torch.eye(2), alone).item() == 0
