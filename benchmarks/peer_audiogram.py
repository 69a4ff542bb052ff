"""Joint training of ContrastiveVAE-DEC against a plain PyTorch loop: `python benchmarks/peer_audiogram.py`.

Same twin mice, weights, losses and steps. The peer is written as the origin's kind of script is: a DataLoader over rows, textbook attention,
positives encoded by a second pass, a Python loop over genes, `.item()` of every loss term at every step. The loss that is compared is the
mean squared error of the test mice's z-scores. Exit code 1 when a lane surely does not keep what benchmarks.contest.judge asks of it, the
open lane's aim of 3 times the peer on a CPU included.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import Case, Division, Phase, Precision, Preset
from assay.models.audiogram import audiogram_vae
from assay.models.audiogram.losses import (
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
from assay.models.audiogram.networks import ContrastiveVae, FrequencyAttention, Outputs
from assay.models.audiogram.recipes import AudiogramRecipe
from assay.models.audiogram.sampler import ContrastiveSampler
from assay.models.audiogram.session import AudiogramSession
from assay.models.workload import Resources
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests

AIM = 3.0
"""Times the peer's throughput that the open lane is to reach on a CPU, at equal quality."""


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
    return plain.to(network.centres.device)


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
    same = (genes[:, None] == genes[None, :]) & ~torch.eye(len(genes), dtype=torch.bool, device=genes.device)
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
        "contrast": CONTRASTIVE_WEIGHT * nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(len(genes), device=genes.device)),
        "consistency": CONSISTENCY_WEIGHT * torch.cat(distances).mean(),
    }
    return terms, outputs


def train_plain(network: ContrastiveVae, session: AudiogramSession, steps: int, seed: int) -> None:
    """The joint training of the origin's kind, in place."""
    mice, recipe, sampler = session._data.train, session._recipe, session._samplers["train"]
    device = mice.abr.device
    rows = TensorDataset(mice.abr.cpu(), mice.context.cpu(), session._genes["train"].cpu(), torch.arange(len(mice)))
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    batches = _GeneBatches(sampler, seed)
    totals: dict[str, float] = defaultdict(float)
    done = 0
    while done < steps:
        targets = aim_plainly(network, rows, recipe.batch) if recipe.whole_target else None
        network.train()
        for batch in DataLoader(rows, batch_sampler=batches):
            abr, context, genes, numbers = (tensor.to(device) for tensor in batch)
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
    device = network.centres.device
    with torch.no_grad():
        return sharpen(torch.cat([network(abr.to(device), context.to(device)).assignment for abr, context, *_ in DataLoader(rows, batch_size=batch)]))


def prepare(variant: str, epochs: int, preset: Preset = Preset.STANDARD, place: Place | None = None) -> Contest:
    """Opens the workload on its twin in both divisions and puts the peer on the same mice."""
    place = place or open_place("cpu")
    closed, opened = (_open(variant, preset, division, place.device) for division in (Division.CLOSED, Division.OPEN))
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

    return Contest(
        name=f"audiogram-vae {variant}",
        unit="mice",
        samples=epochs * len(closed._data.train),
        lanes={
            Lane.PEER: Entry(run=train_peer, how="DataLoader, positives by a second pass"),
            Lane.CLOSED: Entry(run=lambda seed: train_own(closed, seed)),
            Lane.OPEN: Entry(run=lambda seed: train_own(opened, seed), how="fused optimiser, quick dropout"),
        },
        measure_loss=measure_error,
        aim=AIM,
        device=place.device,
        profile=place.profile,
    )


def _open(variant: str, preset: Preset, division: Division, device: torch.device) -> AudiogramSession:
    case = Case(audiogram_vae.name, variant, Phase.TRAIN, preset, division, Precision.FP32)
    with tempfile.TemporaryDirectory() as cache:
        return audiogram_vae.open(case, Resources(device=device, data=None, batch=None, seed=0, cache=Path(cache)))


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--variant", default="base-corrected", choices=list(audiogram_vae.variants))
    parser.add_argument("--epochs", type=int, default=8, metavar="N", help="joint epochs per training (default: 8)")

    def prepare_one(options: Namespace, place: Place) -> Iterator[Contest]:
        yield prepare(options.variant, options.epochs, place=place)

    return run_contests(parser, prepare_one, arguments)


if __name__ == "__main__":
    sys.exit(main())
