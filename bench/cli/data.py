"""`python -m bench data ...`: what data the workloads use, where it comes from, and whether it is here unchanged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.bench.case import ExitCode, UsageError
from assay.bench.cli.display import console, errors, print_json, print_table, report_errors
from assay.bench.cli.options import Json

if TYPE_CHECKING:
    import torch

app = typer.Typer(no_args_is_help=True, help="Lists, fetches, verifies and describes the real data behind the workloads.")

Folder = Annotated[Path, typer.Option("--to", metavar="DIR", help="The data folder, as given to `run --data`.")]
Only = Annotated[str | None, typer.Option(metavar="NAME", help="One data set; `data list` shows their names.")]


@app.command("list", epilog="Example: `python -m bench data list`")
@report_errors
def list_sources(json: Json = False) -> None:
    """Shows every file, its size, its licence and how it comes here."""
    from assay.datasets.sources import load_sources

    entries = load_sources().entries
    if json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    rows = [(entry.path, entry.dataset, entry.kind, f"{size / 1e6:.1f} MB" if (size := getattr(entry, "bytes", 0)) else "", entry.licence) for entry in entries]
    kinds = "file: fetched; derived: made from other files, by `data fetch` or by hand; supplied: yours to put there"
    print_table(kinds, ("path", "data set", "kind", "size", "licence"), rows)


@app.command("fetch", epilog="Examples: `python -m bench data fetch --to data`, `python -m bench data fetch --to data --only gue`")
@report_errors
def fetch_files(
    to: Folder = Path("data"),
    only: Only = None,
    base_url: Annotated[str | None, typer.Option(metavar="URL", help="A mirror that serves the same paths below this address.")] = None,
    json: Json = False,
) -> None:
    """Downloads what can be fetched, checks each file's sha256, and keeps what is there already."""
    from assay.datasets.sources import fetch, load_sources

    wanted = [entry for entry in load_sources().fetchable if only in (None, entry.dataset)]
    if not wanted:
        raise UsageError(f"--only {only}: no data set of that name can be fetched; `python -m bench data list` shows them")
    paths = fetch(wanted, to, base_url, progress=not json)
    if json:
        print_json([str(path) for path in paths])
    else:
        console.print(f"{len(paths)} files verified in {to}; use them with: python -m bench run --preset standard --data {to}", markup=False, soft_wrap=True)


@app.command("verify", epilog="Example: `python -m bench data verify --to data`")
@report_errors
def verify_files(to: Folder = Path("data"), json: Json = False) -> None:
    """Says of every file whether it is there and unchanged. Exit code 2 when one differs or is missing."""
    from assay.datasets.sources import FileStatus, verify

    states = verify(to)
    if json:
        print_json([asdict(state) for state in states])
    else:
        print_table(str(to), ("file", "state", "what to do"), [(state.path, str(state.status), state.remedy) for state in states])
    if any(state.status is not FileStatus.OK for state in states):
        raise typer.Exit(ExitCode.WRONG_USE)


@app.command("describe", epilog="Example: `python -m bench data describe abag`")
@report_errors
def describe_dataset(name: Annotated[str, typer.Argument(metavar="NAME", help="A data set, as `data list` shows it.")], json: Json = False) -> None:
    """Licence, origin, rows and the columns that the readers expect."""
    from assay.datasets.sources import describe

    described = [entry.model_dump(mode="json", exclude_defaults=True) for entry in describe(name)]
    if json:
        print_json(described)
        return
    for entry in described:
        print_table(entry.pop("path"), ("", ""), [(key, str(value)) for key, value in entry.items()])
        console.print()


def _choose_device(name: str | None) -> torch.device:
    import torch

    try:
        chosen = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UsageError(f"--device {name}: {str(error).splitlines()[0]}; use cpu, or cuda where `nvidia-smi` shows a GPU") from None
    return chosen


@app.command(
    "splice-targets",
    epilog="Example: `python -m bench data splice-targets --variants data/splicevardb/splicevardb.download.tsv "
    "--fasta data/genome/hg38.fa --weights openspliceai-mane/10000nt --out data/splicevardb/base_deltas.csv`",
)
@report_errors
def write_splice_targets(
    variants: Annotated[Path, typer.Option(metavar="FILE", help="A VCF in hg38, or SpliceVarDB's download.")],
    fasta: Annotated[Path, typer.Option(metavar="FILE", help="hg38 as one FASTA, or the folder hg38_slices for a trial.")],
    weights: Annotated[Path, typer.Option(metavar="DIR", help="OpenSpliceAI-MANE-10000nt: the five .pt files, or safetensors.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The CSV to write; an interrupted run goes on where it stopped.")],
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Variants at a time.")] = 8,
    device: Annotated[str | None, typer.Option(metavar="D", help="cpu, cuda or cuda:1; default: a GPU if there is one.")] = None,
    json: Json = False,
) -> None:
    """Scores variants with the SpliceAI-10k ensemble on both strands and writes the deltas that the SpliceVarDB workloads learn from."""
    from platformdirs import user_cache_path
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from assay.models.splice.base import PUBLISHED_MODELS
    from assay.models.splice.base import write_splice_targets as write

    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True, disable=json or not errors.is_terminal) as bar:
        task = bar.add_task("scoring variants", total=None)

        def follow(done: int, total: int, note: str) -> None:
            bar.update(task, completed=done, total=total, description=note)

        chosen = _choose_device(device)
        try:
            report = write(variants, fasta, weights, out, batch=batch, device=chosen, cache=user_cache_path("assay"), progress=follow)
        except KeyboardInterrupt:
            errors.print("interrupted; the same command goes on where this one stopped", soft_wrap=True)
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if json:
        print_json(asdict(report) | {"out": str(out)})
        return
    earlier = f", {report.resumed:,} of them by an earlier run" if report.resumed else ""
    console.print(f"{report.rows:,} variants scored by {report.models} models{earlier}; wrote {out}", markup=False, soft_wrap=True)
    if report.models != PUBLISHED_MODELS:
        console.print(f"note: the documented deltas are the mean of {PUBLISHED_MODELS} models", markup=False)
    for reason, count in report.skipped.items():
        console.print(f"left out: {count:,} {reason}", markup=False, soft_wrap=True)
