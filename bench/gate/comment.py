"""`python -m bench.gate.comment VERDICT.json ...`: one pull-request comment from the verdicts of one or more runners.

For workflows that post for pull requests from forks: the files are strangers' and are validated and escaped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.case import ExitCode, UsageError
from bench.gate.render import MARKER, MAX_COMMENT, to_markdown
from bench.gate.verdict import read_report


def join_reports(files: Sequence[Path]) -> str:
    """One comment. A file that is no verdict becomes a line that says so, so that one runner's fault does not hide another's verdict."""
    parts = []
    for file in files:
        try:
            parts.append(to_markdown(read_report(file), MAX_COMMENT // len(files)).removeprefix(f"{MARKER}\n"))
        except UsageError:
            parts.append("### Assay gate: a runner left a file that is no verdict\n")
    return "\n".join([MARKER, *parts])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.gate.comment", description="One pull-request comment from verdict JSON, on standard output.")
    parser.add_argument("files", nargs="+", type=Path, metavar="VERDICT.json", help="as `python -m bench gate --report FILE` writes it")
    files: list[Path] = parser.parse_args(arguments).files
    missing = [file for file in files if not file.is_file()]
    if missing:
        sys.stderr.write(f"error: {missing[0]}: no such file; give what `python -m bench gate --report FILE` wrote\n")
        sys.exit(ExitCode.WRONG_USE)
    sys.stdout.write(join_reports(files) + "\n")


if __name__ == "__main__":
    main()
