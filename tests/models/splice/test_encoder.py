"""The gated encoder against a plain loop, its reach, and the encoding of bases."""

import numpy as np
import pytest
import torch
from torch import nn

from assay.datasets.genome import encode_bases
from assay.models.splice.encoder import BaseEncoding, DilatedConvolution, GatedEncoder, GatedResidualBlock
from assay.models.splice.siamese import DilatedResidualBlock, SiameseEncoder


def convolve_by_loop(x, weight, bias, dilation):
    """[B, L, in] -> [B, L, out], the definition written out."""
    batch, length, _ = x.shape
    out = bias.expand(batch, length, -1).clone()
    middle = weight.shape[2] // 2
    for at in range(length):
        for tap in range(weight.shape[2]):
            source = at + (tap - middle) * dilation
            if 0 <= source < length:
                out[:, at] += x[:, source] @ weight[:, :, tap].T
    return out


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_a_convolution_is_the_sum_over_its_taps_with_zeros_outside(dilation):
    torch.manual_seed(0)
    layer = DilatedConvolution(3, 5, 15, dilation).double()
    x = torch.randn(2, 21, 3, dtype=torch.double)
    torch.testing.assert_close(layer(x), convolve_by_loop(x, layer.weight, layer.bias, dilation))


@pytest.mark.parametrize("dilation", [1, 8])
def test_a_gated_block_is_value_times_sigmoid_gate_normalised_and_added(dilation):
    torch.manual_seed(1)
    block = GatedResidualBlock(6, dilation, dropout=0.1).double().eval()
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    x = torch.randn(2, 33, 6, dtype=torch.double)
    y = convolve_by_loop(x, block.conv.weight, block.conv.bias, dilation)
    gated = y[..., :6] * torch.sigmoid(y[..., 6:])
    mean, variance = gated.mean(-1, keepdim=True), gated.var(-1, unbiased=False, keepdim=True)
    normalised = (gated - mean) / torch.sqrt(variance + 1e-5) * block.norm.weight + block.norm.bias
    torch.testing.assert_close(block(x), x + normalised)


def test_gradients_of_a_block_are_those_of_the_plain_layout():
    torch.manual_seed(2)
    block = GatedResidualBlock(8, 4, dropout=0.0)
    x = torch.randn(3, 40, 8)
    block(x).square().sum().backward()
    ours = [weights.grad.clone() for weights in block.parameters() if weights.grad is not None]
    block.zero_grad()
    value, gate = nn.functional.conv1d(x.transpose(1, 2), block.conv.weight, block.conv.bias, padding=28, dilation=4).chunk(2, dim=1)
    (block.norm((value * torch.sigmoid(gate)).transpose(1, 2)) + x).square().sum().backward()
    for mine, weights in zip(ours, block.parameters(), strict=True):
        torch.testing.assert_close(mine, weights.grad, rtol=1e-4, atol=1e-3)


def test_dilation_grows_to_eight_and_starts_again_and_the_paired_encoder_to_four():
    def list_dilations(encoder):
        return [module.dilation[0] for module in encoder.modules() if isinstance(module, DilatedConvolution)]

    assert list_dilations(GatedEncoder(4, 10)) == [1, 2, 4, 8, 1, 2, 4, 8, 1, 2]
    assert list_dilations(SiameseEncoder(4, 6)) == [1, 1, 2, 2, 4, 4] * 2  # two convolutions per block


@pytest.mark.parametrize(("layers", "reach"), [(1, 7), (4, 105), (6, 126)])
def test_a_position_sees_seven_times_the_summed_dilations_to_either_side(layers, reach):
    torch.manual_seed(3)
    encoder = GatedEncoder(4, layers).double().eval()
    x = torch.randn(1, 301, 4, dtype=torch.double)
    changed = x.clone()
    changed[0, 150] += 1
    moved = (encoder(x) != encoder(changed)).any(-1)[0].nonzero().squeeze(-1)
    assert (int(moved.min()), int(moved.max())) == (150 - reach, 150 + reach)


def test_the_paired_block_gates_by_a_linear_layer_of_its_own_output():
    torch.manual_seed(4)
    block = DilatedResidualBlock(6, 2).double().eval()
    x = torch.randn(2, 25, 6, dtype=torch.double)
    y = nn.functional.gelu(block.norm1(convolve_by_loop(x, block.conv1.weight, block.conv1.bias, 2)))
    y = block.norm2(convolve_by_loop(y, block.conv2.weight, block.conv2.bias, 2))
    torch.testing.assert_close(block(x), x + y * torch.sigmoid(y @ block.gate.weight.T + block.gate.bias))


@pytest.mark.parametrize(("n_as_a", "n_row"), [(True, [1, 0, 0, 0]), (False, [0, 0, 0, 0])])
def test_n_reads_as_a_when_documented_and_as_nothing_when_corrected(n_as_a, n_row):
    encoded = BaseEncoding(n_as_a=n_as_a)(torch.from_numpy(encode_bases("ACGTN")))
    assert np.array_equal(encoded.numpy(), [*np.eye(4), n_row])
