"""HyenaDNA of the suite against the published way to compute it: `python benchmarks/peer_hyenadna.py`.

Same weights, rows and optimiser steps; the peer is plain_hyenadna.py, whose filter network runs at every call and whose transform is exactly
twice the sequence long. Closed is the suite's operator in float32, open the same under bfloat16 autocast where the hardware has it.
Exit code 1 when a lane surely does not keep what benchmarks.contest.judge asks of it, the open lane's aim of 1.5 times the peer on a CPU included.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import Precision
from assay.datasets.splice_twin import make_splice_twin
from assay.models.hyenadna.heads import HyenaPredictor, make_delta_head
from assay.models.hyenadna.network import CONFIGS
from assay.models.splice.tasks import VariantBatch
from assay.models.training import autocast
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests
from benchmarks.footprint import choose_open_precision
from benchmarks.plain_hyenadna import make_plain_backbone

LANES = (Lane.PEER, Lane.CLOSED, Lane.OPEN)
AIM = 1.5
"""Times the peer that the open lane is to reach."""
WORKS = ("inference", "training")


class Answers(nn.Module):
    """What an inference lane leaves behind: its predictions."""

    def __init__(self, predictions: Tensor) -> None:
        super().__init__()
        self.predictions = predictions


def prepare(work: str, model: str, rows: int, batch: int, length: int, place: Place | None = None) -> Contest:
    """One contest on `rows` random splice variants of `length` nucleotides; each lane sees them in the same order."""
    place = place or open_place("cpu")
    device = place.device
    twin = make_splice_twin(max(40, 3 * rows), length)
    data = VariantBatch(*(tensor[:rows].to(device) for tensor in VariantBatch.of(twin)))
    parts = [VariantBatch(*(tensor[start : start + batch] for tensor in data)) for start in range(0, rows, batch)]
    # made once, outside the clock; a training starts from the first weights again, in every lane alike
    models = {lane: make_model(model, lane).to(device) for lane in LANES}
    first = {name: tensor.clone() for name, tensor in models[Lane.PEER].state_dict().items()}

    def enter(lane: Lane) -> Entry:
        precision = choose_open_precision(place.profile) if lane is Lane.OPEN else Precision.FP32

        def go(seed: int) -> nn.Module:
            if work == "inference":
                return infer(models[lane], parts, precision)
            models[lane].load_state_dict(first)
            return train(models[lane], parts, precision, seed)

        return Entry(run=go, precision=precision, how="the filter network runs at every call" if lane is Lane.PEER else "")

    def measure_loss(result: nn.Module) -> float:
        answers = result if isinstance(result, Answers) else infer(result, parts, Precision.FP32)
        return float(F.mse_loss(answers.predictions, data.target))

    return Contest(
        name=f"hyenadna {model} {work}",
        unit="variants",
        samples=rows,
        lanes={lane: enter(lane) for lane in LANES},
        measure_loss=measure_loss,
        aim=AIM,
        device=device,
        profile=place.profile,
    )


def make_model(name: str, lane: Lane) -> HyenaPredictor:
    """The delta predictor with all layers trained; the same weights in every lane."""
    torch.manual_seed(0)
    model = HyenaPredictor(CONFIGS[name], make_delta_head, trained_layers=None)
    if lane is Lane.PEER:
        model.backbone = make_plain_backbone(model.backbone)
    return model


def infer(model: nn.Module, parts: list[VariantBatch], precision: Precision) -> Answers:
    """Predictions of every row."""
    model.eval()
    with torch.inference_mode(), autocast(parts[0].alternative.device, precision):
        return Answers(torch.cat([model(part.alternative, part.bases).float() for part in parts]))


def train(model: nn.Module, parts: list[VariantBatch], precision: Precision, seed: int) -> nn.Module:
    """One epoch of AdamW on the mean squared error of the deltas; every lane drops the same activations for the same seed."""
    model.train()
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    for part in parts:
        with autocast(part.alternative.device, precision):
            loss = F.mse_loss(model(part.alternative, part.bases).float(), part.target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return model


def main(arguments: list[str] | None = None) -> int:
    """Runs the contests, prints the table and returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--work", choices=WORKS, help="only this one (default: both)")
    parser.add_argument("--model", choices=list(CONFIGS), default="small-32k", help="size of the backbone (default: small-32k)")
    parser.add_argument("--rows", type=int, default=16, metavar="N", help="variants per lane and round (default: 16)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="variants per step (default: 8)")
    parser.add_argument("--length", type=int, default=501, metavar="N", help="nucleotides per variant, odd (default: 501)")

    def prepare_all(options: Namespace, place: Place) -> Iterator[Contest]:
        for work in [options.work] if options.work else WORKS:
            yield prepare(work, options.model, options.rows, options.batch, options.length, place)

    return run_contests(parser, prepare_all, arguments)


if __name__ == "__main__":
    sys.exit(main())
