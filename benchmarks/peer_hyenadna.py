"""HyenaDNA of the suite against the published way to compute it: `python benchmarks/peer_hyenadna.py`.

Same weights, rows and optimiser steps; the peer is plain_hyenadna.py, whose filter network runs at every call and whose transform is exactly
twice the sequence long. Closed is the suite's operator in float32, open the same under bfloat16 autocast. Lanes alternate in one
process, in random order within each round; a ratio is taken within a round, and the table gives the median over rounds with its interval.
Exit code 1 when the closed lane is slower than the peer, the open lane misses 1.5 times the peer, or a loss departs by more than 1 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import Precision
from benchmarks.peer_training import Contest, Lane, Result, compete, format_ratio, report_results
from benchmarks.plain_hyenadna import make_plain_backbone
from datasets.splice_twin import make_splice_twin
from models.hyenadna.heads import HyenaPredictor, make_delta_head
from models.hyenadna.network import CONFIGS
from models.splice.tasks import VariantBatch
from models.training import autocast

CPU = torch.device("cpu")
AIM = 1.5
"""Times the peer that the open lane is to reach."""
LOSS_TOLERANCE = 0.01
WORKS = ("inference", "training")


class Answers(nn.Module):
    """What an inference lane leaves behind: its predictions."""

    def __init__(self, predictions: Tensor) -> None:
        super().__init__()
        self.predictions = predictions


def prepare(work: str, model: str, rows: int, batch: int, length: int) -> Contest:
    """One contest on `rows` random splice variants of `length` nucleotides; each lane sees them in the same order."""
    twin = make_splice_twin(max(40, 3 * rows), length)
    data = VariantBatch(*(tensor[:rows] for tensor in VariantBatch.of(twin)))
    parts = [VariantBatch(*(tensor[start : start + batch] for tensor in data)) for start in range(0, rows, batch)]
    # made once, outside the clock; a training starts from the first weights again, in every lane alike
    models = {lane: make_model(model, lane) for lane in Lane}
    first = {name: tensor.clone() for name, tensor in models[Lane.PEER].state_dict().items()}

    def enter(lane: Lane) -> Callable[[int], nn.Module]:
        precision = Precision.BF16 if lane is Lane.OPEN else Precision.FP32

        def go(seed: int) -> nn.Module:
            if work == "inference":
                return infer(models[lane], parts, precision)
            models[lane].load_state_dict(first)
            return train(models[lane], parts, precision, seed)

        return go

    def measure_loss(result: nn.Module) -> float:
        answers = result if isinstance(result, Answers) else infer(result, parts, Precision.FP32)
        return float(F.mse_loss(answers.predictions, data.target))

    return Contest(f"{work} {model}", "variants", rows, {lane: enter(lane) for lane in Lane}, measure_loss)


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
    with torch.inference_mode(), autocast(CPU, precision):
        return Answers(torch.cat([model(part.alternative, part.bases).float() for part in parts]))


def train(model: nn.Module, parts: list[VariantBatch], precision: Precision, seed: int) -> nn.Module:
    """One epoch of AdamW on the mean squared error of the deltas; every lane drops the same activations for the same seed."""
    model.train()
    torch.manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01)
    for part in parts:
        with autocast(CPU, precision):
            loss = F.mse_loss(model(part.alternative, part.bases).float(), part.target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    return model


def judge(result: Result) -> list[str]:
    """What the lane does not keep of its promise; speed is judged where there are rounds enough for an interval."""
    failures = []
    speed, loss = result.speed_ratio, result.loss_ratio
    if result.lane is Lane.CLOSED and speed.high is not None and speed.high < 1:
        failures.append("slower than the peer")
    if result.lane is Lane.OPEN and speed.high is not None and speed.high < AIM:
        failures.append(f"less than {AIM} times the peer")
    if loss.value is None or abs(loss.value - 1) > LOSS_TOLERANCE:
        failures.append("loss differs from the peer's")
    return failures


def format_table(results: list[Result]) -> str:
    """The results as fixed-width text."""
    lines = [f"{'work':<22} {'lane':<18} {'variants/s':>10}  {'against the peer':<22} {'loss ratio':>10}  verdict"]
    for r in results:
        verdict = ", ".join(judge(r)) or ("reference" if r.lane is Lane.PEER else "ok" if r.speed_ratio.low is not None else "too few rounds")
        ratio = format_ratio(r.speed_ratio)
        lines.append(f"{r.workload:<22} {r.lane:<18} {r.samples_per_s.value:>10,.1f}  {ratio:<22} {r.loss_ratio.value:>10.4f}  {verdict}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the contests, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", choices=WORKS, help="only this one (default: both)")
    parser.add_argument("--model", choices=list(CONFIGS), default="small-32k", help="size of the backbone (default: small-32k)")
    parser.add_argument("--rows", type=int, default=16, metavar="N", help="variants per lane and round (default: 16)")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="variants per step (default: 8)")
    parser.add_argument("--length", type=int, default=501, metavar="N", help="nucleotides per variant, odd (default: 501)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default: 9; an interval takes 6)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    if min(options.rows, options.batch, options.rounds, options.threads) < 1:
        parser.error("--rows, --batch, --rounds and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    results: list[Result] = []
    for work in [options.work] if options.work else WORKS:
        print(f"{work}: {options.rounds} rounds of {len(Lane)} lanes ...", file=sys.stderr, flush=True)
        results += compete(prepare(work, options.model, options.rows, options.batch, options.length), options.rounds)
    return report_results(results, judge, format_table, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
