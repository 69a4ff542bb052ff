"""TissueBERT's training throughput against transformers in a plain DataLoader loop: `python benchmarks/peer_tissuebert.py`.

The peer is transformers' BertModel with eager attention, AdamW as it comes and `loss.item()` at every step, in float32. Every lane starts
from the same weights and trains the documented size on the same reads of the twin. Lanes alternate in one process, in random order within
each round; ratios are taken within a round, and the table gives their median with its interval. Exit code 1 when the closed lane is slower
than the peer, the open lane below the aim of 2.5 times, or the test loss differs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import Case, Division, Phase, Precision, Preset
from benchmarks.peer_training import Contest, Lane, Result, compete, format_table, judge, report_results
from models.tissuebert.bert import BertShape, DocumentedBert
from models.tissuebert.data import ReadData, open_reads
from models.tissuebert.recipes import ResolvedRead, Rows, make_test_model, resolve
from models.tissuebert.task import ReadSession, ReadTask
from models.training import Recipe, Task

CPU = torch.device("cpu")
AIM = 2.5
"""Times the peer's throughput that the open lane is meant to reach on a CPU."""
TEST_READS = 32
Weights = Mapping[str, Tensor]


class FromSameWeights(ReadTask):
    """A read task whose network is built once and put back to given weights for every training: lanes differ in training alone."""

    def __init__(self, resolved: ResolvedRead, data: ReadData, weights: Weights | None) -> None:
        """weights: None for those of the network itself."""
        super().__init__(resolved, data)
        network = self.build()
        self.weights = {name: tensor.clone() for name, tensor in (weights or network.state_dict()).items()}

        def restore() -> nn.Module:
            network.load_state_dict(self.weights)
            return network

        self.build = restore


def prepare(batch: int, steps: int, shape: BertShape | None = None) -> Contest:
    """Every lane ready to train `steps` batches. shape: the documented one unless a test wants a smaller."""
    lanes: dict[Lane, tuple[ReadSession, ReadData]] = {}
    torch.manual_seed(0)
    weights: Weights | None = None
    recipe = make_test_model(batch)
    recipe = recipe if shape is None else replace(recipe, shape=shape)
    for lane, division, precision in ((Lane.CLOSED, Division.CLOSED, Precision.FP32), (Lane.OPEN, Division.OPEN, Precision.BF16)):
        case = Case("tissuebert", f"batch{batch}", Phase.TRAIN, Preset.SCALE, division, precision)
        resolved = replace(resolve(recipe, case), rows=Rows(train=steps * batch, test=TEST_READS), streamed=False, regions=64)
        data = open_reads(resolved, case, None)
        task = FromSameWeights(resolved, data, weights)
        weights = task.weights
        lanes[lane] = (_open(task, data, resolved.recipe.training, precision), data)
    closed, data = lanes[Lane.CLOSED]
    if weights is None or not isinstance(recipe.shape, BertShape):
        raise TypeError("this benchmark knows the test model only")
    peer = _Peer(DocumentedBert(recipe.shape, "eager"), weights, data, closed._recipe)

    def measure_loss(model: nn.Module) -> float:
        tokens, _, label = lanes[Lane.CLOSED if isinstance(model, DocumentedBert) else Lane.OPEN][1].splits.test
        model.eval()
        with torch.inference_mode():
            return float(F.cross_entropy(model(tokens), label))

    trainings = {Lane.PEER: peer.train, Lane.CLOSED: _Trainer(closed).train, Lane.OPEN: _Trainer(lanes[Lane.OPEN][0]).train}
    return Contest(f"tissuebert b{batch}", "sequences", steps * batch, trainings, measure_loss)


class _Peer:
    """The loop as one would write it with transformers and a DataLoader."""

    def __init__(self, network: nn.Module, weights: Weights, data: ReadData, recipe: Recipe) -> None:
        self._network, self._weights, self._recipe = network, weights, recipe
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
            loss = F.cross_entropy(network(tokens), label)
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


def _open(task: Task, data: ReadData, recipe: Recipe, precision: Precision) -> ReadSession:
    return ReadSession(task, data.splits, replace(recipe, epochs=1), card=data.card, conditions={}, unit="sequences", device=CPU, precision=precision, seed=0)


def find_failures(result: Result) -> list[str]:
    """What the lane does not keep of its promise; empty when all is well, or when there are too few rounds to say."""
    high = result.speed_ratio.high
    below = result.lane is Lane.OPEN and high is not None and high < AIM
    return [*judge(result), *([f"below the aim of {AIM} times"] if below else [])]


def format_failures(results: list[Result]) -> str:
    """The table, and below it what a lane does not keep."""
    return "\n".join([format_table(results), *(f"{result.lane}: {failure}" for result in results for failure in find_failures(result))])


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8, choices=(8, 32, 64, 128, 256), help="reads a batch (default: 8)")
    parser.add_argument("--steps", type=int, default=2, metavar="N", help="batches a training (default: 2)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds (default: 7; an interval takes 6)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1, so that other programs on the machine disturb least)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.threads, options.steps) < 1:
        parser.error("--rounds, --steps and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    results = compete(prepare(options.batch, options.steps), options.rounds)
    return report_results(results, find_failures, format_failures, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
