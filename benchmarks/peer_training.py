"""Training throughput of the suite against a plain PyTorch DataLoader loop: `python benchmarks/peer_training.py`.

Three multi-layer perceptrons and convolutional networks on their twins: affinity-v2, splice-validated and tissuebert-file. Same rows,
weights and epochs; the peer is plain_training.py and follows the documented recipe, as the closed lane does; the open lane follows the
open division's. Exit code 1 when a lane surely does not keep what benchmarks.contest.judge asks of it.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.bench.registry import get_workload
from assay.models.splice.tasks import EncodedNetwork, VariantBatch
from assay.models.training import Batch, Recipe, TrainingSession
from assay.models.workload import Resources
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests
from benchmarks.footprint import choose_open_precision
from benchmarks.plain_training import make_plain_predictor, train_plain

AIM = 3.0
"""Times the peer's throughput that the open lane of a multi-layer perceptron is to reach on a CPU, at equal quality."""


@dataclass(frozen=True, slots=True)
class _Size:
    variant: str
    preset: Preset
    epochs: int
    aim: float | None = None
    bf16_pays: bool = True  # at the size of its batches on a CPU
    told: str = ""  # how it differs from the documented size


WORKLOADS = {
    "affinity-v2": _Size("documented", Preset.STANDARD, epochs=2, aim=AIM),
    "splice-validated": _Size("hidden128-layers6", Preset.SMOKE, epochs=2, told=", 61 nt"),
    "tissuebert-file": _Size("bottleneck2048", Preset.STANDARD, epochs=5, aim=AIM, bf16_pays=False),
}


def prepare(name: str, place: Place | None = None) -> Contest:
    """Opens the workload on its twin in both divisions and puts the peer on the very same rows."""
    size, place = WORKLOADS[name], place or open_place("cpu")
    device = place.device
    precision = choose_open_precision(place.profile) if size.bf16_pays or device.type == "cuda" else Precision.FP32
    closed, opened = (_open(name, size, device, *kind) for kind in ((Division.CLOSED, Precision.FP32), (Division.OPEN, precision)))
    task, splits, recipe = closed._task, closed._splits, closed._recipe

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
            device=device,
            precision=precision,
            seed=seed,
        )
        fresh.fit(lambda *_: None)
        return fresh.model

    peer = _prepare_splice_peer(closed, recipe, device) if name == "splice-validated" else _prepare_row_peer(closed, recipe, device)
    lanes = {
        Lane.PEER: Entry(run=peer, how="DataLoader, the documented recipe"),
        Lane.CLOSED: Entry(run=lambda seed: run(closed, Precision.FP32, seed)),
        Lane.OPEN: Entry(run=lambda seed: run(opened, precision, seed), precision=precision, how=describe_recipe(opened._recipe)),
    }
    samples = len(splits.train[0]) * recipe.epochs
    return Contest(
        name=f"{name}{size.told}",
        unit=closed.unit,
        samples=samples,
        lanes=lanes,
        measure_loss=measure_loss,
        aim=size.aim,
        device=device,
        profile=place.profile,
    )


def describe_recipe(recipe: Recipe) -> str:
    """What an open lane changes of the recipe."""
    return f"batch {recipe.batch}, rate {recipe.learning_rate:g}" + (", fused optimiser" if recipe.fused else "")


def _open(name: str, size: _Size, device: torch.device, division: Division, precision: Precision) -> TrainingSession:
    case = Case(name, size.variant, Phase.TRAIN, size.preset, division, precision)
    with tempfile.TemporaryDirectory() as cache:
        session = get_workload(name).open(case, Resources(device=device, data=None, batch=None, seed=0, cache=Path(cache)))
    if not isinstance(session, TrainingSession):
        raise TypeError(f"{name} trains in its own way; this benchmark compares assay.models.training")
    session._recipe = replace(session._recipe, epochs=size.epochs)
    return session


def _prepare_row_peer(session: TrainingSession, recipe: Recipe, device: torch.device) -> Callable[[int], nn.Module]:
    task, splits = session._task, session._splits.to(torch.device("cpu"))
    train, validation = TensorDataset(*splits.train), None if splits.validation is None else TensorDataset(*splits.validation)

    def train_peer(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = task.build().to(device)
        train_plain(model, lambda network, batch: task.loss(network, tuple(batch)), train, validation, recipe, device)
        return model

    return train_peer


def _prepare_splice_peer(session: TrainingSession, recipe: Recipe, device: torch.device) -> Callable[[int], nn.Module]:
    splits = session._splits
    train = TensorDataset(*_encode_plainly(session, splits.train))
    validation = None if splits.validation is None else TensorDataset(*_encode_plainly(session, splits.validation))

    def train_peer(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        suites = session._task.build()
        plain = make_plain_predictor(suites.network).to(device)  # type: ignore[arg-type]
        train_plain(plain, lambda network, batch: F.mse_loss(network(batch[0], batch[1]), batch[2]), train, validation, recipe, device)
        suites.to(device)
        suites.network.load_state_dict(plain.state_dict())  # type: ignore[union-attr]
        return suites

    return train_peer


def _encode_plainly(session: TrainingSession, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    network = session.model
    if not isinstance(network, EncodedNetwork):
        raise TypeError("the splice peer knows networks behind a one-hot encoding")
    rows = VariantBatch(*batch)
    sequence, bases = network.encoding(rows.alternative).transpose(1, 2).contiguous(), network.encoding(rows.bases)
    return sequence.cpu(), bases.cpu(), rows.target.cpu()


def main(arguments: list[str] | None = None) -> int:
    """Runs the contests, prints the table and returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--workload", choices=list(WORKLOADS), help="only this one (default: all)")

    def prepare_all(options: Namespace, place: Place) -> Iterator[Contest]:
        for name in [options.workload] if options.workload else WORKLOADS:
            yield prepare(name, place)

    return run_contests(parser, prepare_all, arguments)


if __name__ == "__main__":
    sys.exit(main())
