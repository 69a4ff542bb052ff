"""What `python -m bench run` says of a plan (--dry-run), of what a budget left out, and of its archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from assay.bench.case import Case, UsageError
from assay.bench.cli.display import console, errors, print_json, print_table
from assay.bench.formatting.numbers import format_duration
from assay.bench.running.archive import check_archive, write_archive
from assay.bench.running.stations import spell_resumption

if TYPE_CHECKING:
    from assay.bench.running.budget import Agenda, PlannedCase
    from assay.bench.running.campaign import Conditions

BUDGET_HELP = (
    "Start no case that would not end within T (90s, 8m, 1.5h): what decides a claim first, then what has no record here, cheap before dear. "
    "Goes on with the newest unfinished run (or --name)."
)


def print_plan(
    cases: Sequence[Case], run: str | None, results: Path, conditions: Conditions, seconds: float | None, *, resume: bool, json: bool
) -> None:
    """What --dry-run prints, narrow enough for 80 columns.

    run: the one that would go on; None for a new one. seconds: the budget; None without one, and then every case runs, in the order declared.
    """
    from assay.bench.records.store import RunStore
    from assay.bench.running.budget import look_ahead
    from assay.bench.running.campaign import find_finished
    from assay.bench.running.worth import Worth

    goes_on = run is not None and (resume or seconds is not None)
    finished = find_finished(cases, RunStore(results / "runs" / str(run)), conditions) if goes_on else ()
    plan = look_ahead(cases, run, results, conditions, finished=finished).plan(seconds, conditions.parallel)
    out = [row for row in plan.rows if not row.in_time]
    profile, out_seconds = conditions.profile, sum(row.price for row in out)
    if json:
        told = {"profile": profile.name, "run": run, "budget_s": seconds, "jobs": conditions.parallel, "ends_s": plan.seconds}
        print_json(told | {"left_out": len(out), "left_out_s": out_seconds, "cases": [_to_json(row) for row in plan.rows]})
        return
    console.print(f"preset {cases[0].preset} on {profile.title}, {f'going on with run {run}' if goes_on else 'a new run'}", markup=False)
    runs = [row for row in plan.rows if row.rating.worth is not Worth.IDLE]
    for title, rows in (("\nstarts, in this order", [row for row in runs if row.in_time]), ("\nis left out", [row for row in runs if not row.in_time])):
        if rows:
            print_table(title, ("case", "worth", "takes", "as known from"), map(_to_cells, rows))
    for source, count in Counter(row.estimate.source for row in plan.rows if row.rating.worth is Worth.IDLE).items():
        console.print(f"\ncases that do not run: {count}, because {source}", markup=False, soft_wrap=True)
    within = "" if seconds is None else f" of {format_duration(seconds)}"
    left = "" if seconds is None else f"; left out: {len(out)}, about {format_duration(out_seconds)}"
    console.print(f"\ncases: {len(cases) - len(out)}, {conditions.parallel} at a time: about {format_duration(plan.seconds)}{within}{left}", soft_wrap=True)


def _to_json(row: PlannedCase) -> dict[str, object]:
    estimate, rating = row.estimate, row.rating
    told = {"id": row.case.id, "worth": rating.worth.name.lower(), "claims": rating.claims}
    return told | {"seconds": estimate.seconds, "set_aside_s": row.price, "source": estimate.source, "in_time": row.in_time}


def _to_cells(row: PlannedCase) -> tuple[str, ...]:
    case = row.case
    takes = format_duration(row.price) if row.estimate.seconds is not None else f"? ({format_duration(row.price)})"
    return f"{case.workload}/{case.variant}/{case.phase}/{case.division}/{case.precision}", str(row.rating), takes, row.estimate.source


def tell_left_out(agenda: Agenda, cases: Sequence[Case], ran: Collection[Case], command: Sequence[str], name: str) -> None:
    """How many cases a budget left out, how long they would take, and how to go on with them."""
    left = [case for case in cases if case not in ran]
    if not left:
        errors.print("no case was left out")
        return
    known = [seconds for case in left if (seconds := agenda.expect(case).seconds) is not None]
    unknown = f", and {len(left) - len(known)} of unknown length" if len(known) < len(left) else ""
    told = f"cases left out: {len(left)}, about {format_duration(sum(known))}{unknown}. Go on with: {spell_resumption(command, name)}"
    errors.print(told, markup=False, soft_wrap=True)


class ArchiveKeeper:
    """Keeps an archive in step with the records of a run. Used by several threads. What is wrong with it is told once, and ends no run."""

    def __init__(self, file: Path | None, folders: Sequence[Path], results: Path) -> None:
        """file: None keeps none. Raises UsageError for a file that cannot be replaced, before anything runs."""
        self._file, self._folders = file, folders
        self._told: str | None = None
        self._lock = Lock()
        if file is not None:
            check_archive(file, results, [folder.name for folder in folders])

    def write(self) -> None:
        """Replaces the archive by one of all records there are now."""
        if self._file is None:
            return
        with self._lock:
            try:
                told = write_archive(self._file, self._folders)
            except UsageError as fault:
                told = str(fault)
            if told and told != self._told:
                errors.print(told, style="yellow", markup=False, soft_wrap=True)
            self._told = told
