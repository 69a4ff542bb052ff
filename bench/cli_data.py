"""`python -m bench data ...`: what data the workloads use, where it comes from, and whether it is here unchanged."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.case import ExitCode
from bench.display import console, errors, print_json, print_table
from datasets.card import DataError

app = typer.Typer(no_args_is_help=True, help="Lists, fetches, verifies and describes the real data behind the workloads.")

Folder = Annotated[Path, typer.Option("--to", "--data", metavar="DIR", help="The data folder.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output instead of tables.")]
