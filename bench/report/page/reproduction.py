"""The commands that run a record's case again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import cache

from assay.bench.case import Phase
from assay.bench.formatting.markdown import clean_text
from assay.bench.records.index import name_line
from assay.bench.records.record import Environment, Record


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
    if not _needs_data(record):
        return []
    assert record.dataset is not None  # noqa: S101  # a record without one needs no data
    return [f"# {_comment(record.dataset.name)} belongs in data/: python -m bench data list, fetch, describe"]


def _needs_data(record: Record) -> bool:
    """Whether the case read files of the data folder: not generated ones, and not those that come with the source."""
    data = record.dataset
    return data is not None and not data.synthetic and data.name.split("-")[0].casefold() in _list_folders_and_files()


@cache
def _list_folders_and_files() -> str:
    from assay.datasets.sources import load_sources  # brings a downloader along, which only pages with real data should wait for

    return " ".join(entry.path.casefold() for entry in load_sources().entries)


def _choose_engine(environment: Environment | None, line: str | None) -> Sequence[str]:
    """An image is told by what is in it: its tag is not recorded, and its digest is that of one build."""
    if environment is None or not environment.image_digest:
        return []
    return ["--engine", "docker", "--image", "triton2" if line else "cuda" if environment.cuda else "cpu"]


def _run(record: Record) -> Sequence[str]:
    case, key = record.case, record.comparability
    select = case.case.id
    if case.phase is Phase.EVAL:  # trained weights come from the same run
        select = f"{case.case.id.replace('/eval/', '/train/')} or {select}"
    command = [".venv/bin/python", "-m", "bench", "run", "--profile", record.profile, "--preset", case.preset, "--division", case.division]
    command += _choose_engine(record.environment, name_line(record))
    if _needs_data(record):
        command += ["--data", "data"]
    if key is not None:
        command += ["--seed", str(key.seed), "--jobs", str(key.parallel)]
    command += [word for what in record.emulated for word in ("--emulated", what)]
    return [clean_text(word, 300) for word in (*command, "--select", select)]


def _comment(text: str) -> str:
    return clean_text(text, 100)  # on one line, nothing of it is a command
