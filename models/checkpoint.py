"""A training in a file: weights, optimiser, schedule, random states and the place in the epoch, as safetensors with JSON in its header.

Nothing is pickled, so a checkpoint from elsewhere cannot run code. The file is renamed into place when it is complete.

For those who train through a session of their own: `session.fit(progress)` calls `progress` after every batch, which may call
`session.save_checkpoint(path)`; a session that is opened anew for the same case goes on with `session.load_checkpoint(path)` and then
`session.fit(progress)`. The cases of `bench run` save none: its times are of trainings that nobody stopped, and its --resume repeats a
case that did not end.
"""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from assay.datasets.card import DataError
from assay.models.weights import compare_weights

_HEADER = "training"
_REMEDY = "Give a file that save_checkpoint wrote, or train from the start"
_TENSORS = ("batches", "losses", "best_weights")  # fields of Place that are not JSON
Tensors = Mapping[str, Tensor]


@dataclass(slots=True)
class Place:
    """How far a training is."""

    epoch: int = 0
    batches: list[Tensor] = field(default_factory=list)  # row numbers, of the present epoch, in the host's memory
    losses: list[Tensor] = field(default_factory=list)  # one per batch done
    train_loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    elapsed: float = 0.0  # seconds of training until the checkpoint
    first: float = math.nan
    best: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What carries the state of a training."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    scaler: torch.amp.GradScaler
    shuffle: torch.Generator
    device: torch.device


def save_training(path: Path, parts: Parts, place: Place, identity: Mapping[str, object]) -> None:
    """Writes one file. Whoever kills the process leaves the old file or the new one, never a half."""
    optimiser = parts.optimiser.state_dict()
    randoms, states = _pack_random(parts)
    groups: dict[str, Tensors] = {
        "model": parts.model.state_dict(),
        "optimiser": {f"{index}.{name}": value for index, values in optimiser["state"].items() for name, value in values.items()},
        "random": randoms,
        "best": place.best_weights or {},
        # an update that accumulates batches may be half done
        "gradient": {name: weights.grad for name, weights in parts.model.named_parameters() if weights.grad is not None},
        "batch": {str(number): rows for number, rows in enumerate(place.batches)},
        "loss": {str(number): loss for number, loss in enumerate(place.losses)},
    }
    state = {
        "of": identity,
        "place": {part.name: getattr(place, part.name) for part in fields(place) if part.name not in _TENSORS},
        "param_groups": optimiser["param_groups"],
        "random": states,
        "schedule": None if parts.scheduler is None else _drop_functions(parts.scheduler.state_dict()),
        "scaler": parts.scaler.state_dict(),
    }
    tensors = {f"{group}/{name}": tensor.detach().cpu().contiguous().clone() for group, named in groups.items() for name, tensor in named.items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, {_HEADER: json.dumps(state)})
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(path)


def load_training(path: Path, parts: Parts, identity: Mapping[str, object]) -> Place:
    """Puts the state back into the parts and returns the place. Raises DataError for a file that is missing, damaged or of another training."""
    tensors, state = _read(path)
    try:
        return _restore(path, tensors, state, parts, identity)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(path, f"is damaged: the training in it is incomplete ({type(error).__name__}: {error})", _REMEDY) from None


def _restore(path: Path, tensors: Tensors, state: Any, parts: Parts, identity: Mapping[str, object]) -> Place:
    def take(group: str) -> dict[str, Tensor]:
        return {name.removeprefix(f"{group}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{group}/")}

    weights = take("model")
    # not whether they are finite: a training that diverged resumes as what it is
    compare_weights(path, weights, parts.model.state_dict(), "Give the checkpoint of this variant", finite=False)
    for key, value in identity.items():
        if state["of"].get(key) != json.loads(json.dumps(value)):
            raise DataError(path, f"is of another training: its {key} is {state['of'].get(key)!r}, here {value!r}", "Give the checkpoint of this case")
    parts.model.load_state_dict(weights)
    for name, gradient in take("gradient").items():
        parts.model.get_parameter(name).grad = gradient.to(parts.device)
    _unpack_optimiser(parts.optimiser, take("optimiser"), state["param_groups"])
    if parts.scheduler is not None:
        parts.scheduler.load_state_dict(state["schedule"])
    parts.scaler.load_state_dict(state["scaler"])
    _unpack_random(parts, take("random"), state["random"])
    best = {name: tensor.to(parts.device) for name, tensor in take("best").items()}
    batches, losses = _in_order(take("batch"), torch.device("cpu")), _in_order(take("loss"), parts.device)
    if len(losses) > len(batches):
        raise ValueError(f"{len(losses)} batches are done, of {len(batches)}")
    return Place(batches=batches, losses=losses, best_weights=best or None, **state["place"])


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    try:
        with safe_open(path, "pt") as file:
            state = json.loads((file.metadata() or {}).get(_HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError, ValueError) as error:  # JSON that is none is a ValueError
        raise DataError(path, f"cannot be read as a checkpoint ({error})", _REMEDY) from None
    if state is None:
        raise DataError(path, "holds weights but no training to go on with", _REMEDY)
    return tensors, state


def _unpack_optimiser(optimiser: torch.optim.Optimizer, tensors: Tensors, groups: Any) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    # JSON has no tuples; betas are one
    groups = [{key: tuple(value) if key == "betas" else value for key, value in group.items()} for group in groups]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def _drop_functions(state: dict[str, Any]) -> dict[str, Any]:
    # a LambdaLR lists its functions as None; JSON keeps that, and loading leaves the functions alone
    return {key: value for key, value in state.items() if not callable(value)}


def _pack_random(parts: Parts) -> tuple[dict[str, Tensor], Any]:
    tensors = {"torch": torch.get_rng_state(), "shuffle": parts.shuffle.get_state()}
    if parts.device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(parts.device)
    kind, keys, *rest = np.random.get_state(legacy=True)
    return tensors, {"python": random.getstate(), "numpy": [kind, np.asarray(keys).tolist(), *rest]}


def _unpack_random(parts: Parts, tensors: Tensors, state: Any) -> None:
    torch.set_rng_state(tensors["torch"])
    parts.shuffle.set_state(tensors["shuffle"])
    if parts.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["cuda"], parts.device)
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = state["numpy"]
    np.random.set_state((kind, np.array(numbers, dtype=np.uint32), *rest))


def _in_order(tensors: Tensors, device: torch.device) -> list[Tensor]:
    return [tensors[str(number)].to(device) for number in range(len(tensors))]
