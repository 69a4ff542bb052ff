"""TissueBERT's training throughput against transformers in a plain DataLoader loop: `python benchmarks/peer_tissuebert.py`.

The peer is transformers' BertModel with eager attention, AdamW as it comes and `loss.item()` at every step, in float32. Every lane starts
from the same weights and trains the documented size on the same reads of the twin. Exit code 1 when a lane surely does not keep what
benchmarks.contest.judge asks of it, the open lane's aim of 2.5 times the peer on a CPU and of 40 % MFU on an H200 included.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.models.tissuebert.bert import BertShape, DocumentedBert
from assay.models.tissuebert.data import ReadData, open_reads
from assay.models.tissuebert.recipes import ResolvedRead, Rows, make_test_model, resolve
from assay.models.tissuebert.task import ReadSession, ReadTask
from assay.models.training import Recipe, Task
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests
from benchmarks.footprint import choose_open_precision

AIM = 2.5
"""Times the peer's throughput that the open lane is meant to reach on a CPU."""
MFU_AIM = {"h200": 0.4}
"""Share of the bfloat16 peak that the open lane is to reach at its best batch, by profile."""
STEPS = {"cpu": 2, "cuda": 50}
"""Batches a training: on a GPU a step takes milliseconds, and what a training does once must not count."""
TEST_READS = 32
Weights = Mapping[str, Tensor]


class FromSameWeights(ReadTask):
    """A read task whose network is built once and put back to given weights for every training: lanes differ in training alone."""

    def __init__(self, resolved: ResolvedRead, data: ReadData, weights: Weights | None) -> None:
        """weights: None for those of the network itself."""
        super().__init__(resolved, data)
        network = self.build()  # a session moves it to its device
        self.weights = {name: tensor.clone() for name, tensor in (weights or network.state_dict()).items()}

        def restore() -> nn.Module:
            device = next(network.parameters()).device  # where a session has moved it
            self.weights = {name: tensor.to(device) for name, tensor in self.weights.items()}
            network.load_state_dict(self.weights)
            return network

        self.build = restore


def prepare(batch: int, steps: int, shape: BertShape | None = None, place: Place | None = None) -> Contest:
    """Every lane ready to train `steps` batches. shape: the documented one unless a test wants a smaller."""
    place = place or open_place("cpu")
    device, opened = place.device, choose_open_precision(place.profile)
    lanes: dict[Lane, tuple[ReadSession, ReadData]] = {}
    torch.manual_seed(0)
    weights: Weights | None = None
    recipe = make_test_model(batch)
    recipe = recipe if shape is None else replace(recipe, shape=shape)
    for lane, division, precision in ((Lane.CLOSED, Division.CLOSED, Precision.FP32), (Lane.OPEN, Division.OPEN, opened)):
        case = Case("tissuebert", f"batch{batch}", Phase.TRAIN, Preset.SCALE, division, precision)
        resolved = replace(resolve(recipe, case), rows=Rows(train=steps * batch, test=TEST_READS), streamed=False, regions=64)
        data = open_reads(resolved, case, None)
        task = FromSameWeights(resolved, data, weights)
        weights = task.weights
        lanes[lane] = (_open(task, data, resolved.recipe.training, precision, device), data)
    closed, data = lanes[Lane.CLOSED]
    if weights is None or not isinstance(recipe.shape, BertShape):
        raise TypeError("this benchmark knows the test model only")
    peer = _Peer(DocumentedBert(recipe.shape, "eager"), weights, data, closed._recipe, device)

    def measure_loss(model: nn.Module) -> float:
        tokens, _, label = lanes[Lane.CLOSED if isinstance(model, DocumentedBert) else Lane.OPEN][1].splits.test
        model.eval()
        with torch.inference_mode():
            return float(F.cross_entropy(model(tokens.to(device)), label.to(device)))

    entries = {
        Lane.PEER: Entry(run=peer.train, how="transformers' BertModel, eager attention, DataLoader"),
        Lane.CLOSED: Entry(run=_Trainer(closed).train),
        Lane.OPEN: Entry(run=_Trainer(lanes[Lane.OPEN][0]).train, precision=opened, how="the suite's own network"),
    }
    return Contest(
        name=f"tissuebert b{batch}",
        unit="sequences",
        samples=steps * batch,
        lanes=entries,
        measure_loss=measure_loss,
        aim=AIM,
        mfu_aim=MFU_AIM.get(place.profile.name),
        device=device,
        profile=place.profile,
    )


class _Peer:
    """The loop as one would write it with transformers and a DataLoader."""

    def __init__(self, network: nn.Module, weights: Weights, data: ReadData, recipe: Recipe, device: torch.device) -> None:
        self._network, self._recipe, self._device = network.to(device), recipe, device
        self._weights = {name: tensor.to(device) for name, tensor in weights.items()}
        tokens, _, label = data.splits.train
        self._rows = TensorDataset(tokens.long(), label)

    def train(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        network, recipe = self._network, self._recipe
        network.load_state_dict(self._weights)
        network.train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        total = 0.0
        for tokens, label in DataLoader(self._rows, batch_size=recipe.batch, shuffle=True):
            optimiser.zero_grad()
            loss = F.cross_entropy(network(tokens.to(self._device)), label.to(self._device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item()
        return network


class _Trainer:
    """A session that trains anew from another seed each time."""

    def __init__(self, session: ReadSession) -> None:
        self._session = session

    def train(self, seed: int) -> nn.Module:
        self._session._seed = seed
        self._session.fit(lambda *_: None)
        return self._session.model


def _open(task: Task, data: ReadData, recipe: Recipe, precision: Precision, device: torch.device) -> ReadSession:
    recipe = replace(recipe, epochs=1)
    return ReadSession(task, data.splits, recipe, card=data.card, conditions={}, unit="sequences", device=device, precision=precision, seed=0)


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = make_parser(__doc__, rounds=7)
    parser.add_argument("--batch", type=int, default=8, choices=(8, 32, 64, 128, 256), help="reads a batch (default: 8)")
    parser.add_argument("--steps", type=int, metavar="N", help="batches a training (default: 50 on a GPU, 2 on a CPU)")

    def prepare_one(options: Namespace, place: Place) -> Iterator[Contest]:
        yield prepare(options.batch, options.steps or STEPS[place.device.type], place=place)

    return run_contests(parser, prepare_one, arguments)


if __name__ == "__main__":
    sys.exit(main())
