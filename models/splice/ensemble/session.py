"""Several training sessions as one: implements assay.models.workload.Session for ensembles and cross-validation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import numpy as np
from torch import nn

from assay.bench.case import Quantity
from assay.datasets.card import DatasetCard
from assay.datasets.splice_variants import SpliceVariants
from assay.models.splice.ensemble.quality import score_gain, summarise_members
from assay.models.splice.ensemble.training import Lanes, OpenMember, train_members
from assay.models.splice.tasks import SpliceTask
from assay.models.training import TrainingSession
from assay.models.workload import History, Progress


class Kind(StrEnum):
    """What the sessions of one case share and in what they differ."""

    MEMBERS = "members"  # the same rows, different seeds; their predictions are averaged
    FOLDS = "folds"  # different chromosomes held out; each variant is predicted by the session that did not train on it


class EnsembleSession:
    """Members opened on a device.

    task, test: of all test rows, in the members' order for folds. A step is one optimiser step of every member; a prediction asks every
    member.
    """

    unit = "variants"

    def __init__(
        self,
        members: Sequence[TrainingSession],
        kind: Kind,
        *,
        task: SpliceTask,
        test: SpliceVariants,
        card: DatasetCard,
        conditions: Mapping[str, str | int | float],
        open_member: OpenMember,
        lanes: Lanes,
    ) -> None:
        self.card, self.conditions = card, conditions
        self._members, self._kind, self._task, self._test = list(members), kind, task, test
        self._open_member, self._lanes = open_member, lanes
        self.model: nn.Module = self._gather()

    def step(self) -> int:
        return sum(member.step() for member in self._members)

    def infer(self) -> int:
        samples = [member.infer() for member in self._members]
        return samples[0] if self._kind is Kind.MEMBERS else sum(samples)

    def fit(self, progress: Progress, after_epoch: Callable[[], None] | None = None) -> History:  # noqa: ARG002
        """Every member's whole recipe. `after_epoch` is not called: before the last member is trained there is no ensemble to evaluate."""
        history = train_members(self._members, self._open_member, self._lanes, progress)
        self.model = self._gather()
        return history

    def evaluate(self) -> Mapping[str, Quantity]:
        """Quality of the averaged (members) or out-of-fold (folds) predictions, of the members alone, the gain, and proof that they differ."""
        predictions = [member.predict_test() for member in self._members]
        distinct = self._prove_different()
        if self._kind is Kind.FOLDS:
            alone = summarise_members([member.evaluate() for member in self._members], "fold")
            return {**self._task.score(np.concatenate(predictions)), **alone, **distinct}
        averaged = np.mean(predictions, axis=0)
        quality = self._task.score(averaged)
        alone = summarise_members([self._task.score(prediction) for prediction in predictions], "member")
        gain = score_gain(self._test, self._task.rank(averaged), [self._task.rank(prediction) for prediction in predictions], list(quality))
        return {**quality, **alone, **gain, **distinct}

    def _gather(self) -> nn.ModuleList:
        return nn.ModuleList(member.model for member in self._members)

    def _prove_different(self) -> dict[str, Quantity]:
        hashes = [_hash_weights(member.model) for member in self._members]
        for index, found in enumerate(hashes):
            if found in hashes[:index]:
                raise RuntimeError(f"members {hashes.index(found) + 1} and {index + 1} have equal weights: their seeds must differ")
        shown = ", ".join(found[:12] for found in hashes)
        return {f"distinct_{self._kind}": Quantity(float(len(hashes)), str(self._kind), n=len(hashes), how=f"sha256 of each one's weights: {shown}")}


def _hash_weights(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
