"""Training throughput of the suite against a plain PyTorch DataLoader loop: `python benchmarks/peer_training.py`.

Same twin rows, weights, recipe and epochs; the peer is plain_training.py. Lanes alternate in one process, in random order within each round, so that a busy
machine slows them alike. A ratio is taken within a round, and the table gives the median over rounds with its interval.
Exit code 1 when the closed lane is slower than the peer, the open lane not faster, or the test loss differs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import Case, Division, ExitCode, Phase, Precision, Preset, Quantity
from bench.measure.clock import median_interval
from bench.registry import get_workload
from benchmarks.plain_training import make_plain_predictor, train_plain
from models.splice.tasks import EncodedNetwork, VariantBatch
from models.training import Batch, Recipe, TrainingSession
from models.workload import Resources

CPU = torch.device("cpu")

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


class Lane(StrEnum):
    """Who trains, and how."""

    PEER = "peer"
    CLOSED = "assay closed fp32"
    OPEN = "assay open bf16"


@dataclass(frozen=True, slots=True)
class Contest:
    """One workload made ready: each lane trains a fresh network from a seed and returns it."""

    name: str
    unit: str
    samples: int  # per training
    train: Mapping[Lane, Callable[[int], nn.Module]]
    measure_loss: Callable[[nn.Module], float]  # mean loss per test row, float32


@dataclass(frozen=True, slots=True)
class Result:
    """What one lane did over the rounds; ratios are to the peer of the same round, above 1 is faster, or a larger loss."""

    workload: str
    lane: Lane
    samples_per_s: Quantity
    speed_ratio: Quantity
    test_loss: Quantity
    loss_ratio: Quantity


@dataclass(frozen=True, slots=True)
class _Size:
    variant: str
    preset: Preset
    epochs: int


WORKLOADS = {
    "affinity-v2": _Size("documented", Preset.STANDARD, epochs=2),
    "splice-validated": _Size("hidden128-layers6", Preset.SMOKE, epochs=2),
}


def prepare(name: str) -> Contest:
    """Opens the workload on its twin in both divisions and puts the peer on the very same rows."""
    size = WORKLOADS[name]
    closed, opened = (_open(name, size, *kind) for kind in ((Division.CLOSED, Precision.FP32), (Division.OPEN, Precision.BF16)))
    task, splits = closed._task, closed._splits
    recipe = closed._recipe

    def measure_loss(model: nn.Module) -> float:
        model.eval()
        with torch.inference_mode():
            return float(task.loss(model, splits.test))

    def run(session: TrainingSession, precision: Precision, seed: int) -> nn.Module:
        fresh = TrainingSession(
            session._task,
            splits,
            session._recipe,
            card=session.card,
            conditions=session.conditions,
            unit=session.unit,
            device=CPU,
            precision=precision,
            seed=seed,
        )
        fresh.fit(lambda *_: None)
        return fresh.model

    peer = _prepare_splice_peer(closed, recipe) if name == "splice-validated" else _prepare_affinity_peer(closed, recipe)
    lanes = {Lane.PEER: peer, Lane.CLOSED: lambda seed: run(closed, Precision.FP32, seed), Lane.OPEN: lambda seed: run(opened, Precision.BF16, seed)}
    return Contest(name, closed.unit, len(splits.train[0]) * recipe.epochs, lanes, measure_loss)


def _open(name: str, size: _Size, division: Division, precision: Precision) -> TrainingSession:
    case = Case(name, size.variant, Phase.TRAIN, size.preset, division, precision)
    with tempfile.TemporaryDirectory() as cache:
        session = get_workload(name).open(case, Resources(device=CPU, data=None, batch=None, seed=0, cache=Path(cache)))
    if not isinstance(session, TrainingSession):
        raise TypeError(f"{name} trains in its own way; this benchmark compares models.training")
    session._recipe = replace(session._recipe, epochs=size.epochs)
    return session


def _prepare_affinity_peer(session: TrainingSession, recipe: Recipe) -> Callable[[int], nn.Module]:
    task, splits = session._task, session._splits
    train, validation = TensorDataset(*splits.train), None if splits.validation is None else TensorDataset(*splits.validation)

    def train_peer(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = task.build()
        train_plain(model, lambda network, batch: task.loss(network, tuple(batch)), train, validation, recipe)
        return model

    return train_peer


def _prepare_splice_peer(session: TrainingSession, recipe: Recipe) -> Callable[[int], nn.Module]:
    splits = session._splits
    train = TensorDataset(*_encode_plainly(session, splits.train))
    validation = None if splits.validation is None else TensorDataset(*_encode_plainly(session, splits.validation))

    def train_peer(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        suites = session._task.build()
        plain = make_plain_predictor(suites.network)  # type: ignore[arg-type]
        train_plain(plain, lambda network, batch: F.mse_loss(network(batch[0], batch[1]), batch[2]), train, validation, recipe)
        suites.network.load_state_dict(plain.state_dict())  # type: ignore[union-attr]
        return suites

    return train_peer


def _encode_plainly(session: TrainingSession, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    network = session.model
    if not isinstance(network, EncodedNetwork):
        raise TypeError("the splice peer knows networks behind a one-hot encoding")
    rows = VariantBatch(*batch)
    return network.encoding(rows.alternative).transpose(1, 2).contiguous(), network.encoding(rows.bases), rows.target


def compete(contest: Contest, rounds: int, seed: int = 0) -> list[Result]:
    """Every lane once a round, in random order; round r trains from seed r in each lane."""
    order = random.Random(seed)
    seconds: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    losses: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    for lane in Lane:
        contest.train[lane](seed)  # allocators and kernels warm up outside the clock
    for number in range(rounds):
        for lane in order.sample(list(Lane), len(Lane)):
            began = time.perf_counter()
            model = contest.train[lane](number)
            seconds[lane].append(time.perf_counter() - began)
            losses[lane].append(contest.measure_loss(model))
    return [
        Result(
            contest.name,
            lane,
            take_median([contest.samples / s for s in seconds[lane]], f"{contest.unit}/s"),
            take_median([peer / own for peer, own in zip(seconds[Lane.PEER], seconds[lane], strict=True)], "x peer"),
            take_median(losses[lane], "loss"),
            take_median([own / peer for own, peer in zip(losses[lane], losses[Lane.PEER], strict=True)], "x peer"),
        )
        for lane in Lane
    ]


def take_median(values: list[float], unit: str) -> Quantity:
    """Median over rounds with a distribution-free 95 % interval, which takes six rounds."""
    interval = median_interval(values)
    how = f"median of {len(values)} rounds"
    if interval is None:
        return Quantity(statistics.median(values), unit, len(values), how=f"{how}; no interval: 95 % takes at least 6 rounds")
    return Quantity(statistics.median(values), unit, len(values), interval.low, interval.high, f"{how}, order statistics")


def judge(result: Result) -> list[str]:
    """What the lane does not keep of its promise; empty when all is well, or when there are too few rounds to say."""
    speed, loss = result.speed_ratio, result.loss_ratio
    if speed.low is None or speed.high is None or loss.low is None or loss.high is None:
        return []
    failures = []
    if result.lane is Lane.CLOSED and speed.high < 1:
        failures.append("slower than the peer")
    if result.lane is Lane.OPEN and speed.low <= 1:
        failures.append("not faster than the peer")
    if not loss.low <= 1 <= loss.high:
        failures.append("test loss differs from the peer's")
    return failures


def format_table(results: list[Result]) -> str:
    """The results as fixed-width text."""
    lines = [f"{'workload':<17} {'lane':<18} {'throughput':>16}  {'against the peer':<22} {'test loss':>10}  {'against the peer':<22} verdict"]
    for r in results:
        speed = f"{r.samples_per_s.value:,.0f} {r.samples_per_s.unit}"
        verdict = ", ".join(judge(r)) or ("reference" if r.lane is Lane.PEER else "ok" if r.speed_ratio.low is not None else "too few rounds")
        cells = f"{r.workload:<17} {r.lane:<18} {speed:>16}  {format_ratio(r.speed_ratio):<22} {r.test_loss.value:>10.4g}"
        lines.append(f"{cells}  {format_ratio(r.loss_ratio):<22} {verdict}")
    return "\n".join(lines)


def format_ratio(ratio: Quantity) -> str:
    """`1.302 [1.196, 1.324]`, without the brackets where there is no interval."""
    interval = "" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    return f"{ratio.value:.3f}{interval}"


def report_results(results: list[T], judge: Callable[[T], list[str]], format_table: Callable[[list[T]], str], *, as_json: bool) -> int:
    """Prints what the lanes of a contest gave; the exit code says whether one of ours failed against its peer. T: a dataclass."""
    failures = [judge(result) for result in results]
    if as_json:
        print(json.dumps([asdict(result) | {"failures": found} for result, found in zip(results, failures, strict=True)], indent=1, allow_nan=False))
    else:
        print(format_table(results))
    return ExitCode.VERDICT_FAILED if any(failures) else ExitCode.OK


def main(arguments: list[str] | None = None) -> int:
    """Runs the contests, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=list(WORKLOADS), help="only this one (default: both)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds per workload (default: 9; an interval takes 6)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1, so that other programs on the machine disturb least)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.threads) < 1:
        parser.error("--rounds and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    results: list[Result] = []
    for name in [options.workload] if options.workload else WORKLOADS:
        print(f"{name}: {options.rounds} rounds of {len(Lane)} lanes ...", file=sys.stderr, flush=True)
        results += compete(prepare(name), options.rounds)
    return report_results(results, judge, format_table, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
