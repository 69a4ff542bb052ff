"""Follows docs/adding-a-*.md step by step in a copy of the project: what the blocks hold is written and run as it stands there."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

from assay.bench.records.store import read_runs
from tests.conftest import ROOT


class Block(NamedTuple):
    """A fenced block of a step: its language, the exit code that it promises, its text, and the file that the step names before it."""

    language: str
    code: int
    text: str
    prose: str


def blocks_of(page: str) -> list[Block]:
    """Every block of a page's numbered steps, in order."""
    text = (ROOT / "docs" / page).read_text()
    steps = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    fence = re.compile(r"^   ```(\w+)(?: exit=(\d))?\n(.*?)^   ```$", re.MULTILINE | re.DOTALL)
    return [Block(m[1], int(m[2] or 0), textwrap.dedent(m[3]), step[: m.start()]) for step in steps for m in fence.finditer(step)]


def follow(block: Block, project: Path) -> list[str]:
    """Does what the block says; returns what its commands printed."""
    if block.language != "sh":
        path = project / re.findall(r"`([\w./]+/[\w.]+\.(?:py|toml))`", block.prose)[0]
        path.parent.mkdir(exist_ok=True)
        with path.open("a" if block.prose.startswith("Append") else "x") as file:
            file.write("\n" + block.text)
        return []
    said = []
    for line in block.text.splitlines():
        command = line.replace("python", sys.executable, 1)
        done = subprocess.run(["bash", "-c", command], cwd=project, capture_output=True, text=True, timeout=240)
        assert done.returncode == block.code, f"{line}\n{done.stdout}{done.stderr}"
        said.append(done.stdout)
    return said


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    return shutil.copytree(project, tmp_path / "project", symlinks=True, ignore=shutil.ignore_patterns("runs", "__pycache__", ".index.json"))


def test_a_workload(copy: Path) -> None:
    reader, family, checked, ran = blocks_of("adding-a-workload.md")
    for block in (reader, family):
        follow(block, copy)
    assert "all well" in follow(checked, copy)[0]
    follow(ran, copy)
    train, evaluation = read_runs(copy / "results")
    assert (train.outcome, evaluation.outcome) == ("ok", "ok")
    assert train.dataset is not None
    assert train.synthetic
    # the twin's notes promise that nothing gets below its noise of 0.1 m
    assert 0.09 < (train.quality["rmse"].value or 0) < 0.12
    assert "* tides: water level by two tidal constituents." in (copy / "results" / "LEADERBOARD.md").read_text()
    # the reader's own refusals
    table = copy / "mine" / "tides" / "levels.csv"
    table.parent.mkdir(parents=True)
    table.write_text("hour,level_m\n0,0.1\n1,\n")
    read = "from pathlib import Path; from assay.datasets.tides import read_tides; read_tides(Path('mine'))"
    done = subprocess.run([sys.executable, "-c", read], cwd=copy, capture_output=True, text=True)
    assert "DataError: mine/tides/levels.csv, row 3: holds a value that is not a finite number. Correct or leave out the row." in done.stderr


def test_a_profile(copy: Path) -> None:
    profile, checked, doctored = blocks_of("adding-a-profile.md")
    follow(profile, copy)
    assert "all well" in follow(checked, copy)[0]
    (said,) = follow(doctored, copy)
    assert "profile l40s: NVIDIA L40S 48 GB" in said
    assert "REFUSED" in said
    assert "Wanted:" in said


def test_a_claim(copy: Path) -> None:
    claim, checked, judged = blocks_of("adding-a-claim.md")
    follow(claim, copy)
    assert "all well" in follow(checked, copy)[0]
    _, said = follow(judged, copy)
    assert "reproduced example-affinity-v1-parameters 72,449 72,449" in " ".join(said.split())


def test_where_to_change_what_names_files_that_are_there() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().split("## Where to change what")[1].split("\n## ")[0]
    files = re.findall(r"^\| .+ \| `(.+)` \|$", section, re.MULTILINE)
    assert len(files) >= 10
    assert [name for name in files if not (ROOT / name).is_file()] == []
