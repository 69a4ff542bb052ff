"""The command line: one command is one function, and its signature is its options."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer._completion_classes import completion_init

from assay import __version__
from assay.bench.case import Division, ExitCode, Preset, UsageError
from assay.bench.checkout import COMMAND, RESULTS, ROOT, spell_commands
from assay.bench.cli import completion as cli_completion
from assay.bench.cli import data as cli_data
from assay.bench.cli import exchange as cli_exchange
from assay.bench.cli import gate as cli_gate
from assay.bench.cli import run as cli_run
from assay.bench.cli.display import (
    console,
    errors,
    format_quantity,
    note_missing_page,
    print_json,
    print_judgements,
    print_table,
    report_errors,
)
from assay.bench.cli.options import Emulated, Json, ProfileName, Results, Select

if TYPE_CHECKING:
    pass

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

    from assay.bench.measure.detection import choose_profile
    from assay.bench.measure.fitness import check_fitness
    from assay.bench.measure.machine import identify_environment, identify_machine

    chosen = choose_profile(profile)
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


app.command(epilog=cli_run.EXAMPLES)(cli_run.run)


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
        note_missing_page()
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
