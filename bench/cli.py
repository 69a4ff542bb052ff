"""The command line: one command is one function, and its signature is its options."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bench import cli_data
from bench.case import Division, ExitCode, Preset, UsageError
from bench.display import RunDisplay, console, errors, format_quantity, print_json, print_judgements, print_results, print_table, report_errors

ROOT = Path(__file__).resolve().parents[1]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Benchmarks for deep-learning models of computational biology: run cases, keep records, judge documented claims.",
    epilog="Exit codes: 0 all well; 1 a case or verdict failed; 2 wrong use or bad input; 3 inconclusive or not comparable; 4 machine not fit.",
)
app.add_typer(cli_data.app, name="data")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output instead of tables.")]
Results = Annotated[Path, typer.Option(metavar="DIR", show_default="results", help="The results folder: runs/, baselines/ and the pages.")]
ProfileName = Annotated[str | None, typer.Option(metavar="NAME", help="Machine class, e.g. `cpu` or `a40`; found out when left out.")]
DataFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Real data, laid out as `data fetch` does. Without it, synthetic twins.")]
Select = Annotated[str, typer.Option(metavar="EXPR", help="Cases whose id matches, in the language of `pytest -k`.")]


@app.command("list", epilog="Example: `python -m bench list --preset smoke --select 'affinity and not eval'`")
@report_errors
def list_cases(preset: Preset | None = None, division: Division | None = None, select: Select = "", json: Json = False) -> None:
    """Shows the cases: workload/variant/phase/preset/division/precision."""
    from bench.registry import get_workload, select_cases

    cases = select_cases(preset, division, select)
    if json:
        print_json([asdict(case) | {"id": case.id} for case in cases])
        return
    variants = Counter((case.workload, case.variant) for case in cases)
    rows = [(f"{workload}/{variant}", str(count), get_workload(workload).variants[variant].summary) for (workload, variant), count in variants.items()]
    print_table(f"{len(cases)} cases", ("workload/variant", "cases", "what it is"), rows)


@app.command(epilog="Examples: `python -m bench check`, `python -m bench check --runs`")
@report_errors
def check(
    runs: Annotated[bool, typer.Option("--runs", help="Also check the hash chain of every run's records.")] = False,
    results: Results = ROOT / "results",
    json: Json = False,
) -> None:
    """Validates declarations, claims, profiles and data sources without running anything."""
    from bench.check import check_project, check_runs

    problems = check_project(results) + (check_runs(results) if runs else [])
    if json:
        print_json([asdict(problem) for problem in problems])
    for problem in [] if json else problems:
        console.print(f"{problem.where}: {problem.what}", markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(ExitCode.WRONG_USE)
    if not json:
        console.print("all well: declarations, claims, profiles, data sources and schema agree" + ("; the records are as they were written" if runs else ""))


@app.command(epilog="Example: `python -m bench doctor --profile a40`")
@report_errors
def doctor(profile: ProfileName = None, results: Results = ROOT / "results", json: Json = False) -> None:
    """Says whether this machine is fit to measure on, and explains every refusal. Exit code 4 when it is not."""
    import torch

    from bench.measure.fitness import check_fitness
    from bench.profiles import detect_profile, load_profile

    chosen = load_profile(profile) if profile else detect_profile()
    findings = check_fitness(chosen, torch.device(chosen.device), results=results, calibrate=True)
    if json:
        print_json({"profile": chosen.name, "fit": all(f.ok for f in findings), "findings": [asdict(f) for f in findings]})
    else:
        rows = [("ok" if f.ok else "REFUSED", f.name, f.message if f.ok else f"{f.message} {f.remedy}") for f in findings]
        print_table(f"profile {chosen.name}: {chosen.title}", ("", "check", "finding"), rows)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(ExitCode.MACHINE_NOT_FIT)


@app.command(epilog="Example: `python -m bench run --preset standard --data ../data --select 'affinity and train'`")
@report_errors
def run(
    profile: ProfileName = None,
    preset: Preset = Preset.SMOKE,
    select: Select = "",
    division: Annotated[Division | None, typer.Option(help="closed: recipes as written; open: any change that keeps the quality.")] = None,
    data: DataFolder = None,
    out: Annotated[Path, typer.Option(metavar="DIR", show_default="results", help="The results folder; records go to its runs/.")] = ROOT / "results",
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run's folder; default: date, profile and preset.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the newest run (or --name) and skip cases with a comparable record.")] = False,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds that one case may take.")] = 7200,
    silence: Annotated[float, typer.Option(metavar="S", help="Seconds without a sign of life after which a case is killed.")] = 300,
    memory: Annotated[float | None, typer.Option(metavar="GB", help="Memory that one case may hold; default: 90 % of what is free now.")] = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, help="Cases at a time; default: 1, or 2 for smoke on a CPU, one thread each.")] = None,
    seed: int = 42,
    json: Json = False,
) -> None:
    """Runs cases, one process and one record each, then writes the leaderboard and the claims report."""
    import psutil

    from bench.launch.campaign import Campaign, judge_run
    from bench.launch.local import Limits
    from bench.profiles import detect_profile, load_profile
    from bench.record import RunStore
    from bench.registry import select_cases
    from bench.report import write_pages

    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; `python -m bench data fetch --to {data}` fills one")
    cases = select_cases(preset, division, select)
    chosen = load_profile(profile) if profile else detect_profile()
    store = RunStore.create(out / "runs", name or _name_run(out, f"{chosen.name}-{preset}", resume=resume))
    jobs = jobs or (2 if preset is Preset.SMOKE and chosen.device == "cpu" else 1)
    allowed = int(memory * 1e9) if memory else int(psutil.virtual_memory().available * 0.9 / jobs)
    limits = Limits(wall_seconds=timeout, silent_seconds=silence, memory_bytes=allowed)
    typed = ("python", "-m", "bench", *sys.argv[1:])
    campaign = Campaign(cases=cases, store=store, profile=chosen, data=data, seed=seed, limits=limits, command=typed, resume=resume, jobs=jobs)
    try:
        with RunDisplay(len(cases), quiet=json) as display:
            records = campaign.execute(display)
    except KeyboardInterrupt:
        errors.print(f"interrupted; every finished case is recorded. Go on with: python -m bench run --resume --name {store.folder.name}", soft_wrap=True)
        raise typer.Exit(130) from None
    pages = write_pages(out)
    if json:
        print_json([record.model_dump(mode="json") for record in records])
    else:
        print_results(records)
        outcomes = Counter(record.outcome for record in records)
        console.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) + f"; records in {store.folder}", soft_wrap=True)
        console.print("pages: " + ", ".join(str(page) for page in pages), soft_wrap=True)
    raise typer.Exit(judge_run(records))


@app.command(epilog="Example: `python -m bench board`")
@report_errors
def board(results: Results = ROOT / "results", json: Json = False) -> None:
    """Ranks the records: writes results/LEADERBOARD.md and results/CLAIMS.md."""
    from bench.record import read_runs
    from bench.report import write_pages

    pages = write_pages(results)
    if json:
        print_json([record.model_dump(mode="json") for record in read_runs(results)])
    else:
        console.print("wrote " + ", ".join(str(page) for page in pages), soft_wrap=True)


@app.command(epilog="Examples: `python -m bench claims`, `python -m bench claims --reasons`, `python -m bench claims --strict --json`")
@report_errors
def claims(
    reasons: Annotated[bool, typer.Option("--reasons", help="Also say why the other claims have no verdict, claim by claim.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 when a claim is missed or contradicted, 3 when none was comparable.")] = False,
    results: Results = ROOT / "results",
    json: Json = False,
) -> None:
    """Says claim by claim whether the documented number holds: measured value, interval, verdict and reason."""
    from bench.claims import exit_code, find_claims, judge, load_claims
    from bench.record import read_runs

    judgements = judge(load_claims(find_claims(results)), read_runs(results))
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
    from bench.scoring import score_predictions

    scores = score_predictions(workload, predictions, true_column, pred_column, group_column)
    if json:
        print_json(dict(scores))
        return
    rows = [(name, format_quantity(quantity), str(quantity.n), quantity.how) for name, quantity in scores.items()]
    print_table(f"{workload}: {predictions}", ("metric", "value [95 % interval]", "n", "how"), rows)


def _name_run(out: Path, suffix: str, *, resume: bool) -> str:
    existing = sorted(folder.name for folder in (out / "runs").glob(f"*-{suffix}")) if resume else []
    return existing[-1] if existing else f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{suffix}"


def main() -> None:
    """Entry point of `python -m bench`."""
    app(prog_name="python -m bench")
