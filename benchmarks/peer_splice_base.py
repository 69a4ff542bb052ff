"""Inference of the base splice model against its published form: `python benchmarks/peer_splice_base.py`.

Same weights, same variant: the published form pads every convolution over the whole 12,001 nt window and cuts the padding off at the end;
ours computes without padding, and only what the scores within 50 nt need. Lanes alternate in one process, in random order within each
round; a ratio is taken within a round. Exit code 1 when ours is not faster or an output differs.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import ExitCode, Quantity
from bench.measure.clock import synchronise
from benchmarks.peer_training import take_median
from datasets.base_windows import BEYOND, SCAN
from models.splice.base.network import SPLICEAI_10K, Architecture, SpliceAI, crop

TOLERANCE = 1e-5
"""Largest difference of a probability, float32."""


@dataclass(frozen=True, slots=True)
class Result:
    """Sequences per second of either form, how many times faster ours is, and the largest difference of their outputs."""

    published: Quantity
    ours: Quantity
    speed_ratio: Quantity
    largest_difference: float

    @property
    def failures(self) -> list[str]:
        """What is not as promised; of the speed nothing is said with too few rounds for an interval."""
        slow = ["not faster than the published form"] if self.speed_ratio.low is not None and self.speed_ratio.low <= 1 else []
        return slow + (["outputs differ"] if self.largest_difference > TOLERANCE else [])


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


def compete(architecture: Architecture, rounds: int, batch: int, device: torch.device) -> Result:
    """Both forms once a round on `batch` random sequences, after one pass each outside the clock. Random weights: speed does not depend on them."""
    torch.manual_seed(0)
    model = SpliceAI(architecture).eval().to(device)
    codes = torch.randint(4, (batch, architecture.context + 2 * BEYOND + 1))
    window = F.one_hot(codes, 4).transpose(1, 2).float().contiguous().to(device)
    near = crop(window, architecture.context + 2 * SCAN + 1).contiguous()
    lanes: dict[str, Callable[[], Tensor]] = {
        "published": lambda: crop(predict_as_published(model.state_dict(), architecture, window), 2 * SCAN + 1),
        "ours": lambda: model(near),
    }
    order, seconds = random.Random(0), {name: list[float]() for name in lanes}
    with torch.inference_mode():
        difference = float((lanes["published"]() - lanes["ours"]()).abs().max())
        for _ in range(rounds):
            for name in order.sample(list(lanes), len(lanes)):
                began = time.perf_counter()
                lanes[name]()
                synchronise(device)
                seconds[name].append(time.perf_counter() - began)
    published, ours = (take_median([batch / s for s in seconds[name]], "sequences/s") for name in ("published", "ours"))
    ratio = take_median([theirs / own for theirs, own in zip(seconds["published"], seconds["ours"], strict=True)], "x published form")
    return Result(published, ours, ratio, difference)


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints it and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default: 9; an interval takes 6)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at a time (default: 1)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads on a CPU (default: 1)")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu or cuda (default: cpu)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.batch, options.threads) < 1:
        parser.error("--rounds, --batch and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    result = compete(SPLICEAI_10K, options.rounds, options.batch, torch.device(options.device))
    if options.json:
        print(json.dumps(asdict(result) | {"failures": result.failures}, indent=1, allow_nan=False))
    else:
        ratio = result.speed_ratio
        interval = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        print(f"published form {result.published.value:.3g}, ours {result.ours.value:.3g} sequences/s: {ratio.value:.2f}{interval} times as fast ({ratio.how})")
        print(f"largest difference of a probability {result.largest_difference:.1e}; " + (", ".join(result.failures) or "ok"))
    return ExitCode.VERDICT_FAILED if result.failures else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
