"""The four stages of ContrastiveVAE-DEC as one session: pre-training, search for the number of clusters, k-means start, joint training."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import psutil
import torch
from torch import Tensor, nn

from assay.bench.case import Precision, Quantity
from assay.datasets.card import DataError, DatasetCard
from assay.models.audiogram.clustering import CANDIDATES, Search, fit_kmeans, search_clusters
from assay.models.audiogram.data import AudiogramData, Mice
from assay.models.audiogram.evaluation import PARTS, Judge, report_best, report_search
from assay.models.audiogram.losses import (
    CLUSTER_WEIGHT,
    CONSISTENCY_WEIGHT,
    CONTRASTIVE_WEIGHT,
    KL_WEIGHT,
    Pairing,
    cluster,
    contrast,
    diverge_from_prior,
    keep_together,
    reconstruct,
    sharpen,
)
from assay.models.audiogram.memory import GraphMeter, count_graph_bytes, report_retention
from assay.models.audiogram.networks import ContrastiveVae, Outputs
from assay.models.audiogram.recipes import AudiogramRecipe
from assay.models.audiogram.sampler import ContrastiveSampler, PairedBatch
from assay.models.dropout import quicken_dropout
from assay.models.training import autocast, seed_everything
from assay.models.transfer import send
from assay.models.workload import History, Progress

Array = np.ndarray


@dataclass(slots=True)
class _Log:
    """What becomes the History."""

    progress: Progress
    after_epoch: Callable[[], None] | None
    steps: int  # of all epochs
    began: float = field(default_factory=time.perf_counter)
    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    first: float = math.nan
    done: int = 0  # steps
    graph_nodes: list[float] = field(default_factory=list)
    resident: list[float] = field(default_factory=list)

    def tell(self, note: str) -> None:
        self.progress(self.done, self.steps, note)

    def end_epoch(self, train: float, validation: float) -> None:
        self.train.append(train)
        self.validation.append(validation)
        self.seconds.append(time.perf_counter() - self.began)
        if self.after_epoch is not None:
            self.after_epoch()
            self.began += time.perf_counter() - self.began - self.seconds[-1]  # what after_epoch took is not training


class AudiogramSession:
    """Implements assay.models.workload.Session. `step` is a step of the joint training, the last and longest stage."""

    unit = "mice"

    def __init__(
        self,
        recipe: AudiogramRecipe,
        data: AudiogramData,
        *,
        conditions: Mapping[str, str | int | float],
        device: torch.device,
        precision: Precision,
        seed: int,
    ) -> None:
        self._recipe, self._data, self._device, self._precision, self._seed = recipe, data, device, precision, seed
        autocast(device, precision)  # refuse an impossible precision before any work
        if len(data.train) <= CANDIDATES[-1]:
            remedy = f"Give a table of which at least {CANDIDATES[-1] + 1} mice fall into the training split"
            raise DataError(data.table.path, f"{len(data.train)} training mice are too few for a search up to {CANDIDATES[-1]} clusters", remedy)
        self._samplers = {part: self._make_sampler(getattr(data.split, part)) for part in ("train", "validation")}
        if not self._samplers["train"].pairs:
            remedy = "Give a table with several mice per gene: the contrastive loss compares them"
            raise DataError(data.table.path, "no gene has two mice in the training split", remedy)
        self.card, self.conditions = self._report_singles(conditions)
        self._genes = {part: torch.from_numpy(sampler.genes).to(device) for part, sampler in self._samplers.items()}
        self._judge: Judge | None = None
        self._training_scores: Mapping[str, Quantity] = {}
        self._restart()

    def _report_singles(self, conditions: Mapping[str, str | int | float]) -> tuple[DatasetCard, Mapping[str, str | int | float]]:
        """Card and conditions, which say how many training genes the contrastive loss can learn nothing from."""
        card, sampler = self._data.card, self._samplers["train"]
        genes = sampler.pairs + sampler.singles
        if sampler.singles:
            note = f"{sampler.singles} of {genes} training genes have one mouse: it has no contrastive partner; "
            card = replace(card, notes=(*card.notes, f"{note}without these genes {sampler.pairs} would remain"))
        return card, {**conditions, "genes": genes, "genes_single": sampler.singles}

    def _make_sampler(self, rows: Array) -> ContrastiveSampler:
        # refusing the genes of one mouse would leave a tenth of real ones; the card counts them instead
        return ContrastiveSampler(self._data.table.genes[rows], self._recipe.batch, self._data.table.path, singles="unpaired")

    def _restart(self) -> None:
        seed_everything(self._seed)
        network = ContrastiveVae(self._recipe.shape)
        self.model: nn.Module = (quicken_dropout(network) if self._recipe.quick_dropout else network).to(self._device)
        self._optimiser = self._make_optimiser()
        self._random = np.random.default_rng(self._seed)
        self._pending: list[PairedBatch] = []
        self._target: Tensor | None = None
        self._inference_at = 0

    @property
    def _network(self) -> ContrastiveVae:
        assert isinstance(self.model, ContrastiveVae)  # noqa: S101  # the protocol wants the wider type
        return self.model

    def _make_optimiser(self) -> torch.optim.Optimizer:
        recipe = self._recipe
        return torch.optim.Adam(self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=recipe.fused or None)

    def step(self) -> int:
        if not self._pending:
            self._pending = list(self._samplers["train"].draw(self._random))[::-1]
            self._target = self._aim()
        if not self.model.training:  # after `infer`, `evaluate` or `_aim`; asked first, because setting it walks through every module
            self.model.train()
        batch = self._pending.pop()
        self._train_on(batch, joint=True)
        return len(batch.rows)

    def infer(self) -> int:
        test, batch = self._data.test, self._recipe.batch
        start = self._inference_at
        self._inference_at = start + batch if start + batch < len(test) else 0
        self.model.eval()
        with torch.inference_mode():
            self._run(Mice(test.abr[start : start + batch], test.context[start : start + batch]))
        return min(batch, len(test) - start)

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:
        self._restart()
        recipe = self._recipe
        per_epoch = len(self._samplers["train"].draw(np.random.default_rng(self._seed)))
        log = _Log(progress, after_epoch, (recipe.pretrain_epochs + recipe.joint_epochs) * per_epoch)
        for epoch in range(recipe.pretrain_epochs):
            self._train_epoch(log, epoch, joint=False)
        search = self._search(log)
        self._network.set_centres(search.fit.centres)
        self._optimiser = self._make_optimiser()  # the centres are new parameters
        best_epoch, stopped = self._train_jointly(log)
        self._training_scores = report_search(search) | report_best(log.validation, best_epoch, recipe.pretrain_epochs) | self._weigh_graph()
        curves = {f"search_{name}": curve for name, curve in search.curves.items()} | {
            "search_votes": [float(vote) for vote in search.votes.values()],
            "history_graph_nodes": log.graph_nodes,
            "resident_bytes": log.resident,
        }
        return History(log.train, log.validation, log.seconds, log.first, best_epoch, stopped, curves)

    def evaluate(self) -> Mapping[str, Quantity]:
        if self._judge is None:
            self._judge = Judge(self._data, self._recipe)
        scores = self._judge.score({part: self._predict(getattr(self._data, part)) for part in PARTS}, len(self._network.centres))
        return {**scores, **self._training_scores}

    def _run(self, mice: Mice) -> Outputs:
        with autocast(self._device, self._precision):
            outputs: Outputs = self.model(mice.abr, mice.context)
        return outputs

    def _predict(self, mice: Mice) -> Outputs:
        """Outputs of a whole split in evaluation mode."""
        self.model.eval()
        batch = self._recipe.batch
        with torch.inference_mode():
            parts = [self._run(Mice(mice.abr[at : at + batch], mice.context[at : at + batch])) for at in range(0, len(mice), batch)]
        return Outputs(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def _aim(self) -> Tensor | None:
        """DEC's target [n_train, K] over the training split, or None for a target per batch."""
        return sharpen(self._predict(self._data.train).assignment).clone() if self._recipe.whole_target else None

    def _loss(self, outputs: Outputs, mice: Mice, pairing: Pairing, target: Tensor | None, *, joint: bool) -> Tensor:
        recipe = self._recipe
        prior = diverge_from_prior(outputs)
        loss = reconstruct(outputs, mice.abr, mice.context) + KL_WEIGHT * (prior.mean() if recipe.prior_averaged else prior.sum())
        loss = loss + CONTRASTIVE_WEIGHT * contrast(outputs.projection, pairing) + CONSISTENCY_WEIGHT * keep_together(outputs.mean, pairing)
        if joint:
            summed = cluster(outputs.assignment, sharpen(outputs.assignment.detach()) if target is None else target)
            loss = loss + CLUSTER_WEIGHT * (summed / len(mice) if recipe.whole_target else summed)
        return loss

    def _pair(self, part: str, batch: PairedBatch) -> tuple[Tensor, Mice, Pairing]:
        mice: Mice = getattr(self._data, part)
        rows, partner = (send(torch.from_numpy(numbers), self._device) for numbers in (batch.rows, batch.partner))
        return rows, Mice(mice.abr[rows], mice.context[rows]), Pairing.of(self._genes[part][rows], partner)

    def _train_on(self, batch: PairedBatch, *, joint: bool) -> Tensor:
        rows, mice, pairing = self._pair("train", batch)
        outputs = self._run(mice)
        loss = self._loss(outputs, mice, pairing, None if self._target is None else self._target[rows], joint=joint)
        if joint:
            self._network.remember(outputs.assignment)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def _train_epoch(self, log: _Log, epoch: int, *, joint: bool) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.rate(epoch)
        self._target = self._aim() if joint else None
        self.model.train()
        losses, sizes = [], []
        for batch in self._samplers["train"].draw(self._random):
            losses.append(self._train_on(batch, joint=joint))
            sizes.append(len(batch.rows))
            log.done += 1
            log.tell(f"{'joint training' if joint else 'pre-training'}, epoch {epoch + 1}")
        stacked = torch.stack(losses).double().cpu()
        bad = (~torch.isfinite(stacked)).nonzero()
        if len(bad):
            raise FloatingPointError(f"the training loss became {stacked[bad[0]].item()} at batch {int(bad[0]) + 1} of epoch {epoch + 1}")
        log.first = float(stacked[0]) if math.isnan(log.first) else log.first
        log.end_epoch(float(np.average(stacked.numpy(), weights=sizes)), self._validate(joint=joint))

    def _weigh_graph(self) -> dict[str, Quantity]:
        """What the graph of one training step holds. On a fresh network: a pass in training mode would change the trained one's statistics."""
        data, shape = self._data.train, self._recipe.shape
        size = min(self._recipe.batch, len(data))
        mice = Mice(data.abr[:size], data.context[:size])
        with torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            network = ContrastiveVae(shape).to(self._device).train()
            held = count_graph_bytes(lambda: network(mice.abr, mice.context).assignment.mean(0), [*network.parameters(), mice.abr, mice.context])
        return report_retention(held, size, detached=shape.detached_history)

    def _validate(self, *, joint: bool) -> float:
        """Mean total loss of the validation split, always in the same batches."""
        self.model.eval()
        losses, sizes = [], []
        whole = sharpen(self._predict(self._data.validation).assignment) if joint and self._recipe.whole_target else None
        with torch.inference_mode():
            for batch in self._samplers["validation"].draw(np.random.default_rng(self._seed)):
                rows, mice, pairing = self._pair("validation", batch)
                losses.append(self._loss(self._run(mice), mice, pairing, None if whole is None else whole[rows], joint=joint))
                sizes.append(len(batch.rows))
        return float(np.average(torch.stack(losses).double().cpu().numpy(), weights=sizes))

    def _search(self, log: _Log) -> Search:
        return search_clusters(self._latent(), self._recipe.search_restarts, lambda clusters: log.tell(f"k-means with {clusters} clusters"))

    def _latent(self) -> Tensor:
        mean = self._predict(self._data.train).mean.float()
        return mean.cpu() if self._device.type == "mps" else mean  # clustering computes in float64, which Apple GPUs lack

    def _train_jointly(self, log: _Log) -> tuple[int, bool]:
        """Returns the epoch whose weights are kept and whether training stopped early."""
        recipe, meter = self._recipe, GraphMeter()
        best, best_epoch, best_weights = math.inf, recipe.pretrain_epochs, copy.deepcopy(self.model.state_dict())
        for joint_epoch in range(recipe.joint_epochs):
            epoch = recipe.pretrain_epochs + joint_epoch
            if joint_epoch and joint_epoch % recipe.recentre_every == 0:
                self._recentre()
            self._train_epoch(log, epoch, joint=True)
            log.graph_nodes.append(float(meter.count(self._network.history)))
            log.resident.append(float(psutil.Process().memory_info().rss))
            if log.validation[-1] < best - recipe.min_delta:
                best, best_epoch, best_weights = log.validation[-1], epoch, copy.deepcopy(self.model.state_dict())
            elif epoch - best_epoch >= recipe.patience:
                break
        self.model.load_state_dict(best_weights)
        return best_epoch, len(log.train) < recipe.pretrain_epochs + recipe.joint_epochs

    def _recentre(self) -> None:
        """The documented re-initialisation: k-means on the present latent means takes the place of the learned centres."""
        centres = self._network.centres
        found = fit_kmeans(self._latent(), len(centres), self._recipe.search_restarts).centres
        with torch.no_grad():
            centres.copy_(found)

