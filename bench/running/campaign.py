"""A run: every planned case in its own process, one record each, whatever happens to any of them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event
from typing import Protocol

import torch

from assay.bench.case import Case, ExitCode, Outcome, Phase, Unsupported
from assay.bench.measure.precision import require_precision
from assay.bench.profiles import Profile
from assay.bench.records.comparability import choose_threads, compare_key, foresee
from assay.bench.records.record import CaseFields, Environment, Machine, Record
from assay.bench.records.store import RunStore, read_record
from assay.bench.registry import get_variant, get_workload
from assay.bench.running.local import POLL_SECONDS, Contact, Ending, Limits
from assay.bench.running.plugin import BAD_INPUT
from assay.datasets.card import DataError

FINAL = (Outcome.OK, Outcome.UNSUPPORTED)  # what --resume does not try again


class Display(Protocol):
    """What a run tells while it goes on. Called from several threads."""

    def start(self, case: Case) -> None:
        """A case begins."""

    def advance(self, case: Case, done: int, total: int, note: str) -> None:
        """The case lives."""

    def finish(self, record: Record) -> None:
        """The case has its record."""

    def skip(self, case: Case) -> None:
        """A case has a comparable record already."""


class Budget(Protocol):
    """Decides what a run starts while it goes on. Called from several threads."""

    def take(self) -> Sequence[Case] | None:
        """The next chain of cases; None where none is to be started any more."""

    def admits(self, case: Case) -> bool:
        """Whether a case of a chain that was taken may still start."""

    def learn(self, record: Record) -> None:
        """A case has its record."""


class Launcher(Protocol):
    """Where cases run: as processes of this machine, or in containers of an image."""

    @property
    def folders(self) -> list[str]:
        """The pytest options --assay-run and --assay-data, as a case sees these folders."""

    def identify(self, device: torch.device) -> tuple[Machine, Environment]:
        """Where and with what the cases run."""

    def launch(self, case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
        """Runs one case to its end, or until `contact.stop` is set. Nothing of the case is left when this returns, however it returns.

        options: pytest options of assay.bench.running.plugin.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What to run, on what, and where the records go."""

    cases: Sequence[Case]
    store: RunStore
    profile: Profile
    launcher: Launcher
    data: Path | None
    seed: int
    limits: Limits
    command: tuple[str, ...]
    find_neighbours: Callable[[], Collection[str]]
    emulated: tuple[str, ...] = ()
    finished: Mapping[Case, Record] = field(default_factory=dict)  # cases of this run that need not run again
    jobs: int = 1
    budget: Budget | None = None  # None: every case, in order
    keep: Callable[[], object] = lambda: None  # called after every record

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu" if self.emulated else self.profile.device)

    def find_finished(self) -> dict[Case, Record]:
        """Cases of this run that need not run again here and now."""
        here = self.launcher.identify(self._device)
        return find_finished(self.cases, self.store, Conditions(data=self.data, profile=self.profile, seed=self.seed, parallel=self.jobs), here)

    def execute(self, display: Display) -> list[Record]:
        """Runs the cases and returns their records in order, those found by --resume included, those that the budget left out not.

        Cases that share weights follow each other; others run `jobs` at a time. KeyboardInterrupt stops the cases under way, waits
        for their records and goes on to the caller.
        """
        stop = Event()
        take = partial(next, iter(chain_cases(self.cases)), None) if self.budget is None else self.budget.take
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                workers = [pool.submit(self._execute_chains, take, display, stop) for _ in range(self.jobs)]
                while (state := wait(workers, POLL_SECONDS, FIRST_EXCEPTION)).not_done and not any(worker.exception() for worker in state.done):
                    pass  # in turns: a signal that another thread receives is only acted on when this one wakes
                records = {case: record for worker in state.done for case, record in worker.result().items()}
            except BaseException:
                stop.set()
                raise
        return [records[case] for case in self.cases if case in records]

    def _execute_chains(self, take: Callable[[], Sequence[Case] | None], display: Display, stop: Event) -> dict[Case, Record]:
        """Takes chain after chain from what all workers share, until there is none."""
        records: dict[Case, Record] = {}
        for chain in iter(take, None):
            for case in chain:
                if stop.is_set():
                    return records
                if case in self.finished:
                    display.skip(case)
                    records[case] = self.finished[case]
                elif self.budget is None or self.budget.admits(case):
                    records[case] = self._execute_one(case, display, stop)
                else:
                    break
        return records

    def _execute_one(self, case: Case, display: Display, stop: Event) -> Record:
        display.start(case)
        before = self.store.find(case)
        started = datetime.now(UTC)
        log = name_log(self.store, case)
        contact = Contact(report=partial(display.advance, case), stop=stop, find_neighbours=self.find_neighbours)
        # what cannot run here is told without a process, which would say the same after its imports
        ending = self._refuse(case, log) or self.launcher.launch(case, self._options(), self.limits, log, contact)
        written = self.store.find(case)
        if written == before:
            ending = ending if ending.outcome else Ending(Outcome.CRASH, f"ended without a record; its output is in {log.name}", log)
            written = [self._record_ending(case, ending, started, contact.told)]
        record = read_record(written[-1])
        if self.budget is not None:
            self.budget.learn(record)
        display.finish(record)
        self.keep()
        return record

    def _refuse(self, case: Case, log: Path) -> Ending | None:
        try:
            require_precision(case, get_variant(get_workload(case.workload), case.variant), self.profile)
        except Unsupported as error:
            return Ending(Outcome.UNSUPPORTED, str(error), log)
        return None

    def _options(self) -> list[str]:
        options = [*self.launcher.folders, f"--assay-profile={self.profile.name}", f"--assay-seed={self.seed}"]
        options += [f"--assay-parallel={self.jobs}", f"--assay-command={shlex.join(self.command)}"]
        return options + [f"--assay-emulated={what}" for what in self.emulated]

    def _record_ending(self, case: Case, ending: Ending, started: datetime, beside: Iterable[str]) -> Path:
        machine, environment = self.launcher.identify(self._device)
        record = Record(
            run=self.store.folder.name,
            sequence=0,
            case=CaseFields.of(case),
            outcome=ending.outcome or Outcome.CRASH,
            reason=ending.reason,
            started=started,
            ended=datetime.now(UTC),
            profile=self.profile.name,
            emulated=self.emulated,
            recipe=get_workload(case.workload).recipe(case),
            machine=machine,
            environment=environment,
            beside=tuple(sorted(beside)),
        )
        return self.store.append(record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a user's choice of it decides whether a recorded case need not run again."""

    data: Path | None
    profile: Profile
    seed: int
    parallel: int  # cases at a time


def find_finished(cases: Iterable[Case], store: RunStore, conditions: Conditions, here: tuple[Machine, Environment] | None = None) -> dict[Case, Record]:
    """Cases of this run that ended in order under the same comparability key as they would have now.

    here: where and with what they would run now; None for each record's own machine and environment: a plan for a machine that is not this one.
    """
    known: dict[Case, list[Record]] = {}
    for record in store.read():
        if record.outcome in FINAL:
            known.setdefault(record.case.case, []).append(record)
    finished: dict[Case, Record] = {}
    for case in cases:
        if case not in known:
            continue
        try:
            identity = get_workload(case.workload).identify(case, conditions.data)
        except DataError:
            continue  # the case itself will say so in its record
        for record in known[case]:
            machine, environment = here or (record.machine, record.environment)
            if record.comparability is None or machine is None or environment is None:
                continue
            host = machine.model_copy(update={"threads": choose_threads(case, machine.threads)})
            key = compare_key(case, identity, host, environment, profile=conditions.profile, seed=conditions.seed, parallel=conditions.parallel).key
            if foresee(record.comparability) == key:
                finished[case] = record
    return finished


def name_log(store: RunStore, case: Case) -> Path:
    """Where a case's output goes, from its start on."""
    return store.folder / "logs" / f"{case.id.replace('/', '.')}.log"


def chain_cases(cases: Sequence[Case]) -> list[list[Case]]:
    """Cases that differ in their phase only, together and in order: evaluation loads what training left."""
    chains: dict[Case, list[Case]] = {}
    for case in cases:
        chains.setdefault(replace(case, phase=Phase.TRAIN), []).append(case)
    return list(chains.values())


def judge_run(records: Sequence[Record]) -> int:
    """Exit code of a run: 2 for unusable input, 1 for a failed case, 130 for one that was interrupted, 4 when only the machine was at fault,
    3 where nothing ran because something, if only time, is missing, else 0."""
    outcomes = {record.outcome for record in records}
    if any(record.reason and record.reason.startswith(BAD_INPUT) for record in records):
        return ExitCode.WRONG_USE
    if outcomes & {Outcome.CRASH, Outcome.TIMEOUT, Outcome.OOM}:
        return ExitCode.VERDICT_FAILED
    if Outcome.INTERRUPTED in outcomes:
        return ExitCode.INTERRUPTED
    if Outcome.INVALID in outcomes:
        return ExitCode.MACHINE_NOT_FIT
    nothing_ran = not outcomes or Outcome.SKIPPED in outcomes <= {Outcome.SKIPPED, Outcome.UNSUPPORTED}
    return ExitCode.INCONCLUSIVE if nothing_ran else ExitCode.OK
