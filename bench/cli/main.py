"""The command line: one command is one function, and its signature is its options."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer._completion_classes import completion_init

from assay import __version__
from assay.bench.case import Division, ExitCode, Preset, UsageError
from assay.bench.checkout import COMMAND, RESULTS, ROOT, spell_commands
from assay.bench.cli import budget as cli_budget
from assay.bench.cli import completion as cli_completion
from assay.bench.cli import data as cli_data
from assay.bench.cli import exchange as cli_exchange
from assay.bench.cli import gate as cli_gate
from assay.bench.cli.display import (
    RunDisplay,
    console,
    errors,
    find_results,
    format_quantity,
    print_json,
    print_judgements,
    print_refusals,
    print_results,
    print_side_by_side,
    print_table,
    report_errors,
)
from assay.bench.cli.interruption import heed_termination
from assay.bench.running.stations import Engine, Station, Wish, find_run, name_suffixes, open_stations, spell_resumption

if TYPE_CHECKING:
    from assay.bench.records.record import Record
    from assay.bench.running.budget import Agenda
    from assay.bench.running.campaign import Campaign

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,  # typer's own asks for a program of one word; `completion` below makes one
    rich_markup_mode="markdown",
    help="Benchmarks for deep-learning models of computational biology: run cases, keep records, judge documented claims.",
    epilog="Exit codes: 0 all well; 1 a case or verdict failed; 2 wrong use or bad input; 3 inconclusive, not comparable "
    "or nothing run because something is missing; 4 machine not fit; 130 interrupted by Ctrl-C, 143 by SIGTERM.",
)
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_gate.app, name="gate")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output instead of tables.")]
Results = Annotated[
    Path, typer.Option(metavar="DIR", show_default="results", help="The results folder: runs/, baselines/ and the pages.", callback=find_results)
]
ProfileName = Annotated[str | None, typer.Option(metavar="NAME", help="Machine class, e.g. `cpu` or `a40`; found out when left out.")]
DataFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Real data, laid out as `data fetch` does. Without it, synthetic twins.")]
Emulated = Annotated[list[str] | None, typer.Option(metavar="WHAT", help="For tests: a GPU profile's cases run on the CPU; records say WHAT was pretended.")]
Select = Annotated[str, typer.Option(metavar="EXPR", help="Cases whose id matches, in the language of `pytest -k`.")]


def _print_version(asked: bool) -> None:
    if asked:
        console.print(f"assay {__version__}", markup=False)
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")] = False,
) -> None:
    """What goes before every command."""


@app.command("list", epilog="Example: `python -m bench list --preset smoke --select 'affinity and not eval'`")
@report_errors
def list_cases(preset: Preset | None = None, division: Division | None = None, select: Select = "", json: Json = False) -> None:
    """Shows the cases: workload/variant/phase/preset/division/precision."""
    from assay.bench.registry import get_workload, select_cases

    cases = select_cases(preset, division, select)
    if json:
        print_json([asdict(case) | {"id": case.id} for case in cases])
        return
    variants = Counter((case.workload, case.variant) for case in cases)
    rows = [(f"{workload}/{variant}", str(count), get_workload(workload).variants[variant].summary) for (workload, variant), count in variants.items()]
    print_table(f"{len(cases)} cases", ("workload/variant", "cases", "what it is"), rows)


@app.command(epilog="Examples: `python -m bench check`, `python -m bench check --runs --current`")
@report_errors
def check(
    runs: Annotated[bool, typer.Option("--runs", help="Also check the hash chain of every run's records.")] = False,
    current: Annotated[bool, typer.Option("--current", help="With --runs: also name the records of older source, to run again before a release.")] = False,
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Validates declarations, claims, profiles and data sources without running anything. Exit code 2 for what is wrong, 1 for older source alone."""
    from assay.bench.cli.check import check_current, check_project, check_runs

    if current and not runs:
        raise UsageError("--current looks at records, as --runs does; give both: `python -m bench check --runs --current`")
    problems = check_project(results) + (check_runs(results) if runs else [])
    older = check_current(results) if current else []
    if json:
        print_json([asdict(problem) for problem in [*problems, *older]])
    for problem in [] if json else [*problems, *older]:
        console.print(f"{problem.where}: {problem.what}", markup=False, soft_wrap=True)
    if problems or older:
        raise typer.Exit(ExitCode.WRONG_USE if problems else ExitCode.VERDICT_FAILED)
    if not json:
        console.print("all well: declarations, claims, profiles, data sources and schema agree" + ("; the records are as they were written" if runs else ""))


@app.command(epilog="Example: `python -m bench doctor --profile a40`")
@report_errors
def doctor(
    profile: ProfileName = None,
    emulated: Emulated = None,
    results: Results = RESULTS,
    quick: Annotated[bool, typer.Option("--quick", help="Leave out what takes seconds: other work on the machine, and its speed.")] = False,
    json: Json = False,
) -> None:
    """Says whether this machine is fit to measure on, and explains every refusal. Exit code 4 when it is not."""
    import torch

    from assay.bench.measure.detection import detect_profile
    from assay.bench.measure.fitness import check_fitness
    from assay.bench.measure.machine import identify_environment, identify_machine
    from assay.bench.profiles import load_profile

    chosen = load_profile(profile) if profile else detect_profile()
    device = torch.device("cpu" if emulated else chosen.device)
    findings = check_fitness(chosen, device, results=results, calibrate=not quick, emulated=bool(emulated))
    if json:
        here = {"machine": identify_machine(device).model_dump(), "environment": identify_environment(ROOT, sys.argv).model_dump()}
        print_json({"profile": chosen.name, "fit": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]} | here)
    else:
        rows = [("ok" if f.ok else "REFUSED", f.name, f.message if f.ok else f"{f.message} Wanted: {f.wanted}. {f.remedy}") for f in findings]
        print_table(f"profile {chosen.name}: {chosen.title}", ("", "check", "finding"), rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(ExitCode.MACHINE_NOT_FIT)


@app.command(
    epilog="Examples: `python -m bench run --preset standard --data ../data --select 'affinity and train'`, "
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

    from assay.bench.measure.detection import detect_profile
    from assay.bench.profiles import load_profile
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
    machine = stations[0].profile if stations else load_profile(profile) if profile else detect_profile()  # to plan takes no card
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
    _tell_missing_page()
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


def _tell_missing_page() -> None:
    from assay.bench.report import explain_missing_page

    if missing := explain_missing_page():
        errors.print(missing, markup=False, soft_wrap=True)


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


@app.command(epilog="Examples: `python -m bench board`, `python -m bench board --page /tmp/assay.html`")
@report_errors
def board(
    results: Results = RESULTS,
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the HTML page goes; default: index.html in the results folder.")] = None,
    json: Json = False,
) -> None:
    """Ranks the records: writes LEADERBOARD.md, CLAIMS.md and index.html, one page with plots that opens from disk.

    --json prints the records that the pages are made from: of those that say the same of the same, the latest.
    """
    from assay.bench.records.index import read_ledger
    from assay.bench.report import write_pages

    with errors.status("reading and checking records"):
        ledger = read_ledger(results)
    pages = write_pages(results, ledger, page)
    if page is None:
        _tell_missing_page()
    for run in ledger.faults:
        errors.print(f"run {run} is not as it was written; `python -m bench check --runs` says why", style="yellow", markup=False, soft_wrap=True)
    if json:
        print_json([record.model_dump(mode="json") for record in ledger.records])
    else:
        console.print("wrote " + ", ".join(str(page) for page in pages), soft_wrap=True)


@app.command(epilog="Examples: `python -m bench claims`, `python -m bench claims --reasons`, `python -m bench claims --strict --json`")
@report_errors
def claims(
    reasons: Annotated[bool, typer.Option("--reasons", help="Also say why the other claims have no verdict, claim by claim.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a claim is missed or contradicted, 3 when none was comparable.")] = False,
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Says claim by claim whether the documented number holds: measured value, interval, verdict and reason."""
    from assay.bench.claims.documented import find_claims, load_claims
    from assay.bench.claims.judgement import exit_code, judge
    from assay.bench.records.index import read_ledger

    judgements = judge(load_claims(find_claims(results)), read_ledger(results).records)
    if json:
        print_json([
            {"claim": j.claim.model_dump(mode="json"), "verdict": j.verdict, "measured": j.measured, "reason": j.reason, "record": j.record and j.record.run}
            for j in judgements
        ])
    else:
        print_judgements(judgements, reasons=reasons)
    if strict:
        raise typer.Exit(exit_code(judgements))


@app.command(epilog="Example: `python -m bench score --workload affinity-v1 --predictions mine.csv --true-column pKd --pred-column mine`")
@report_errors
def score(
    workload: Annotated[str, typer.Option(metavar="W", help="Whose metrics to use; `python -m bench list` shows them.")],
    predictions: Annotated[Path, typer.Option(metavar="FILE", help="CSV with one row per sample.")],
    true_column: Annotated[str | None, typer.Option(metavar="C", help="Column of true values or labels; guessed from common names.")] = None,
    pred_column: Annotated[str | None, typer.Option(metavar="C", help="Column of predicted values or scores; guessed from common names.")] = None,
    group_column: Annotated[str | None, typer.Option(metavar="C", help="Column of groups (complex, chromosome) for the intervals.")] = None,
    json: Json = False,
) -> None:
    """Scores predictions made elsewhere with exactly the suite's metrics, intervals included."""
    from assay.bench.exchange.scoring import score_predictions

    scores = score_predictions(workload, predictions, true_column, pred_column, group_column)
    if json:
        print_json(dict(scores))
        return
    rows = [(name, format_quantity(quantity), str(quantity.n), quantity.how) for name, quantity in scores.items()]
    print_table(f"{workload}: {predictions}", ("metric", "value [95 % interval]", "n", "how"), rows)


app.command("export", epilog=cli_exchange.EXPORT_EXAMPLES)(cli_exchange.export_records)
app.command("import", epilog=cli_exchange.IMPORT_EXAMPLES)(cli_exchange.import_file)


app.command(epilog=cli_completion.EXAMPLES)(cli_completion.completion)


def main() -> None:
    """The command line of `assay`, `python -m assay` and `python -m bench`."""
    completion_init()  # typer does this only for its own way of installing completion
    for group in (app, cli_data.app, cli_gate.app):
        group.info.epilog = spell_commands(group.info.epilog or "")
        for command in group.registered_commands:
            command.epilog = spell_commands(command.epilog or "")
    try:
        app(prog_name=" ".join(COMMAND), complete_var=cli_completion.VARIABLE)
    except SystemExit as end:
        if end.code in (128 + signal.SIGINT, 128 + signal.SIGTERM):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)  # everything has ended: taking torch apart takes seconds on a busy machine, and the user waits
        raise
