"""`python -m bench gate ...`: is the candidate slower, larger or worse than the reference, and what could not be seen."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.bench.case import ExitCode, Preset, UsageError
from assay.bench.checkout import CHECKOUT, RESULTS
from assay.bench.cli.display import console, errors, format_quantity, print_json, print_table, report_errors
from assay.bench.cli.interruption import heed_termination
from assay.bench.cli.options import Json
from assay.datasets.card import DataError

if TYPE_CHECKING:
    from assay.bench.gate.session import Options
    from assay.bench.gate.verdict import GateReport

PINNED = "pinned"
REPOSITORY = CHECKOUT or Path()  # whose refs are meant, and "this folder"
ROUND_SECONDS = 0.2
SMOKE_WARM_UP, WARM_UP = 3.0, 20.0  # s, at most

app = typer.Typer(
    invoke_without_command=True,
    epilog="Examples: `python -m bench gate --reference main --select 'affinity and train'`, `python -m bench gate accept --reason ...`",
)

Results = Annotated[Path, typer.Option(metavar="DIR", show_default="results", help="The results folder; the gate's history is in its gate/.")]


@contextmanager
def own_crashes() -> Iterator[None]:
    """An error in the gate is not a verdict: python's own exit code for it is 1, which here means `regressed`."""
    try:
        yield
    except (UsageError, DataError, typer.Exit):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not end as a verdict
        traceback.print_exc()
        what = f"the gate itself failed ({type(error).__name__}: {error}); this says nothing about the candidate. Please report it"
        errors.print(what, style="red", markup=False, soft_wrap=True)
        raise typer.Exit(ExitCode.INTERNAL_ERROR) from None


@app.callback()
@report_errors
def gate(
    context: typer.Context,
    reference: Annotated[str, typer.Option(metavar="REF", help="A git ref, a folder, an image digest, or `pinned`: the accepted reference.")] = PINNED,
    candidate: Annotated[str, typer.Option(metavar="REF", help="A git ref, a folder or an image digest.", show_default="this folder")] = str(REPOSITORY),
    select: Annotated[str, typer.Option(metavar="EXPR", help="Cases whose id matches, in the language of `pytest -k`.", show_default="all")] = "",
    preset: Preset = Preset.SMOKE,
    profile: Annotated[str | None, typer.Option(metavar="NAME", help="Machine class.", show_default="found out")] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Real data.", show_default="synthetic twins")] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Start nothing more after that; what is undecided then is inconclusive.", show_default="no limit")
    ] = None,
    rounds: Annotated[int, typer.Option(metavar="N", min=3, help="Rounds of 0.2 s that each side of a launch pair takes.")] = 8,
    seeds: Annotated[int, typer.Option(metavar="N", min=0, help="Trainings that decide about a quality that looks worse, 7 or more; 0: no quality.")] = 10,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the models, and of the coin that decides who goes first.")] = 42,
    silence: Annotated[float, typer.Option(metavar="S", min=10, help="Seconds without a sign of life after which a worker counts as hung.")] = 120,
    across_environments: Annotated[bool, typer.Option("--across-environments", help="Compare although the packages differ.")] = False,
    own_harness: Annotated[bool, typer.Option("--own-harness", help="Run the candidate by its own bench/, not by the reference's. Trusts it.")] = False,
    allow_inconclusive: Annotated[bool, typer.Option("--allow-inconclusive", help="Exit 0 although something could not be judged.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a comment for a pull request.")] = None,
    annotations: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write annotations for GitHub Actions.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the verdict JSON.")] = None,
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Compares two versions side by side on this machine: speed, memory, quality. Red for a real regression, and only then.

    Both sides are launched ten times and alternate their rounds in random order. What looks slower is measured again, 20 times afresh.
    """
    if context.invoked_subcommand is not None:
        return
    from assay.bench.gate.history import History
    from assay.bench.gate.session import Options
    from assay.bench.measure.detection import choose_profile

    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; `python -m bench data fetch --to {data}` fills one")
    results.mkdir(parents=True, exist_ok=True)
    history = History(results / "gate")
    chosen = choose_profile(profile)
    options = Options(
        profile=chosen, select=select, preset=preset, budget_minutes=budget, seeds=seeds, allow_inconclusive=allow_inconclusive, results=results
    )
    history.read()  # a damaged one is refused before anything is measured
    names = history.pinned().source if reference == PINNED else reference, candidate
    with own_crashes():
        trust = {"own_harness": own_harness, "across_environments": across_environments}
        found = _compare(names, options, data=data, seed=seed, rounds=rounds, silence=silence, quiet=json, **trust)
        if json:
            sys.stdout.write(found.model_dump_json(indent=1) + "\n")
            sys.stdout.flush()  # whatever happens to the files below, the verdict is out
        else:
            print_report(found)
        _write(found, junit=junit, markdown=markdown, annotations=annotations, report=report)
        if history.append(found) and not json:
            console.print("stored in the history: python -m bench gate history", soft_wrap=True)
    raise typer.Exit(found.exit_code)


def _compare(
    names: tuple[str, str],
    options: Options,
    *,
    data: Path | None,
    seed: int,
    rounds: int,
    silence: float,
    own_harness: bool,
    across_environments: bool,
    quiet: bool,
) -> GateReport:
    from assay.bench.cli.gate_progress import GateDisplay
    from assay.bench.gate.harness import open_sides
    from assay.bench.gate.pair import A, B, PairPlan
    from assay.bench.gate.session import GateSession

    with ExitStack() as stack:
        stack.enter_context(heed_termination("interrupted; nothing was judged and nothing was stored"))
        display = stack.enter_context(GateDisplay(quiet=quiet))
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="assay-gate-logs-")))
        gpu = options.profile.device == "cuda"
        sides = stack.enter_context(open_sides(*names, REPOSITORY, gpu=gpu, own_harness=own_harness, own_environments=across_environments))
        sources = sides.sources
        if sources[A].side.identity == sources[B].side.identity:
            errors.print(f"both sides are {sources[A].side.identity}: every difference will be chance", markup=False, soft_wrap=True)
        plan = PairPlan(
            sources=sources,
            profile=options.profile,
            data=data,
            seed=seed,
            logs=logs,
            rounds=rounds,
            round_seconds=ROUND_SECONDS,
            warm_up_seconds=SMOKE_WARM_UP if options.preset is Preset.SMOKE else WARM_UP,
            silence=silence,
            across_environments=across_environments,
            borrowed=sides.borrowed,
            report=display.note,
        )
        found = GateSession(options, plan, display).run()
        return found.model_copy(update={"notes": (*found.notes, *sides.notes)})


def _write(found: GateReport, **files: Path | None) -> None:
    from assay.bench.gate import render

    writers: dict[str, Callable[[GateReport], str]] = {
        "junit": render.to_junit,
        "markdown": render.to_markdown,
        "annotations": render.to_annotations,
        "report": lambda report: report.model_dump_json(indent=1) + "\n",
    }
    for kind, path in files.items():
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(writers[kind](found), encoding="utf-8")
            except OSError as error:
                raise UsageError(f"--{kind} {path} cannot be written: {error.strerror}") from None


def print_report(found: GateReport) -> None:
    """Findings, worst first, and what the session compared; fits 80 columns."""
    from assay.bench.gate.verdict import GateVerdict

    order = list(GateVerdict)
    for name, side in (("reference", found.reference), ("candidate", found.candidate)):
        console.print(f"{name} {side.name}" + (f" ({side.identity})" if side.identity != side.name else ""), markup=False, soft_wrap=True)
    for fault in found.faults:
        console.print(f"machine not fit: {fault}", markup=False, soft_wrap=True)
    for note in found.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    settled = (GateVerdict.EQUIVALENT, GateVerdict.IMPROVED)
    findings = sorted(found.findings, key=lambda f: (f.verdict in settled, order.index(f.verdict)))
    rows = [(str(f.verdict), f.case_id, str(f.kind), f.reason) for f in findings]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in found.count().items()) or "nothing was compared"
    print_table(counts, ("verdict", "case", "what", "why"), rows)


@app.command(epilog="Example: `python -m bench gate accept --candidate v1.2 --reason 'release 1.2'`")
@report_errors
def accept(
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why the reference moves; kept for good.")],
    candidate: Annotated[str | None, typer.Option(metavar="REF", help="What becomes the reference.", show_default="the candidate judged last")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what the gate called regressed, or never judged.")] = False,
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Moves the pinned reference, on purpose. Only a commit or an image digest can be pinned."""
    from assay.bench.gate.history import History
    from assay.bench.gate.reference import identify_pinnable

    identity = None if candidate is None else identify_pinnable(candidate, REPOSITORY)
    entry = History(results / "gate").accept(identity, reason, name=candidate, force=force)
    if json:
        print_json(entry.model_dump(mode="json"))
    else:
        console.print(f"the reference is now {entry.identity}: {entry.reason}", markup=False, soft_wrap=True)


@app.command(epilog="Examples: `python -m bench gate history`, `python -m bench gate history --plot history.svg`")
@report_errors
def history(
    select: Annotated[str, typer.Option(metavar="EXPR", help="Cases whose id matches, in the language of `pytest -k`.", show_default="all")] = "",
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the plot as .png or .svg instead.", show_default="drawn here")] = None,
    results: Results = RESULTS,
    json: Json = False,
) -> None:
    """Plots each case's time relative to the first reference, and marks where it may have changed. Marks are advice, not verdicts."""
    from assay.bench.gate.history import History
    from assay.bench.gate.trend import draw_trends, find_trends, plot_trends

    trends = find_trends(History(results / "gate").read(), select)
    if json:
        print_json([trend.model_dump(mode="json") for trend in trends])
        return
    if not trends:
        raise UsageError(f"{results / 'gate'} has no history of such a case yet; it begins with `python -m bench gate` against a pinned reference")
    if plot is not None:
        plot_trends(trends, plot)
        console.print(f"wrote {plot}", markup=False, soft_wrap=True)
    else:
        draw_trends(trends, sys.stdout.write, width=min(console.width, 100))
    for trend in trends:
        for change in trend.changes:
            since = f"since {change.at:%Y-%m-%d} ({change.candidate[:12]}), p = {change.p_value:.3g}"
            console.print(f"{trend.case_id} on {trend.machine}: {format_quantity(change.ratio)} {since}", markup=False, soft_wrap=True)
