"""Joint training of ContrastiveVAE-DEC against a plain PyTorch loop: `python benchmarks/peer_audiogram.py`.

Same twin mice, weights, losses and steps. The peer is written as the origin's kind of script is: a DataLoader over rows, textbook attention,
positives encoded by a second pass, a Python loop over genes, `.item()` of every loss term at every step. Lanes alternate in one process, in random
order within each round; a ratio is taken within a round, and the table gives the median over rounds with its interval.
Exit code 1 when a lane is surely not faster than the peer or surely reconstructs worse.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import Case, Division, Phase, Precision, Preset, Quantity
from benchmarks.peer_training import format_ratio, report_results, take_median
from models.audiogram import audiogram_vae
from models.audiogram.losses import (
    CLUSTER_WEIGHT,
    CONSISTENCY_WEIGHT,
    CONTRASTIVE_WEIGHT,
    KL_WEIGHT,
    TEMPERATURE,
    cluster,
    diverge_from_prior,
    reconstruct,
    sharpen,
)
from models.audiogram.networks import ContrastiveVae, FrequencyAttention, Outputs
from models.audiogram.recipes import AudiogramRecipe
from models.audiogram.sampler import ContrastiveSampler
from models.audiogram.session import AudiogramSession
from models.workload import Resources

CPU = torch.device("cpu")


class Lane(StrEnum):
    """Who trains."""

    PEER = "peer"
    CLOSED = "assay closed fp32"
    OPEN = "assay open fp32"


class PlainAttention(FrequencyAttention):
    """Attention over six tokens of one number in its textbook form; parameters have the same names."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, 6] -> [B, 6]."""
        batch, tokens = x.shape
        query, key, value = (
            layer(x[..., None]).view(batch, tokens, self.heads, self.width).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(-2, -1) / self.width**0.5, dim=-1)
        joined = (weights @ value).transpose(1, 2).reshape(batch, tokens, self.heads * self.width)
        shown: Tensor = self.out(joined)
        return shown.squeeze(-1)


class _GeneBatches(Sampler[list[int]]):
    """The suite's own batches, as a DataLoader wants them."""

    def __init__(self, sampler: ContrastiveSampler, seed: int) -> None:
        self._sampler, self._random = sampler, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._sampler.draw(self._random):
            yield batch.rows.tolist()


def make_plain_network(network: ContrastiveVae) -> ContrastiveVae:
    """The same network with the same weights and textbook attention."""
    plain = ContrastiveVae(network.shape)
    plain.attention = PlainAttention(network.attention.heads, network.attention.width)
    plain.load_state_dict(network.state_dict())
    return plain


def find_partners(genes: list[int]) -> list[int]:
    """For each mouse of a batch, the next one of its gene, around the corner."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, gene in enumerate(genes):
        members[gene].append(place)
    return [members[gene][(members[gene].index(place) + 1) % len(members[gene])] for place, gene in enumerate(genes)]


def compute_plain_loss(
    network: ContrastiveVae, abr: Tensor, context: Tensor, genes: Tensor, recipe: AudiogramRecipe, target: Tensor | None
) -> tuple[dict[str, Tensor], Outputs]:
    """The recipe's loss, term by term, weighted. genes: [B], at least two mice each; target: [B, K], or None to take the batch's own."""
    outputs: Outputs = network(abr, context)
    partners = find_partners(genes.tolist())
    with torch.no_grad():
        positives = network(abr[partners], context[partners]).projection
    logits = outputs.projection @ positives.T / TEMPERATURE
    same = (genes[:, None] == genes[None, :]) & ~torch.eye(len(genes), dtype=torch.bool)
    distances = []
    for gene in torch.unique(genes):
        means = outputs.mean[genes == gene]
        distances.append(torch.linalg.vector_norm(means - means.mean(0), dim=1))
    prior = diverge_from_prior(outputs)
    clustered = cluster(outputs.assignment, sharpen(outputs.assignment.detach()) if target is None else target)
    terms = {
        "reconstruction": reconstruct(outputs, abr, context),
        "prior": KL_WEIGHT * (prior.mean() if recipe.prior_averaged else prior.sum()),
        "cluster": CLUSTER_WEIGHT * (clustered / len(genes) if recipe.whole_target else clustered),
        "contrast": CONTRASTIVE_WEIGHT * nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(genes))),
        "consistency": CONSISTENCY_WEIGHT * torch.cat(distances).mean(),
    }
    return terms, outputs


def train_plain(network: ContrastiveVae, session: AudiogramSession, steps: int, seed: int) -> None:
    """The joint training of the origin's kind, in place."""
    mice, recipe, sampler = session._data.train, session._recipe, session._samplers["train"]
    rows = TensorDataset(mice.abr, mice.context, session._genes["train"], torch.arange(len(mice)))
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = _GeneBatches(sampler, seed)
    totals: dict[str, float] = defaultdict(float)
    done = 0
    while done < steps:
        targets = aim_plainly(network, rows, recipe.batch) if recipe.whole_target else None
        network.train()
        for abr, context, genes, numbers in DataLoader(rows, batch_sampler=batches):
            terms, outputs = compute_plain_loss(network, abr, context, genes, recipe, None if targets is None else targets[numbers])
            loss = torch.stack(list(terms.values())).sum()
            network.remember(outputs.assignment)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
            optimiser.step()
            for name, term in terms.items():
                totals[name] += term.item()
            done += 1
            if done == steps:
                break


def aim_plainly(network: ContrastiveVae, rows: TensorDataset, batch: int) -> Tensor:
    """DEC's target [n, K] over a data set."""
    network.eval()
    with torch.no_grad():
        return sharpen(torch.cat([network(abr, context).assignment for abr, context, *_ in DataLoader(rows, batch_size=batch)]))


@dataclass(frozen=True, slots=True)
class Result:
    """What one lane did over the rounds; ratios are to the peer of the same round: above 1 is faster, or a larger error."""

    lane: Lane
    mice_per_s: Quantity
    speed_ratio: Quantity
    test_error: Quantity
    error_ratio: Quantity


@dataclass(frozen=True, slots=True)
class Contest:
    """Each lane trains a fresh network from a seed and returns it; all take the same number of steps."""

    mice: int  # per training
    train: dict[Lane, Callable[[int], nn.Module]]
    measure_error: Callable[[nn.Module], float]  # mean squared error of test z-scores


def prepare(variant: str, epochs: int, preset: Preset = Preset.STANDARD) -> Contest:
    """Opens the workload on its twin in both divisions and puts the peer on the same mice."""
    closed, opened = (_open(variant, preset, division) for division in (Division.CLOSED, Division.OPEN))
    steps = epochs * len(closed._samplers["train"].draw(np.random.default_rng(0)))

    def train_peer(seed: int) -> nn.Module:
        closed._seed = seed
        closed._restart()
        plain = make_plain_network(closed._network)
        train_plain(plain, closed, steps, seed)
        return plain

    def train_own(session: AudiogramSession, seed: int) -> nn.Module:
        session._seed = seed
        session._restart()
        for _ in range(steps):
            session.step()
        return session.model

    def measure_error(model: nn.Module) -> float:
        model.eval()
        with torch.inference_mode():
            outputs: Outputs = model(closed._data.test.abr, closed._data.test.context)
        return float(nn.functional.mse_loss(outputs.abr, closed._data.test.abr))

    lanes = {Lane.PEER: train_peer, Lane.CLOSED: lambda seed: train_own(closed, seed), Lane.OPEN: lambda seed: train_own(opened, seed)}
    return Contest(epochs * len(closed._data.train), lanes, measure_error)


def _open(variant: str, preset: Preset, division: Division) -> AudiogramSession:
    case = Case(audiogram_vae.name, variant, Phase.TRAIN, preset, division, Precision.FP32)
    with tempfile.TemporaryDirectory() as cache:
        return audiogram_vae.open(case, Resources(device=CPU, data=None, batch=None, seed=0, cache=Path(cache)))


def compete(contest: Contest, rounds: int, seed: int = 0) -> list[Result]:
    """Every lane once a round, in random order; round r trains from seed r in each lane."""
    order = random.Random(seed)
    seconds: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    errors: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    for number in range(rounds):
        for lane in order.sample(list(Lane), len(Lane)):
            began = time.perf_counter()
            model = contest.train[lane](number)
            seconds[lane].append(time.perf_counter() - began)
            errors[lane].append(contest.measure_error(model))
    return [
        Result(
            lane,
            take_median([contest.mice / s for s in seconds[lane]], "mice/s"),
            take_median([peer / own for peer, own in zip(seconds[Lane.PEER], seconds[lane], strict=True)], "x peer"),
            take_median(errors[lane], "squared z"),
            take_median([own / peer for own, peer in zip(errors[lane], errors[Lane.PEER], strict=True)], "x peer"),
        )
        for lane in Lane
    ]


def judge(result: Result) -> list[str]:
    """What the lane does not keep of its promise; empty when all is well, or when there are too few rounds to say."""
    failures = []
    if result.lane is not Lane.PEER and result.speed_ratio.high is not None and result.speed_ratio.high <= 1:
        failures.append("not faster than the peer")
    if result.error_ratio.low is not None and result.error_ratio.low > 1:
        failures.append("larger test error than the peer's")
    return failures


def format_table(results: list[Result]) -> str:
    """The results as fixed-width text."""
    lines = [f"{'lane':<18} {'throughput':>16}  {'against the peer':<22} {'test error':>10}  {'against the peer':<22} verdict"]
    for r in results:
        verdict = ", ".join(judge(r)) or ("reference" if r.lane is Lane.PEER else "ok" if r.speed_ratio.low is not None else "too few rounds")
        speed, error = f"{r.mice_per_s.value:,.0f} mice/s", f"{r.test_error.value:.4g}"
        lines.append(f"{r.lane:<18} {speed:>16}  {format_ratio(r.speed_ratio):<22} {error:>10}  {format_ratio(r.error_ratio):<22} {verdict}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="base-corrected", choices=list(audiogram_vae.variants))
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default: 9; an interval takes 6)")
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="joint epochs per training (default: 8)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1, so that other programs on the machine disturb least)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.epochs, options.threads) < 1:
        parser.error("--rounds, --epochs and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    results = compete(prepare(options.variant, options.epochs), options.rounds)
    return report_results(results, judge, format_table, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
