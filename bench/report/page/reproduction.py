"""The commands that run a record's case again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from bench.case import Phase
from bench.record import Record
from bench.report.markdown import clean_text


def write_commands(record: Record) -> Sequence[str]:
    """Lines for a shell, in a checkout of the project, safe to paste whatever the record holds; comments say what no command brings back."""
    return [*_restore(record), *_fetch(record), shlex.join(_run(record))]


def _restore(record: Record) -> Sequence[str]:
    environment = record.environment
    if environment is None or not re.fullmatch(r"[0-9a-f]{7,64}", environment.git_sha or ""):
        return ["# the commit is not recorded"]
    lines = [f"git checkout {environment.git_sha}"]
    if environment.git_dirty_sha256:
        lines.append("# the working tree had changes that no commit holds: the source may differ")
    if environment.image_digest:
        lines.append(f"# in the image {_comment(environment.image_digest)}")
    return [*lines, "make .venv/ready"]


def _fetch(record: Record) -> Sequence[str]:
    if record.dataset is None or record.dataset.synthetic:
        return []
    return [f"# {_comment(record.dataset.name)} belongs in data/: python -m bench data list, fetch, describe"]


def _run(record: Record) -> Sequence[str]:
    case, key = record.case, record.comparability
    select = case.case.id
    if case.phase is Phase.EVAL:  # trained weights come from the same run
        select = f"{case.case.id.replace('/eval/', '/train/')} or {select}"
    command = [".venv/bin/python", "-m", "bench", "run", "--profile", record.profile, "--preset", case.preset, "--division", case.division]
    if record.dataset is not None and not record.dataset.synthetic:
        command += ["--data", "data"]
    if key is not None:
        command += ["--seed", str(key.seed), "--jobs", str(key.parallel)]
    return [clean_text(word, 300) for word in (*command, "--select", select)]


def _comment(text: str) -> str:
    return clean_text(text, 100)  # on one line, nothing of it is a command
