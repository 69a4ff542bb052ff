import pytest
import torch
from torch import nn

from assay.models.affinity.networks import V1_SHAPE, V2_SHAPE, AffinityNetwork, count_parameters


@pytest.mark.parametrize(("shape", "parameters", "linear"), [(V1_SHAPE, 72_449, 71_681), (V2_SHAPE, 251_777, 249_857)])
def test_parameter_counts_are_the_verified_ones(shape, parameters, linear):
    network = AffinityNetwork(shape)
    assert count_parameters(network) == parameters
    assert count_parameters(network, nn.Linear) == linear


def test_v1_layer_by_layer():
    kinds = [type(layer).__name__ for layer in AffinityNetwork(V1_SHAPE).layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert [layer.p for layer in AffinityNetwork(V1_SHAPE).layers if isinstance(layer, nn.Dropout)] == [0.3, 0.3]


def test_v2_layer_by_layer():
    layers = AffinityNetwork(V2_SHAPE).layers
    assert [type(layer).__name__ for layer in layers] == ["Linear", "BatchNorm1d", "GELU", "Dropout"] * 4 + ["Linear"]
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [512, 256, 128, 64, 1]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.3, 0.3, 0.3, 0.15]


def test_xavier_bounds_weights_and_zeroes_biases():
    for layer in AffinityNetwork(V2_SHAPE).layers:
        if isinstance(layer, nn.Linear):
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert 0.8 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.abs().max() == 0


def test_one_number_per_row_even_for_one_row():
    network = AffinityNetwork(V2_SHAPE).eval()
    assert network(torch.zeros(7, 150)).shape == (7,)
    assert network(torch.zeros(1, 150)).shape == (1,)
