"""`python -m bench export` and `import`: records in other tools' formats, and other tools' numbers beside ours."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from assay.bench.case import UsageError
from assay.bench.checkout import RESULTS
from assay.bench.cli.display import console, errors, print_json, report_errors
from assay.bench.cli.options import Json, Results
from assay.bench.records.record import Record
from assay.bench.running.archive import SUFFIX, take_in


class Format(StrEnum):
    """What records can be written as."""

    CSV = "csv"
    PARQUET = "parquet"
    ACTION = "github-action-benchmark"
    MLFLOW = "mlflow"
    PYTEST = "pytest-benchmark"


EXPORT_EXAMPLES = """Examples: `python -m bench export --to csv --out records.csv`,
`python -m bench export --to github-action-benchmark --metric step_ms --out action.json`,
`python -m bench export --to mlflow --out mlruns --run NAME`"""


@report_errors
def export_records(
    to: Annotated[Format, typer.Option(help="The format.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="The file to write; for mlflow a folder or a tracking URI.")],
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Only the records of this run in results/runs.")] = None,
    metric: Annotated[str, typer.Option(metavar="M", help="For github-action-benchmark: the measurement or quality to follow.")] = "samples_per_s",
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Writes records for other tools: all of them as csv, parquet or mlflow, the latest of each case for the two benchmark formats."""
    from assay.bench.records.store import RunStore, read_runs
    from assay.bench.report.leaderboard import select_latest

    if run is not None and not (results / "runs" / run).is_dir():
        raise UsageError(f"--run {run}: no such folder in {results / 'runs'}; it holds the runs' folders by name")
    records = read_runs(results) if run is None else RunStore(results / "runs" / run).read()
    if not records:
        raise UsageError(f"no records in {results / 'runs' / (run or '')}; `python -m bench run` makes some")
    try:
        said = _write(to, out, metric, records, sorted(select_latest(records), key=lambda record: (record.case.case, record.run, record.sequence)))
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror or error}; choose another file") from None
    if json:
        print_json({"format": to, "out": out} | said)
    else:
        console.print(f"wrote {out}: " + ", ".join(f"{value} {what}" for what, value in said.items()), markup=False, soft_wrap=True)


def _write(to: Format, out: str, metric: str, records: list[Record], latest: list[Record]) -> dict[str, object]:
    """What was written, in words for the user."""
    from assay.bench.exchange import benchmark_action, pytest_json, tables, tracking

    if to is Format.MLFLOW:
        with errors.status("logging runs"):
            logged, known = tracking.log_records(records, out)
        return {"runs logged": logged, "were there": known}
    if to is Format.ACTION:
        written, tool = benchmark_action.write_action_json(latest, metric, Path(out))
        return {"entries": written, "(the action's tool)": tool}
    if to is Format.PYTEST:
        written, medians = pytest_json.write_pytest_json(latest, Path(out))
        return {"entries": written, "of them a median alone": medians}
    write = tables.write_csv if to is Format.CSV else tables.write_parquet
    write(records, Path(out))
    return {"records": len(records)}


IMPORT_EXAMPLES = """Examples: `python -m bench import pod.tar.gz --results results`, `python -m bench import benchmark.json`"""


@report_errors
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `run --archive FILE.tar.gz` or `pytest --benchmark-json=FILE` wrote.")],
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Takes in the records of another machine, from an archive (.tar.gz): chain and schema are checked, each run comes whole or not at all.

    Of any other file: another suite's numbers, into the leaderboard as unverified rows, shown apart, never ranked, never compared with a claim.
    """
    if file.name.endswith(SUFFIX):
        _import_archive(file, results, json=json)
        return
    from assay.bench.exchange.imports import keep_import
    from assay.bench.exchange.pytest_json import read_pytest_json

    imported = read_pytest_json(file)
    path = keep_import(imported, results)
    if json:
        print_json(imported.model_dump(mode="json") | {"kept": str(path)})
    else:
        console.print(f"{len(imported.rows)} unverified rows of {imported.tool} in {path}; `python -m bench board` shows them", markup=False, soft_wrap=True)


def _import_archive(file: Path, results: Path, *, json: bool) -> None:
    taken = take_in(file, results)
    if json:
        print_json([asdict(run) for run in taken])
    for run in [] if json else taken:
        said = f"{run.new} records taken in, {run.known} were there" if run.new else f"nothing to take in, all {run.known} records were there"
        said += f"; {run.documents} documents taken in" if run.documents else ""
        console.print(f"run {run.run}: {said}", markup=False, soft_wrap=True)
