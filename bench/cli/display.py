"""What a user sees in a terminal: the progress of a run, tables, and figures with sensible digits."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from assay.bench.case import Case, ClaimVerdict, ExitCode, Outcome, Quantity, UsageError
from assay.bench.checkout import RESULTS, spell_commands
from assay.bench.claims.judgement import Judgement
from assay.bench.formatting.markdown import clean_text
from assay.bench.formatting.numbers import format_documented, format_duration, format_interval, format_number
from assay.bench.records.record import Record
from assay.bench.registry import get_workload
from assay.bench.report.side_by_side import compare_speed
from assay.datasets.card import DataError

if TYPE_CHECKING:
    from assay.bench.measure.fitness import Finding

COLOURS = {Outcome.OK: "green", Outcome.SKIPPED: "yellow", Outcome.UNSUPPORTED: "yellow", Outcome.INVALID: "magenta", Outcome.INTERRUPTED: "yellow"}
REASON_LENGTH = 2000  # a remedy is told in full, a stranger's exception of any length is not

P = ParamSpec("P")


class _Terminal(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(spell_commands(each) if isinstance(each, str) else each for each in objects), **options)


console = _Terminal(highlight=False)
errors = _Terminal(stderr=True, highlight=False)

SUITE = "'assay-suite[suite]'"
EXTRAS = {"altair": "altair", "docker": "docker", "plotext": "plotext", "vl_convert": "vl-convert-python"} | dict.fromkeys(
    ("h5py", "pandas", "pooch", "pyarrow", "pyfaidx", "safetensors", "scipy", "sklearn", "torch", "tqdm", "transformers"), SUITE
)
"""What is not installed everywhere: by the name under which a package is imported, what brings it."""


def report_errors(command: Callable[P, None]) -> Callable[P, None]:
    """Turns wrong use and unusable input into one line on standard error and exit code 2."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except (UsageError, DataError) as error:
            errors.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(ExitCode.WRONG_USE) from None
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in EXTRAS:
                raise
            remedy = f"pip install {EXTRAS[package]}"
            errors.print(f"error: this needs {package}, which is not installed here: {remedy}", style="red", markup=False, soft_wrap=True)
            raise typer.Exit(ExitCode.WRONG_USE) from None

    return run


def find_results(folder: Path) -> Path:
    """The folder given with --results, which must be there: a mistyped one would otherwise look like one without any record."""
    if not folder.is_dir() and folder != RESULTS:
        raise typer.BadParameter(spell_commands(f"{folder}: no such folder; correct it, or make one with `python -m bench run --out {folder}`"))
    return folder


def print_json(value: object) -> None:
    """The one JSON document of a command, on standard output."""
    json.dump(value, sys.stdout, indent=1, default=_to_json, allow_nan=False)
    sys.stdout.write("\n")


def _to_json(value: object) -> object:
    if isinstance(value, Quantity):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of plain text; cells are escaped, long ones fold."""
    console.print(title, style="italic", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(clean_text(cell, 500)) for cell in row))
    console.print(table)


def format_quantity(quantity: Quantity) -> str:
    """Value with its 95 % interval to four significant digits, or the reason for its absence."""
    if quantity.value is None:
        return f"none: {quantity.reason}"
    interval = "" if quantity.low is None or quantity.high is None else f" [{quantity.low:.4g}, {quantity.high:.4g}]"
    return f"{quantity.value:.4g}{interval} {quantity.unit}".rstrip()


def summarise(record: Record) -> str:
    """One line for a case that ended in order, a second one with the reason for any other."""
    line = f"[{COLOURS.get(record.outcome, 'red')}]{record.outcome:<11}[/] {escape(record.case.case.id)}"
    return line if record.reason is None else f"{line}\n            {escape(clean_text(record.reason, REASON_LENGTH))}"


def print_results(records: Sequence[Record]) -> None:
    """Speed and target metric of each case, one table for each workload and data set; narrow enough for 80 columns."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    for record in records:
        case, data = record.case, record.dataset
        metric = get_workload(case.workload).target.metric
        speed = record.measurements.get("samples_per_s")
        name = "no data" if data is None else data.name + (" (synthetic twin)" if data.synthetic else "")
        quality = format_interval(record.quality[metric]) if metric in record.quality else ""
        samples_per_s = format_number(speed.value) if speed and speed.value else ""
        row = (case.variant, str(case.phase), f"{case.division} {case.precision}", samples_per_s, quality, str(record.outcome))
        tables.setdefault(f"{case.workload} on {name}; quality is {metric} [95 % interval]", []).append(row)
    for title, rows in tables.items():
        print_table(f"\n{title}", ("variant", "phase", "division", "samples/s", "quality", "outcome"), rows)


def print_side_by_side(taken: Mapping[str, Sequence[Record]]) -> None:
    """The same cases from several images: the speed of each, and its ratio to the first, or why there is none."""
    first, *others = taken
    for other in others:
        rows = []
        for one, two in zip(taken[first], taken[other], strict=True):
            ratio = compare_speed(one, two)
            speeds = (_format_speed(one), _format_speed(two), format_interval(ratio) if ratio.value is not None else ratio.reason or "")
            rows.append((f"{one.case.workload}/{one.case.variant}/{one.case.phase}/{one.case.division}/{one.case.precision}", *speeds))
        print_table(f"\n{other} beside {first}: samples/s, and their ratio [95 % intervals' far ends]", ("case", first, other, "ratio"), rows)


def _format_speed(record: Record) -> str:
    speed = record.measurements.get("samples_per_s")
    return format_number(speed.value) if speed and speed.value else str(record.outcome)


def print_refusals(where: str, refusals: Sequence[Finding]) -> None:
    """Why a machine is not fit to measure on, and what to do: on standard error, like every other refusal."""
    errors.print(f"{where}: not fit to measure on", style="red", markup=False, soft_wrap=True)
    for finding in refusals:
        errors.print(f"{finding.name}: {finding.message} Wanted: {finding.wanted}. {finding.remedy}", markup=False, soft_wrap=True)


def print_judgements(judgements: Sequence[Judgement], *, reasons: bool) -> None:
    """Claims with a verdict as a table, the others as counts, or one by one with their reasons."""
    open_verdicts = (ClaimVerdict.NOT_COMPARABLE, ClaimVerdict.NOT_RUN)
    decided = [j for j in judgements if j.verdict not in open_verdicts]
    rows = [(str(j.verdict), j.claim.id, format_documented(j.claim.value), format_interval(j.measured) if j.measured else "") for j in decided]
    print_table(f"{len(decided)} of {len(judgements)} documented claims have a verdict", ("verdict", "claim", "documented", "measured"), rows)
    for verdict in open_verdicts:
        others = [j for j in judgements if j.verdict is verdict]
        if not others:
            continue
        console.print(f"\n{len(others)} {verdict}" + (":" if reasons else ""))
        for judgement in others if reasons else ():
            console.print(f"  {judgement.claim.id}: {clean_text(judgement.reason, 500)}", markup=False, soft_wrap=True)
    if not reasons and len(decided) < len(judgements):
        console.print("why: python -m bench claims --reasons, or results/CLAIMS.md")


class _TimeLeft(ProgressColumn):
    """What is left of a run's budget, beside the bar over all cases."""

    def __init__(self, left: Callable[[], float]) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:
        return Text(f"of the budget {format_duration(max(self._left(), 0.0))}" if task.description == "cases" else "")


class RunDisplay:
    """Progress bar over the cases of a run, one more for each case under way, one line per finished case. Quiet prints nothing (for --json)."""

    def __init__(self, total: int, *, quiet: bool, left: Callable[[], float] | None = None) -> None:
        """left: gives the seconds of the run's budget that are left, for a run that has one."""
        self._quiet = quiet
        columns = [TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), *([] if left is None else [_TimeLeft(left)])]
        self._progress = Progress(*columns, console=errors, transient=True, disable=quiet)
        self._all = self._progress.add_task("cases", total=total)
        self._under_way: dict[Case, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def start(self, case: Case) -> None:
        self._under_way[case] = self._progress.add_task(escape(f"{case.workload}/{case.variant}/{case.phase}"), total=None)

    def advance(self, case: Case, done: int, total: int, note: str) -> None:
        description = escape(f"{case.workload}/{case.variant}/{case.phase}: {note}")
        self._progress.update(self._under_way[case], completed=done, total=total or None, description=description)

    def finish(self, record: Record) -> None:
        self._progress.remove_task(self._under_way.pop(record.case.case))
        self._progress.advance(self._all)
        self._print(summarise(record))

    def skip(self, case: Case) -> None:
        self._progress.advance(self._all)
        self._print(f"[dim]recorded    {escape(case.id)}[/]")

    def _print(self, line: str) -> None:
        if not self._quiet:
            self._progress.console.print(line, soft_wrap=True)


def note_missing_page() -> None:
    """One line where the HTML page cannot be made here."""
    from assay.bench.report import explain_missing_page

    if missing := explain_missing_page():
        errors.print(missing, markup=False, soft_wrap=True)
