"""`python -m assay.bench.gate.comment VERDICT.json ...`: one pull-request comment from the verdicts of one or more runners.

For workflows that post for pull requests from forks: the files are strangers' and are validated and escaped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from assay.bench.case import ExitCode, UsageError
from assay.bench.gate.render import MARKER, MAX_COMMENT, to_markdown
from assay.bench.gate.verdict import read_report

SILENT = """### Assay gate: no verdict

A run for this commit ended before the gate could judge: wrong use (an unknown ref, no such case), an environment that could not be built,
or a time-out. The log of the workflow says which.
"""


def join_reports(files: Sequence[Path], conclusion: str = "") -> str:
    """One comment. A file that is no verdict becomes a line that says so, so that one runner's fault does not hide another's verdict.

    conclusion: of the run as a whole, as GitHub names it. A run that failed although every verdict is good had a runner that left none:
    the gate was used wrongly there, or did not get that far.
    """
    parts = []
    codes = []
    for file in files:
        try:
            report = read_report(file)
            codes.append(report.exit_code)
            parts.append(to_markdown(report, (MAX_COMMENT - len(SILENT)) // len(files)).removeprefix(f"{MARKER}\n"))
        except UsageError:
            codes.append(ExitCode.WRONG_USE)
            parts.append("### Assay gate: a runner left a file that is no verdict\n")
    if not files or (conclusion not in ("", "success") and not any(codes)):
        parts.insert(0, SILENT)
    return "\n".join([MARKER, *parts])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m assay.bench.gate.comment", description="One pull-request comment from verdict JSON, on standard output.")
    parser.add_argument("files", nargs="*", type=Path, metavar="VERDICT.json", help="as `python -m bench gate --report FILE` writes it; none: says so")
    parser.add_argument("--conclusion", default="", help="of the workflow run, as GitHub names it: `failure` beside good verdicts means that one is missing")
    options = parser.parse_args(arguments)
    files: list[Path] = options.files
    missing = [file for file in files if not file.is_file()]
    if missing:
        sys.stderr.write(f"error: {missing[0]}: no such file; give what `python -m bench gate --report FILE` wrote\n")
        sys.exit(ExitCode.WRONG_USE)
    sys.stdout.write(join_reports(files, options.conclusion) + "\n")


if __name__ == "__main__":
    main()
