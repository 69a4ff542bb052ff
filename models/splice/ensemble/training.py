"""Training of an ensemble's members: one after the other, or side by side in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import psutil
import torch

from assay.models.training import TrainingSession
from assay.models.workload import History, Progress, ignore_progress

SIGN_OF_LIFE_SECONDS = 1.0
_SHARE_OF_FREE_MEMORY = 0.5  # of the host
_SHARE_OF_DEVICE_MEMORY = 0.8  # of what is free; allocators hold more than their tensors
CONTEXT_BYTES = 600 * 2**20  # of a GPU, that a process of its own takes for CUDA's context and libraries

OpenMember = Callable[[int], TrainingSession]
"""Opens the member of that index anew; can be pickled."""


@dataclass(frozen=True, slots=True)
class Lanes:
    """How many members train at a time, and torch's threads for each. The threads do not depend on the free memory, nor do the weights then."""

    workers: int
    threads: int


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """What a GPU has left, and what one member takes of it at most [bytes]."""

    free: int
    member_peak: int


def measure_memory(member: TrainingSession, device: torch.device) -> DeviceMemory | None:
    """Takes one training step and reads the allocator's peak: with all members opened, an upper bound for one. None on other devices than CUDA.

    A member that trains later starts from fresh weights, whatever steps were taken.
    """
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    member.step()
    torch.cuda.synchronize(device)
    return DeviceMemory(torch.cuda.mem_get_info(device)[0], torch.cuda.max_memory_allocated(device))


def choose_lanes(members: int, device: torch.device, memory: DeviceMemory | None = None) -> Lanes:
    """Side by side while there is room: on a CPU for a thread and a process like this one for each, on a GPU for its peak and CUDA's context.

    memory: of the device; where nobody knows it, members of a GPU train in turn.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        room = 1 if memory is None else int(memory.free * _SHARE_OF_DEVICE_MEMORY // (memory.member_peak + CONTEXT_BYTES))
        workers = max(1, min(members, room))
        return Lanes(workers, max(1, threads // workers))
    lanes = min(members, threads)
    room = int(psutil.virtual_memory().available * _SHARE_OF_FREE_MEMORY // psutil.Process().memory_info().rss)
    return Lanes(max(1, min(lanes, room)), max(1, threads // lanes))


def train_members(members: Sequence[TrainingSession], open_member: OpenMember, lanes: Lanes, progress: Progress) -> History:
    """Trains every member from fresh, seeded weights and leaves the trained weights in `members`.

    The history has an entry per epoch: mean losses over the members (one that stopped early counts with its last epoch); seconds add
    up in turn, and are those of the slowest member, process start included, side by side. Every member's weights are used: the best
    epoch is the last.
    """
    if lanes.workers == 1:
        histories = _train_in_turn(members, lanes.threads, progress)
        return _merge(histories, np.sum([_stretch(history.seconds, _longest(histories)) for history in histories], axis=0))
    began = time.perf_counter()
    histories = _train_side_by_side(members, open_member, lanes, progress)
    slowest = np.max([_stretch(history.seconds, _longest(histories)) for history in histories], axis=0)
    return _merge(histories, slowest + (time.perf_counter() - began - slowest[-1]))


def _train_in_turn(members: Sequence[TrainingSession], threads: int, progress: Progress) -> list[History]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return [member.fit(_MemberProgress(progress, index, len(members))) for index, member in enumerate(members)]
    finally:
        torch.set_num_threads(before)


def _train_side_by_side(members: Sequence[TrainingSession], open_member: OpenMember, lanes: Lanes, progress: Progress) -> list[History]:
    # spawn: a fork would inherit torch's thread pool in whatever state it is
    strictness = torch.get_deterministic_debug_mode()
    with ProcessPoolExecutor(lanes.workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_train_apart, open_member, index, lanes.threads, strictness) for index in range(len(members))]
        waiting = set(jobs)
        while waiting:
            waiting = wait(waiting, SIGN_OF_LIFE_SECONDS, FIRST_COMPLETED).not_done
            progress(len(jobs) - len(waiting), len(jobs), f"{lanes.workers} members at a time")
    trained = [job.result() for job in jobs]
    for member, (_, weights) in zip(members, trained, strict=True):
        member.model.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return [history for history, _ in trained]


def _train_apart(open_member: OpenMember, index: int, threads: int, strictness: int) -> tuple[History, dict[str, np.ndarray]]:
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(strictness)
    session = open_member(index)
    history = session.fit(ignore_progress)
    return history, {name: tensor.cpu().numpy() for name, tensor in session.model.state_dict().items()}


@dataclass(frozen=True, slots=True)
class _MemberProgress:
    report: Progress
    index: int
    members: int

    def __call__(self, done: int, total: int, note: str, /) -> None:
        self.report(self.index * total + done, self.members * total, f"member {self.index + 1}/{self.members}, {note}")


def _merge(histories: Sequence[History], seconds: np.ndarray) -> History:
    epochs = _longest(histories)
    validated = all(history.validation_loss for history in histories)
    return History(
        train_loss=_average([history.train_loss for history in histories], epochs),
        validation_loss=_average([history.validation_loss for history in histories], epochs) if validated else [],
        seconds=[float(value) for value in seconds],
        first_loss=float(np.mean([history.first_loss for history in histories])),
        best_epoch=epochs - 1,
        stopped_early=any(history.stopped_early for history in histories),
    )


def _longest(histories: Sequence[History]) -> int:
    return max(len(history.seconds) for history in histories)


def _average(curves: Sequence[Sequence[float]], epochs: int) -> list[float]:
    return [float(value) for value in np.mean([_stretch(curve, epochs) for curve in curves], axis=0)]


def _stretch(curve: Sequence[float], epochs: int) -> list[float]:
    return [*curve, *[curve[-1]] * (epochs - len(curve))]
