"""A run that has so much time, with a launcher and a clock of its own: what starts, what is left out, and how the next run goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.bench.case import Case, Outcome, UsageError
from assay.bench.profiles import load_profile
from assay.bench.records.record import Environment, Machine, Record
from assay.bench.records.store import RunStore
from assay.bench.running.budget import Agenda, Outlook, find_begun, parse_budget
from assay.bench.running.campaign import Campaign, name_log
from assay.bench.running.estimates import History
from assay.bench.running.local import Contact, Ending, Limits
from assay.bench.running.worth import Rating, Worth
from tests.bench.running.past import ENVIRONMENT, TWIN, machine, past


def name(variant: str, phase: str = "train", division: str = "closed/fp32") -> str:
    return f"affinity-v2/{variant}/{phase}/standard/{division}"


def outlook(seconds: Mapping[str, float | None], worth: dict[str, Worth] | None = None, begun: Sequence[str] = ()) -> Outlook:
    """Cases by id, each with the seconds that an earlier record on this machine took; None without one."""
    cases = [Case.parse(case) for case in seconds]
    records = [past(case, took) for case, took in seconds.items() if took is not None]
    history = History(records, load_profile("cpu"), "Xeon", dict.fromkeys(cases, TWIN))
    ratings = {case: Rating((worth or {}).get(case.id, Worth.NEW)) for case in cases}
    return Outlook(cases, None, ratings, history, {Case.parse(case) for case in begun})


def plan(budget: float | None, seconds: Mapping[str, float | None], worth: dict[str, Worth] | None = None, jobs: int = 1, begun: Sequence[str] = ()) -> tuple[list[str], list[str], float]:
    found = outlook(seconds, worth, begun).plan(budget, jobs)
    return [row.case.id for row in found.rows if row.in_time], [row.case.id for row in found.rows if not row.in_time], found.seconds


A, B, C, D = map(name, ("documented", "by-complex", "without-gelu", "without-depth"))
A_EVAL, A_OPEN = name("documented", "eval"), name("documented", division="open/fp32")


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("8m", 480.0), ("1.5h", 5400.0)])
def test_a_budget_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "8", "m", "-8m", "0s", "8 m", "8min", "1e3s", "infs"])
def test_anything_else_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"write 90s, 8m or 1\.5h"):
        parse_budget(text)


class TestPlan:
    def test_worth_goes_before_price_and_cheap_before_dear(self) -> None:
        worth = {C: Worth.DECIDES, B: Worth.REPEAT}
        assert plan(1000, {A: 20, B: 1, C: 90, D: 10}, worth) == ([C, D, A, B], [], 121.0)

    def test_closed_goes_before_open_of_the_same_price_in_whole_seconds(self) -> None:
        assert plan(1000, {A_OPEN: 19.6, A: 20.4, B: 19.4})[0] == [B, A, A_OPEN]

    def test_phases_of_a_case_stay_together_and_in_order_and_take_the_worth_of_the_best(self) -> None:
        worth = {A_EVAL: Worth.DECIDES, A: Worth.REPEAT}
        assert plan(1000, {B: 5, A: 30, A_EVAL: 2}, worth) == ([A, A_EVAL, B], [], 37.0)

    def test_what_would_not_end_is_left_out_and_smaller_ones_behind_it_are_not(self) -> None:
        worth = {A: Worth.DECIDES, B: Worth.DECIDES}
        assert plan(100, {A: 60, B: 70, C: 10, D: 40}, worth) == ([A, C], [B, D], 70.0)

    def test_a_chain_is_started_only_where_all_of_it_ends_in_time(self) -> None:
        assert plan(30, {A: 29, A_EVAL: 2, B: 30}) == ([B], [A, A_EVAL], 30.0)

    def test_of_the_unknown_comes_last_and_is_given_the_longest_that_is_known(self) -> None:
        assert plan(100, {A: None, A_EVAL: None, B: 40}) == ([B], [A, A_EVAL], 40.0)
        kin = {A: None, B: 40, "affinity-v1/documented/train/standard/closed/fp32": 50}
        assert plan(100, kin) == ([A, B], ["affinity-v1/documented/train/standard/closed/fp32"], 80.0)  # like its kin, and so known

    def test_without_any_record_everything_may_start(self) -> None:
        assert plan(1, {A: None, B: None}) == ([A, B], [], 0.0)

    def test_what_an_earlier_call_began_and_lost_comes_last_of_its_worth(self) -> None:
        assert plan(1000, {A: 5, B: 10, C: 1}, {C: Worth.REPEAT}, begun=[A])[0] == [B, A, C]

    def test_several_at_a_time_end_sooner(self) -> None:
        assert plan(60, {A: 10, B: 20, C: 30, D: 50}, jobs=2) == ([A, B, C], [D], 40.0)

    def test_without_a_budget_everything_runs_in_the_order_declared(self) -> None:
        assert plan(None, {B: 70, A: 60, C: None}, {A: Worth.DECIDES}) == ([B, A, C], [], 200.0)

    def test_what_is_finished_takes_no_time(self) -> None:
        assert plan(30, {A: 29, A_EVAL: 2}, {A: Worth.FINISHED}) == ([A, A_EVAL], [], 2.0)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeLauncher:
    """Cases that take so many seconds of a clock and leave a record; one that crashes leaves none."""

    store: RunStore
    clock: Clock
    takes: Mapping[str, float]
    launched: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def identify(self, device: torch.device) -> tuple[Machine, Environment]:
        return machine(), ENVIRONMENT

    def launch(self, case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
        self.launched.append(case.id)
        self.clock.now += self.takes[case.id]
        self.store.append(past(case.id, self.takes[case.id]))
        return Ending(None, None, log)


class Silent:
    def start(self, case: Case) -> None: ...
    def advance(self, case: Case, done: int, total: int, note: str) -> None: ...
    def finish(self, record: Record) -> None: ...
    def skip(self, case: Case) -> None: ...


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "runs", "one")


def execute(store: RunStore, found: Outlook, budget: float, takes: Mapping[str, float], **more: Any) -> tuple[list[str], list[str], Agenda]:
    clock = Clock()
    launcher = FakeLauncher(store, clock, takes)
    agenda = found.open_agenda(budget, clock=clock)
    limits = Limits(wall_seconds=1, silent_seconds=1, memory_bytes=1)
    campaign = Campaign(cases=found.cases, store=store, profile=load_profile("cpu"), launcher=launcher, data=None, seed=42, limits=limits, command=(), find_neighbours=tuple, budget=agenda, **more)
    records = campaign.execute(Silent())
    return launcher.launched, [record.case.case.id for record in records], agenda


class TestRun:
    def test_cases_start_by_worth_and_records_come_in_the_order_declared(self, store: RunStore) -> None:
        takes = {A: 20.0, B: 10.0, C: 90.0}
        launched, recorded, agenda = execute(store, outlook(takes, {C: Worth.DECIDES}), 125, takes)
        assert launched == [C, B, A]
        assert recorded == [A, B, C]
        assert agenda.left() == 5.0

    def test_nothing_starts_that_would_not_end(self, store: RunStore) -> None:
        takes = {A: 60.0, B: 50.0, C: 30.0}
        assert execute(store, outlook(takes, {A: Worth.DECIDES}), 100, takes)[:2] == ([A, C], [A, C])

    def test_a_phase_that_no_longer_fits_is_not_started(self, store: RunStore) -> None:
        found = outlook({A: 60, A_EVAL: 20, B: 15}, {A: Worth.DECIDES})
        assert execute(store, found, 100, {A: 84.0, A_EVAL: 20.0, B: 15.0})[0] == [A, B]

    def test_the_first_of_a_kind_puts_right_what_was_thought_of_the_others(self, store: RunStore) -> None:
        dear = "affinity-v1/documented/train/standard/closed/fp32"
        found = outlook({dear: 400, A: None, B: None, C: None}, {dear: Worth.REPEAT})
        assert plan(480, {dear: 400, A: None, B: None, C: None}, {dear: Worth.REPEAT})[0] == [A]
        assert execute(store, found, 480, {dear: 400.0, A: 12.0, B: 15.0, C: 12.0})[0] == [A, B, C, dear]

    def test_what_is_finished_is_not_run_again(self, store: RunStore) -> None:
        found = outlook({A: 60, A_EVAL: 5}, {A: Worth.FINISHED})
        launched, recorded, _ = execute(store, found, 5, {A_EVAL: 5.0}, finished={Case.parse(A): past(A, 60)})
        assert (launched, recorded) == ([A_EVAL], [A, A_EVAL])

    def test_two_at_a_time_share_one_agenda_and_every_record_is_kept(self, store: RunStore) -> None:
        kept: list[int] = []
        takes = dict.fromkeys((A, B, C, D), 1.0)
        launched, recorded, _ = execute(store, outlook(takes), 100, takes, jobs=2, keep=lambda: kept.append(len(store.paths())))
        assert sorted(launched) == sorted(recorded) == sorted(takes)
        assert len(kept) == 4
        assert kept[-1] == 4

    def test_a_fault_of_one_worker_ends_the_run(self, store: RunStore) -> None:
        def fail() -> None:
            raise UsageError("no space left")

        with pytest.raises(UsageError, match="no space left"):
            execute(store, outlook({A: 1, B: 1}), 100, {A: 1.0, B: 1.0}, keep=fail)

    def test_a_case_whose_machine_was_taken_away_is_known_by_its_log(self, store: RunStore) -> None:
        for case in (A, B):
            log = name_log(store, Case.parse(case))
            log.parent.mkdir(exist_ok=True)
            log.write_text("started\n")
        store.append(past(A, 1, outcome=Outcome.CRASH))
        assert find_begun([Case.parse(case) for case in (A, B, C)], store) == {Case.parse(B)}
