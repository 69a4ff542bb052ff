"""`run`: cases in a row, or as many as a budget allows."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.bench.case import Division, ExitCode, Preset, UsageError
from assay.bench.checkout import COMMAND, RESULTS
from assay.bench.cli import budget as cli_budget
from assay.bench.cli.display import RunDisplay, console, errors, note_missing_page, print_json, print_refusals, print_results, print_side_by_side, report_errors
from assay.bench.cli.interruption import heed_termination
from assay.bench.cli.options import DataFolder, Emulated, Json, ProfileName, Select
from assay.bench.running.stations import Engine, Station, Wish, find_run, name_suffixes, open_stations, spell_resumption

if TYPE_CHECKING:
    from assay.bench.records.record import Record
    from assay.bench.running.budget import Agenda
    from assay.bench.running.campaign import Campaign

EXAMPLES = (
    "Examples: `python -m bench run --preset standard --data ../data --select 'affinity and train'`, "
    "`python -m bench run --engine docker --gpu 0 --image cuda --image triton2 --select dnabert-s`, "
    "`python -m bench run --budget 25m --dry-run --profile h100`, `python -m bench run --budget 8m --archive pod.tar.gz`"
)


@report_errors
@heed_termination()
def run(
    words: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,  # names without --select, to be told about it
    profile: ProfileName = None,
    preset: Preset = Preset.SMOKE,
    select: Select = "",
    division: Annotated[Division | None, typer.Option(help="closed: recipes as written; open: any change that keeps the quality.")] = None,
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(metavar="DIR", show_default="results", help="The results folder; records go to its runs/.")] = RESULTS,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run's folder; default: date, profile and preset.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run (or --name) and skip cases with a comparable record.")] = False,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds that one case may take.")] = 7200,
    silence: Annotated[float, typer.Option(metavar="S", help="Seconds without a sign of life after which a case is killed.")] = 300,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Memory that one case may hold; default: 90 % of what is free now.")] = None,
    budget: Annotated[str | None, typer.Option(metavar="T", help=cli_budget.BUDGET_HELP)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan: each case's worth, duration and its source. Starts and writes nothing.")] = False,
    archive: Annotated[Path | None, typer.Option(metavar="F.tar.gz", help="After every case, all records so far as one file for `bench import`.")] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Cases at a time; default: 1, or 2 for smoke on a CPU, one thread each.")] = None,
    seed: int = 42,
    engine: Annotated[Engine, typer.Option(help="local: processes of this machine; docker: one container per case.")] = Engine.LOCAL,
    image: Annotated[list[str] | None, typer.Option(metavar="TAG", help="With docker: cpu, cuda, triton2 or a tag; several are shown side by side.")] = None,
    gpu: Annotated[str | None, typer.Option(metavar="ID", help="With docker: the GPU's index or UUID; default: 0 for images that need one.")] = None,
    allow_new_image: Annotated[bool, typer.Option("--allow-new-image", help="With docker: take an image other than the one that made records here.")] = False,
    emulated: Emulated = None,
    json: Json = False,
) -> None:
    """Runs cases, one process and one record each, then writes the leaderboard and the claims report.

    Ctrl-C and SIGTERM end the cases under way, whose outcome is then `interrupted`, and the run with exit code 130 or 143; --resume goes on.
    A run of which every case was skipped, or left out by --budget, ends with 3.
    """
    import psutil

    from assay.bench.measure.detection import choose_profile
    from assay.bench.records.store import RunStore
    from assay.bench.registry import select_cases
    from assay.bench.report import write_pages
    from assay.bench.running.budget import find_unfinished, look_ahead, parse_budget
    from assay.bench.running.campaign import Campaign, Conditions, judge_run
    from assay.bench.running.local import Limits
    from assay.bench.running.neighbours import announce_run, own_run

    began = time.monotonic()
    seconds = None if budget is None else parse_budget(budget)
    suffixes = name_suffixes(image or ())
    _check_use(words or (), data, out / "runs", name, suffixes, resume=resume, plans="--dry-run" if dry_run else "--budget" if budget else None)
    cases = select_cases(preset, division, select)
    typed = (*COMMAND, *sys.argv[1:])
    wish = Wish(profile=profile, engine=engine, images=image or (), gpu=gpu, allow_new_image=allow_new_image, emulated=tuple(emulated or ()), results=out,
                data=data, command=typed)  # fmt: skip
    stations = [] if dry_run else _open_stations(wish)
    machine = stations[0].profile if stations else choose_profile(profile)  # to plan takes no card
    width = jobs or (2 if preset is Preset.SMOKE and machine.device == "cpu" else 1)
    conditions = Conditions(data=data, profile=machine, seed=seed, parallel=width)
    stem = f"{machine.name}-{preset}"
    if name is None and (resume or seconds is not None):
        name = find_run(out / "runs", stem, suffixes) if resume else find_unfinished(out / "runs", stem, cases, conditions)
    if dry_run:
        cli_budget.print_plan(cases, name, out, conditions, seconds, resume=resume, json=json)
        return
    name = name or f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{stem}"
    folders = [out / "runs" / f"{name}{suffix}" for suffix in suffixes]
    keeper = cli_budget.ArchiveKeeper(archive, folders, out)
    stores = [RunStore.create(folder.parent, folder.name) for folder in folders]
    taken: dict[str, list[Record]] = {}
    with ExitStack() as held:
        for store in stores:
            if fault := held.enter_context(own_run(store.folder)):
                errors.print(fault, markup=False, soft_wrap=True)
        neighbours = held.enter_context(announce_run(name))
        for station, store in zip(stations, stores, strict=True):
            for note in station.notes:
                errors.print(note, markup=False, soft_wrap=True)
            allowed = int(memory * 1e9) if memory else int(psutil.virtual_memory().available * 0.9 / width)
            limits = Limits(wall_seconds=timeout, silent_seconds=silence, memory_bytes=allowed)
            campaign = Campaign(cases=cases, store=store, profile=station.profile, launcher=station.open(store.folder), data=data, seed=seed, limits=limits,
                                command=typed, emulated=wish.emulated, jobs=width, find_neighbours=neighbours.find, keep=keeper.write)  # fmt: skip
            if resume or seconds is not None:
                campaign = replace(campaign, finished=campaign.find_finished())
            agenda = None if seconds is None else look_ahead(cases, name, out, conditions, finished=campaign.finished).open_agenda(seconds, started=began)
            taken[station.label] = _execute(replace(campaign, budget=agenda), name, agenda, quiet=json)
        pages = write_pages(out)
    note_missing_page()
    records = [record for found in taken.values() for record in found]
    if records:
        keeper.write()  # also where every case was finished before
    _print_run(taken, out, pages, json=json)
    raise typer.Exit(judge_run(records))


def _check_use(words: Sequence[str], data: Path | None, runs: Path, name: str | None, suffixes: Sequence[str], *, resume: bool, plans: str | None) -> None:
    """Raises UsageError for options of `run` that do not go together or name what is not there."""
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; `python -m bench data fetch --to {data}` fills one")
    if words:
        raise UsageError(f"{words[0]!r} is not an option; cases are chosen with --select, e.g. --select '{' and '.join(words)}'")
    if plans and len(suffixes) > 1:
        raise UsageError(f"{plans} plans for one image; run the command once for each --image")
    if resume and name and not any((runs / f"{name}{suffix}").is_dir() for suffix in suffixes):
        raise UsageError(f"--resume --name {name}: there is no such run in {runs}; leave out --name for the newest, or --resume for a new one")


def _open_stations(wish: Wish) -> list[Station]:
    from assay.bench.measure.fitness import NotFit

    try:
        return open_stations(wish)
    except NotFit as refused:
        print_refusals(refused.where, refused.refusals)
        raise typer.Exit(ExitCode.MACHINE_NOT_FIT) from None


def _execute(campaign: Campaign, name: str, agenda: Agenda | None, *, quiet: bool) -> list[Record]:
    try:
        with RunDisplay(len(campaign.cases), quiet=quiet, left=None if agenda is None else agenda.left) as display:
            records = campaign.execute(display)
    except KeyboardInterrupt:
        errors.print(f"interrupted; every finished case is recorded. Go on with: {spell_resumption(campaign.command, name)}", markup=False, soft_wrap=True)
        raise
    if agenda is not None:
        cli_budget.tell_left_out(agenda, campaign.cases, {record.case.case for record in records}, campaign.command, name)
    return records


def _print_run(taken: Mapping[str, Sequence[Record]], out: Path, pages: Sequence[Path], *, json: bool) -> None:
    if json:
        print_json([record.model_dump(mode="json") for records in taken.values() for record in records])
        return
    for records in taken.values():
        print_results(records)
    if len(taken) > 1:
        print_side_by_side(taken)
    outcomes = Counter(record.outcome for records in taken.values() for record in records)
    places = sorted({str(out / "runs" / record.run) for records in taken.values() for record in records})
    console.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) + f"; records in {', '.join(places)}", soft_wrap=True)
    console.print("pages: " + ", ".join(str(page) for page in pages), soft_wrap=True)
