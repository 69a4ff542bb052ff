"""Inference of the base splice model against its published form: `python benchmarks/peer_splice_base.py`.

Same weights, same variant, float32: the published form pads every convolution over the whole 12,001 nt window and cuts the padding off at
the end; ours computes without padding, and only what the scores within 50 nt need. Probabilities must agree before anything is timed. Exit
code 1 when ours is surely not faster.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.datasets.base_windows import BEYOND, SCAN
from assay.models.splice.base.network import SPLICEAI_10K, Architecture, SpliceAI, crop
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests

TOLERANCE = 1e-5
"""Largest difference of a probability, float32."""
Predict = Callable[[], Tensor]


def predict_as_published(state: Mapping[str, Tensor], architecture: Architecture, x: Tensor) -> Tensor:
    """One-hot bases [B, 4, context + P] -> probabilities [B, 3, P]: every convolution padded, half the context cut off either end at last."""

    def activate(y: Tensor, name: str) -> Tensor:
        mean, variance, weight, bias = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.leaky_relu(F.batch_norm(y, mean, variance, weight, bias), 0.1)

    def convolve(y: Tensor, name: str, width: int = 1, dilation: int = 1) -> Tensor:
        return F.conv1d(y, state[f"{name}.weight"], state[f"{name}.bias"], dilation=dilation, padding=(width - 1) * dilation // 2)

    x = convolve(x, "initial_conv")
    skip = convolve(x, "initial_skip.conv")
    index = 0
    for width, dilation in architecture.groups:
        for _ in range(4):
            name = f"residual_units.{index}"
            y = convolve(activate(x, f"{name}.batchnorm1"), f"{name}.conv1", width, dilation)
            x = x + convolve(activate(y, f"{name}.batchnorm2"), f"{name}.conv2", width, dilation)
            index += 1
        skip = skip + convolve(x, f"residual_units.{index}.conv")
        index += 1
    return convolve(crop(skip, skip.shape[-1] - architecture.context), "final_conv").softmax(dim=1)


def prepare(architecture: Architecture, batch: int, place: Place | None = None) -> Contest:
    """Both forms on `batch` random sequences. Random weights: speed does not depend on them. Raises ValueError when an output differs."""
    place = place or open_place("cpu")
    lanes = make_lanes(architecture, batch, place.device)
    check_agreement(lanes)
    ways = {Lane.PEER: "padded over the whole window, as published", Lane.OPEN: "no padding, the scanned positions only"}
    return Contest(
        name="splice base model",
        unit="sequences",
        samples=batch,
        lanes={lane: Entry(run=_run(predict), how=ways[lane]) for lane, predict in lanes.items()},
        agreement=f"probabilities agree within {TOLERANCE:g}, checked before timing",
        device=place.device,
        profile=place.profile,
    )


def make_lanes(architecture: Architecture, batch: int, device: torch.device) -> Mapping[Lane, Predict]:
    """Each form's way to probabilities [B, 3, 101] within 50 nt of the variant."""
    torch.manual_seed(0)
    model = SpliceAI(architecture).eval().to(device)
    codes = torch.randint(4, (batch, architecture.context + 2 * BEYOND + 1))
    window = F.one_hot(codes, 4).transpose(1, 2).float().contiguous().to(device)
    near = crop(window, architecture.context + 2 * SCAN + 1).contiguous()
    return {Lane.PEER: lambda: crop(predict_as_published(model.state_dict(), architecture, window), 2 * SCAN + 1), Lane.OPEN: lambda: model(near)}


def check_agreement(lanes: Mapping[Lane, Predict]) -> None:
    """Raises ValueError when a probability differs by more than 1e-5."""
    with torch.inference_mode():
        difference = float((lanes[Lane.PEER]() - lanes[Lane.OPEN]()).abs().max())
    if difference > TOLERANCE:
        raise ValueError(f"probabilities differ by {difference:.2g}; nothing to compare")


def _run(predict: Predict) -> Callable[[int], nn.Module]:
    def run(_: int) -> nn.Module:
        with torch.inference_mode():
            predict()
        return nn.Identity()  # outputs were compared beforehand

    return run


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at a time (default: 1)")

    def prepare_one(options: Namespace, place: Place) -> Iterator[Contest]:
        yield prepare(SPLICEAI_10K, options.batch, place)

    return run_contests(parser, prepare_one, arguments)


if __name__ == "__main__":
    sys.exit(main())
