"""HyenaDNA from its formulas, one position and one lag at a time, in float64: slow, and too plain to be wrong in the same way."""

import math

import torch


def take_weights(module):
    return {name: tensor.detach().double() for name, tensor in module.state_dict().items()}


def make_filter(weights, length, longest):
    """[channels, length], lag 0 first, without the skip connection."""
    channels = len(weights["bias"])
    slowest, fastest = math.log(0.01) / 1.5, math.log(0.01) / 0.3
    rows = []
    for i in range(length):
        t, omega = i / (longest - 1), 2 * math.pi * i / longest
        x = torch.tensor([t, math.cos(1e-4 * omega), math.cos(omega), -math.sin(1e-4 * omega), -math.sin(omega)], dtype=torch.float64)
        for layer in ("0", "2", "4"):
            x = weights[f"implicit_filter.{layer}.weight"] @ x + weights[f"implicit_filter.{layer}.bias"]
            x = torch.sin(weights["implicit_filter.1.freq"][0] * x)
        delta = [slowest + (fastest - slowest) * c / (channels - 1) for c in range(channels)]
        window = torch.tensor([math.exp(-t * abs(d)) + 0.05 for d in delta], dtype=torch.float64)
        rows.append(weights["implicit_filter.6.weight"] @ x * window)
    return torch.stack(rows, dim=1)


def convolve_directly(x, taps, bias):
    """[B, channels, L] by [channels, L]: every pair of position and lag."""
    y = x * bias[:, None]
    for i in range(x.shape[-1]):
        for j in range(i + 1):
            y[..., i] += taps[:, j] * x[..., i - j]
    return y


def mix(weights, u, longest):
    """The operator on [B, L, d]."""
    width, length = u.shape[2], u.shape[1]
    p = (u @ weights["in_proj.weight"].T + weights["in_proj.bias"]).transpose(1, 2)
    short = torch.zeros_like(p)
    for i in range(length):
        for back in range(3):
            if i >= back:
                short[..., i] += weights["short_filter.weight"][:, 0, 2 - back] * p[..., i - back]
    short += weights["short_filter.bias"][:, None]
    x0, x1, v = short[:, :width], short[:, width : 2 * width], short[:, 2 * width :]
    inner = {name.removeprefix("filter_fn."): tensor for name, tensor in weights.items() if name.startswith("filter_fn.")}
    y = convolve_directly(v * x1, make_filter(inner, length, longest), inner["bias"])
    return (y * x0).transpose(1, 2) @ weights["out_proj.weight"].T + weights["out_proj.bias"]


def norm(x, weight, bias):
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dim=-1, keepdim=True) + 1e-5) * weight + bias


def run(weights, ids, layers, longest):
    """The backbone on [B, L] ids."""
    x = weights["embeddings.word_embeddings.weight"][ids]
    for layer in range(layers):
        own = {name.removeprefix(f"layers.{layer}."): tensor for name, tensor in weights.items() if name.startswith(f"layers.{layer}.")}
        mixer = {name.removeprefix("mixer."): tensor for name, tensor in own.items() if name.startswith("mixer.")}
        x = x + mix(mixer, norm(x, own["norm1.weight"], own["norm1.bias"]), longest)
        inner = norm(x, own["norm2.weight"], own["norm2.bias"]) @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]
        inner = 0.5 * inner * (1 + torch.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        x = x + inner @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
    return norm(x, weights["ln_f.weight"], weights["ln_f.bias"])
