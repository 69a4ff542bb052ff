"""What is timed is what trains: a step is an update of `fit`, for every workload."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from torch import Tensor
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

from assay.bench.case import Case, Phase, Preset
from assay.bench.registry import get_workload, load_workloads
from assay.models.dnabert.network import DnabertEncoder
from assay.models.dnabert.tasks import FrozenSession
from assay.models.schedule import Schedule
from assay.models.splice.ensemble import EnsembleWorkload
from assay.models.workload import Resources, Session, Workload, ignore_progress
from tests.models.test_training import open_session

pytestmark = pytest.mark.usefixtures("one_thread")  # members of an ensemble would train in processes of their own, unseen here
UPDATES = 3
APART = ("audiogram-vae", "dnabert-s")  # stages and a solver: tests of their own below


class EnoughSeen(Exception):
    """Ends a training whose first updates were seen."""


@contextmanager
def watch_updates(enough: int | None = None) -> Iterator[list[str]]:
    """A hash of all weights after each update of the first optimiser that takes one; EnoughSeen after `enough` updates."""
    seen: dict[int, list[str]] = defaultdict(list)
    first: list[str] = []

    def note(optimiser: Optimizer, _args: object, _kwargs: object) -> None:
        digest = hashlib.sha256()
        for group in optimiser.param_groups:
            for weights in group["params"]:
                digest.update(weights.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
        seen[id(optimiser)].append(digest.hexdigest())
        first[:] = next(iter(seen.values()))
        if enough is not None and len(first) == enough:
            raise EnoughSeen

    handle = register_optimizer_step_post_hook(note)
    try:
        yield first
    finally:
        handle.remove()


def open_smoke(workload: Workload, tmp_path, *, member: bool = False) -> Session:
    variant = next(v for v in workload.variants.values() if Preset.SMOKE in v.presets and Phase.TRAIN in v.phases)
    division, precisions = next(iter(variant.precisions.items()))
    case = Case(workload.name, variant.name, Phase.TRAIN, Preset.SMOKE, division, precisions[0])
    resources = Resources(device=torch.device("cpu"), data=None, batch=None, seed=3, cache=tmp_path)
    if member and isinstance(workload, EnsembleWorkload):  # members in turn draw their dropout from one stream
        return workload.open_member(case, resources, 0)
    return workload.open(case, resources)


def list_trained() -> list[str]:
    found = [w.name for w in load_workloads().values() if any(Preset.SMOKE in v.presets and Phase.TRAIN in v.phases for v in w.variants.values())]
    return [name for name in found if name not in APART]


@pytest.mark.parametrize("name", list_trained())
def test_steps_are_the_updates_of_fit(name, tmp_path):
    session = open_smoke(get_workload(name), tmp_path)
    with suppress(EnoughSeen), watch_updates(enough=UPDATES) as trained:  # some smoke presets have fewer
        session.fit(ignore_progress)
    session = open_smoke(get_workload(name), tmp_path, member=True)
    with watch_updates() as timed:
        samples = [session.step() for _ in trained]
    assert len(set(timed)) == len(trained) > 0
    assert timed == trained
    assert min(samples) > 0


def test_joint_steps_of_audiograms_are_as_many_and_as_large_as_the_updates_of_an_epoch(tmp_path):
    session = open_smoke(get_workload("audiogram-vae"), tmp_path)
    recipe = get_workload("audiogram-vae").recipe(Case.parse("audiogram-vae/memory-optimised/train/smoke/closed/fp32"))
    counts: list[int] = []
    with watch_updates() as updates:
        history = session.fit(lambda done, total, note: counts.append(total))
    pretrain = recipe["pretrain_epochs"]
    assert isinstance(pretrain, int)
    per_epoch = len(updates) // pretrain  # of the pre-training's optimiser
    assert counts[0] % per_epoch == 0
    assert len(history.train_loss) > pretrain
    with watch_updates() as timed:
        samples = [session.step() for _ in range(2 * per_epoch)]
    assert len(timed) == 2 * per_epoch
    assert sum(samples[:per_epoch]) == sum(samples[per_epoch:])  # each pass sees every mouse as often


def test_steps_of_a_frozen_encoder_embed_what_fit_embeds(tmp_path):
    session = open_smoke(get_workload("dnabert-s"), tmp_path)
    assert isinstance(session, FrozenSession)

    def watch(embed) -> list[Tensor]:
        seen: list[Tensor] = []
        handle = register_module_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()) if isinstance(module, DnabertEncoder) else None)
        embed()
        handle.remove()
        return seen

    trained = watch(lambda: session.fit(ignore_progress))
    timed = watch(lambda: [session.step() for _ in trained])
    assert len(timed) == len(trained) > 1
    assert all(torch.equal(one, other) for one, other in zip(timed, trained, strict=True))


@pytest.mark.parametrize("schedule", ["constant", "one-cycle", "warm-up", "linear"])
def test_a_step_that_accumulates_is_a_whole_update(schedule):
    session = open_session(batch=10, accumulate=3, epochs=2, clip=1.0, schedule=Schedule(kind=schedule, peak=0.1, rising=1))
    with watch_updates() as timed:
        samples = [session.step() for _ in range(6)]
    assert sum(samples[:3]) == sum(samples[3:]) == 64
    with watch_updates() as trained:
        session.fit(ignore_progress)
    assert timed == trained
    assert len(trained) == 6  # ceil(7 batches / 3) in each of two epochs


@pytest.mark.parametrize("schedule", ["one-cycle", "warm-up", "linear"])
def test_steps_go_on_beyond_the_recipe_and_still_train(schedule):
    session = open_session(batch=64, epochs=2, schedule=Schedule(kind=schedule, peak=0.1, rising=1))
    with watch_updates() as updates:
        assert [session.step() for _ in range(6)] == [64] * 6
    assert len(set(updates[1:])) == 5
