import numpy as np
import pytest
import torch

from assay.models.affinity.loss import compute_class_weights, focal_mse, weigh_rows, weighted_mse


def test_class_weights_follow_the_formula():
    # 10 rows: 1 very weak, 4 weak (7.0 is counted as weak), 2 moderate, 1 strong, 1 very strong, 1 outside that counts for N only
    pkd = np.array([4.0, 5.5, 6.0, 6.5, 7.0, 7.5, 9.0, 10.0, 12.0, -1.0])
    np.testing.assert_allclose(compute_class_weights(pkd, 1.0), [2.0, 0.5, 1.0, 2.0, 2.0], rtol=1e-15)
    np.testing.assert_allclose(compute_class_weights(pkd, 10.0), [20.0, 0.5, 1.0, 2.0, 20.0], rtol=1e-15)


def test_inverse_weights_sum_to_the_number_of_bins():
    # sum over bins of 1 / w = 5 x (rows in bins) / N, which the document's own example, with .84, misses
    pkd = np.random.default_rng(0).uniform(0, 16, 1_000)
    assert (1 / compute_class_weights(pkd, 1.0)).sum() == pytest.approx(5.0, rel=1e-12)


def test_a_bin_without_training_rows_weighs_one():
    assert compute_class_weights(np.array([6.0, 8.0]), 10.0).tolist() == [1.0, 0.4, 0.4, 1.0, 1.0]


def test_rows_get_weights_with_the_lower_edge_inside():
    pkd = torch.tensor([-0.001, 0.0, 4.999, 5.0, 7.0, 9.0, 11.0, 15.999, 16.0])
    weights = weigh_rows(pkd, np.array([10.0, 20.0, 30.0, 40.0, 50.0]))
    assert weights.tolist() == [1.0, 10.0, 10.0, 20.0, 30.0, 40.0, 50.0, 50.0, 1.0]


def test_weighted_mse_by_hand():
    # (2 x 1^2 + 1 x 2^2) / 2
    assert weighted_mse(torch.tensor([6.0, 8.0]), torch.tensor([7.0, 6.0]), torch.tensor([2.0, 1.0])).item() == 3.0


def test_focal_mse_by_hand():
    # errors 1, 2 and 0.5; squares 1, 4, .25; w x e x (1 + e) = 2 x 1 x 2, 1 x 4 x 5, 4 x .25 x 1.25; mean of 4, 20, 1.25
    prediction, target, weight = torch.tensor([6.0, 8.0, 5.0]), torch.tensor([7.0, 6.0, 5.5]), torch.tensor([2.0, 1.0, 4.0])
    assert focal_mse(prediction, target, weight).item() == pytest.approx(25.25 / 3, rel=1e-7)


def test_focal_exponent_is_half_of_gamma():
    # gamma 4: e x (1 + e^2) = 4 x 17; gamma 1: 4 x (1 + 2)
    two = torch.tensor([2.0]), torch.tensor([0.0]), torch.tensor([1.0])
    assert focal_mse(*two, gamma=4.0).item() == 68.0
    assert focal_mse(*two, gamma=1.0).item() == 12.0


def test_focal_gradient_at_zero_error_is_zero():
    prediction = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(focal_mse(prediction, torch.zeros(3), torch.ones(3)), prediction)
    assert gradient.tolist() == [0.0, 0.0, 0.0]
