"""A run that has so much time: what it starts next, what it leaves out, and the plan of both before it starts.

Chains (the phases of one case, which share weights) go in the order of their worth, then cheap before dear, closed before open. One is
started where all of it is expected to end in time; smaller ones behind it may start all the same. What runs is left to end: its record then
says how long it takes. Estimates are taken anew with every record, so that the first of a kind puts right what was thought of the others.
What an earlier call began and lost comes last of its worth: it may have been what took too long.
"""

from __future__ import annotations

import heapq
import math
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from assay.bench.case import Case, Division, UsageError
from assay.bench.checkout import PUBLISHED
from assay.bench.claims.documented import find_claims, load_claims
from assay.bench.measure.machine import identify_machine
from assay.bench.records.index import read_ledger
from assay.bench.records.record import Record
from assay.bench.records.store import RunStore
from assay.bench.registry import get_workload
from assay.bench.running.campaign import Conditions, chain_cases, find_finished, name_log
from assay.bench.running.estimates import Estimate, History
from assay.bench.running.stations import find_run
from assay.bench.running.worth import Rating, Worth, rate_cases
from assay.datasets.card import DataError, DatasetIdentity

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parse_budget(text: str) -> float:
    """Seconds of `90s`, `8m` or `1.5h`. Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if not found or not float(found[1]):
        raise UsageError(f"--budget {text!r}: no duration above 0; write 90s, 8m or 1.5h")
    return float(found[1]) * _UNITS[found[2]]


def identify_data(cases: Iterable[Case], data: Path | None) -> dict[Case, DatasetIdentity | None]:
    """What each case would read; None where that is missing or unusable, as the case will say itself."""
    found: dict[Case, DatasetIdentity | None] = {}
    for case in cases:
        try:
            found[case] = get_workload(case.workload).identify(case, data)
        except DataError:
            found[case] = None
    return found


def find_begun(cases: Iterable[Case], store: RunStore) -> set[Case]:
    """Cases that this run started and that left no record: the machine was taken away meanwhile, and they may take long once more."""
    return {case for case in cases if name_log(store, case).exists() and not store.find(case)}


class Agenda:
    """The chains of a run that are still to be started. Used by several threads.

    seconds: the budget, counted by `clock` from `started`; None: all chains, in the order given.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        ratings: Mapping[Case, Rating],
        history: History,
        seconds: float | None,
        *,
        begun: Collection[Case] = (),
        clock: Callable[[], float] = time.monotonic,
        started: float | None = None,
    ) -> None:
        self.ratings, self._history, self._begun = ratings, history, begun
        self._budget, self._clock = seconds, clock
        self._end = math.inf if seconds is None else (clock() if started is None else started) + seconds
        self._ahead = chain_cases(cases)
        self._lock = Lock()

    def take(self) -> list[Case] | None:
        """The next chain that is expected to end in time; None where there is none."""
        with self._lock:
            if self._budget is not None:
                self._ahead.sort(key=self._rank)
            for chain in self._ahead:
                if all(self._is_finished(case) for case in chain) or self._price(chain) <= self.left():
                    self._ahead.remove(chain)
                    return chain
            return None

    def list_ahead(self) -> list[list[Case]]:
        """The chains that were not taken, in order."""
        with self._lock:
            return [*self._ahead]

    def admits(self, case: Case) -> bool:
        """Whether a case of a chain that was taken is expected to end in time, after those before it."""
        with self._lock:
            return self._price([case]) <= self.left()

    def learn(self, record: Record) -> None:
        """Takes a new record into account."""
        with self._lock:
            self._history.learn(record)

    def left(self) -> float:
        """Seconds of the budget."""
        return self._end - self._clock()

    def expect(self, case: Case) -> Estimate:
        """How long the case takes; nothing where it is finished."""
        return Estimate(0.0, "in this run") if self._is_finished(case) else self._history.expect(case)

    def price(self, case: Case) -> float:
        """Seconds set aside for a case: its estimate, or what History.assume says where there is none."""
        return self._price([case])

    def _price(self, chain: Iterable[Case]) -> float:
        expected = [(case, self.expect(case).seconds) for case in chain]
        return sum(self._history.assume(case.preset) if seconds is None else seconds for case, seconds in expected)

    def _rank(self, chain: Sequence[Case]) -> tuple[object, ...]:
        todo = [case for case in chain if not self._is_finished(case)]
        worth = min((self.ratings[case].worth for case in todo), default=Worth.FINISHED)
        unknown = any(self.expect(case).seconds is None for case in todo)
        # whole seconds: no estimate is better, and what is open may then be as cheap as what is closed
        return (worth, any(case in self._begun for case in todo), unknown, round(self._price(todo)), chain[0].division is Division.OPEN)

    def _is_finished(self, case: Case) -> bool:
        return self.ratings[case].worth is Worth.FINISHED


@dataclass(frozen=True, slots=True)
class PlannedCase:
    """A row of a plan."""

    case: Case
    rating: Rating
    estimate: Estimate
    price: float  # seconds set aside: the estimate, or what is assumed without one
    in_time: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would start, in that order, and then what it would leave out."""

    rows: Sequence[PlannedCase]
    seconds: float  # until the last of what is started has ended


@dataclass(frozen=True, slots=True)
class Outlook:
    """Cases, what they are worth, and what is known of how long they take."""

    cases: Sequence[Case]
    run: str | None  # that they belong to; None for a new one
    ratings: Mapping[Case, Rating]
    history: History
    begun: Collection[Case] = ()

    def open_agenda(self, seconds: float | None, *, started: float | None = None, clock: Callable[[], float] = time.monotonic) -> Agenda:
        return Agenda(self.cases, self.ratings, self.history, seconds, begun=self.begun, clock=clock, started=started)

    def plan(self, seconds: float | None, jobs: int) -> Plan:
        """What the agenda would do if every case took what is set aside for it, and `jobs` ran at a time."""
        now, end = 0.0, 0.0
        agenda = self.open_agenda(seconds, clock=lambda: now)
        free = [0.0] * jobs  # when each worker has nothing to do
        order: list[Case] = []
        while free:
            now = heapq.heappop(free)
            end = max(end, now)
            if (chain := agenda.take()) is not None:
                order += chain
                heapq.heappush(free, now + sum(map(agenda.price, chain)))
        started = set(order)
        order += [case for chain in agenda.list_ahead() for case in chain]
        return Plan([PlannedCase(case, self.ratings[case], agenda.expect(case), agenda.price(case), case in started) for case in order], end)


def look_ahead(cases: Sequence[Case], run: str | None, results: Path, conditions: Conditions, *, finished: Collection[Case]) -> Outlook:
    """What the records of a results folder, and of the checkout, tell of the cases of a run on the profile's machine. Writes nothing.

    run: its name, None for one that does not exist yet; finished: its cases that need not run again.
    """
    import torch

    # a folder of its own for a rented machine holds no record yet, the checkout does
    folders = {results.resolve(), PUBLISHED.resolve()}
    records = [record for folder in sorted(folders) for record in read_ledger(folder, keep_index=False).records]
    history = History(records, conditions.profile, identify_machine(torch.device("cpu")).cpu, identify_data(cases, conditions.data))
    ratings = rate_cases(cases, finished, history, records, load_claims(find_claims(results)))
    return Outlook(cases, run, ratings, history, find_begun(cases, RunStore(results / "runs" / run)) if run else ())


def find_unfinished(runs: Path, stem: str, cases: Sequence[Case], conditions: Conditions) -> str | None:
    """Name of the newest run of this stem, unless it has all of these cases."""
    name = find_run(runs, stem, [""])
    return None if name is None or len(find_finished(cases, RunStore(runs / name), conditions)) == len(cases) else name
