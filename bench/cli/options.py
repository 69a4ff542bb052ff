"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.bench.cli.display import find_results

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output instead of tables.")]
Results = Annotated[
    Path, typer.Option(metavar="DIR", show_default="results", help="The results folder: runs/, baselines/ and the pages.", callback=find_results)
]
ProfileName = Annotated[str | None, typer.Option(metavar="NAME", help="Machine class, e.g. `cpu` or `a40`; found out when left out.")]
DataFolder = Annotated[Path | None, typer.Option(metavar="DIR", help="Real data, laid out as `data fetch` does. Without it, synthetic twins.")]
Emulated = Annotated[list[str] | None, typer.Option(metavar="WHAT", help="For tests: a GPU profile's cases run on the CPU; records say WHAT was pretended.")]
Select = Annotated[str, typer.Option(metavar="EXPR", help="Cases whose id matches, in the language of `pytest -k`.")]
