"""Sessions on machines that do not hold still: seconds per round of two sides that run the same code, under seven models of noise.

Every model adds to the logarithm of a round's time. A pair is two live processes that alternate rounds; a coin decides which goes first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from assay.bench.gate.statistics import CONFIRM, SCREEN

Floats = NDArray[np.float64]
State = Callable[[np.random.Generator, int, int], Floats]
"""(random, sessions, slots) -> [sessions, slots]: what the machine adds to log time in each slot, one slot being one round of one side."""

ROUNDS = 8  # of a launch pair
PAIRS = SCREEN.pairs + CONFIRM.pairs
ROUND_SD = 0.02  # of one round
LAUNCH_SD = 0.008  # between launches of the same code: memory layout, hash seeds
LOUD_LAUNCH_SD = 0.04


@dataclass(frozen=True, slots=True)
class Noise:
    """A model of a machine."""

    name: str
    summary: str
    state: State
    session_sd: float = 0.0  # how far a whole session lies from another one on the same machine
    launch_sd: float = LAUNCH_SD


@dataclass(frozen=True, slots=True)
class Sessions:
    """Seconds per round. before: [sessions, 10, rounds], launches of the reference in an earlier session, as a saved baseline has them;
    a, b: [sessions, pairs, rounds], the two sides of the session itself, round i of one beside round i of the other."""

    before: Floats
    a: Floats
    b: Floats

    @property
    def d(self) -> Floats:
        """[sessions, pairs]: the value of each launch pair, as the gate takes it."""
        values: Floats = np.median(np.log(self.b / self.a), axis=2)
        return values


def simulate(noise: Noise, sessions: int, random: np.random.Generator) -> Sessions:
    """Sessions in which both sides run the same code. A slowdown by a factor is `b` times that factor."""
    earlier = noise.state(random, sessions, SCREEN.pairs * ROUNDS).reshape(sessions, SCREEN.pairs, ROUNDS)
    earlier = earlier + random.normal(0, noise.session_sd, (sessions, 1, 1))
    earlier = earlier + random.normal(0, noise.launch_sd, (sessions, SCREEN.pairs, 1))
    slots = noise.state(random, sessions, 2 * PAIRS * ROUNDS).reshape(sessions, PAIRS, ROUNDS, 2)
    slots = slots + random.normal(0, noise.session_sd, (sessions, 1, 1, 1))
    first = random.random((sessions, PAIRS, ROUNDS)) < 0.5
    a = np.where(first, slots[..., 0], slots[..., 1]) + random.normal(0, noise.launch_sd, (sessions, PAIRS, 1))
    b = np.where(first, slots[..., 1], slots[..., 0]) + random.normal(0, noise.launch_sd, (sessions, PAIRS, 1))
    return Sessions(*(np.exp(part + random.normal(0, ROUND_SD, part.shape)) for part in (earlier, a, b)))


def _rest(random: np.random.Generator, sessions: int, slots: int) -> Floats:  # noqa: ARG001  # a machine that adds nothing of its own
    return np.zeros((sessions, slots))


def _drift(random: np.random.Generator, sessions: int, slots: int) -> Floats:
    """AR(1) with coefficient 0.95 and a stationary standard deviation of 6 %."""
    shocks = random.normal(0, 0.06 * np.sqrt(1 - 0.95**2), (sessions, slots))
    shocks[:, 0] = random.normal(0, 0.06, sessions)
    path: Floats = lfilter([1.0], [1.0, -0.95], shocks, axis=1)
    return path


def _spike(random: np.random.Generator, sessions: int, slots: int) -> Floats:
    return np.where(random.random((sessions, slots)) < 0.05, random.exponential(0.5, (sessions, slots)), 0.0)


def _throttle(random: np.random.Generator, sessions: int, slots: int) -> Floats:
    """A board that heats up, slows down by up to 15 %, cools and starts again every 30 to 150 rounds."""
    period, phase = random.uniform(30, 150, (sessions, 1)), random.random((sessions, 1))
    climb: Floats = 0.15 * ((np.arange(slots) / period + phase) % 1)
    return climb


def _share(random: np.random.Generator, sessions: int, slots: int) -> Floats:
    """A neighbour who takes a third of the machine for 12 rounds on average and leaves it alone for 24."""
    draws, busy = random.random((slots, sessions)), random.random(sessions) < 1 / 3
    path = np.empty((sessions, slots))
    for slot in range(slots):
        busy = np.where(busy, draws[slot] >= 1 / 12, draws[slot] < 1 / 24)
        path[:, slot] = np.where(busy, np.log(1.5), 0.0)
    return path


MODELS = (
    Noise("independent", "every round by itself", _rest),
    Noise("AR(1)", "load that drifts by 6 % and remembers about 20 rounds", _drift),
    Noise("spikes", "one round in twenty is hit, by 65 % on average", _spike),
    Noise("session shift", "whole sessions lie 8 % apart", _rest, session_sd=0.08),
    Noise("saw-tooth", "throttling by up to 15 % in 30 to 150 rounds", _throttle),
    Noise("neighbour", "another tenant takes a third of the machine a third of the time", _share),
    Noise("loud launches", "launches of the same code lie 4 % apart", _rest, launch_sd=LOUD_LAUNCH_SD),
)
