"""Git refs, folders and real workers: what a side is, and one comparison with real launches from end to end."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from assay.bench.case import UsageError
from assay.bench.gate.reference import open_source, resolve_commit
from assay.bench.gate.verdict import GateReport, GateVerdict
from tests.conftest import ROOT

pytestmark = pytest.mark.usefixtures("checkout")

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "bench").mkdir(parents=True)
    (folder / "bench" / "__init__.py").write_text("")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=one")
    return folder


def test_a_git_ref_gets_a_worktree_that_is_removed(repository) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    with open_source("main", repository, gpu=False) as source:
        assert source.side.identity == commit
        (line,) = [line for line in git(repository, "worktree", "list").splitlines() if "assay-gate-" in line]
        worktree = Path(line.split()[0])
        assert (worktree / "bench" / "__init__.py").exists()
    assert not worktree.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_folder_is_known_by_commit_change_or_content(repository, tmp_path) -> None:
    def identify(folder):
        with open_source(str(folder), repository, gpu=False) as source:
            return source.side.identity

    commit = git(repository, "rev-parse", "HEAD")
    assert identify(repository) == commit
    (repository / "bench" / "new.py").write_text("x = 1\n")
    changed = identify(repository)
    assert changed.startswith(f"{commit}+dirty:")
    copies = [shutil.copytree(repository, tmp_path / name, ignore=shutil.ignore_patterns(".git")) for name in ("a", "b")]
    assert identify(copies[0]) == identify(copies[1])
    assert identify(copies[0]).startswith("files:")
    (copies[1] / "bench" / "new.py").write_text("x = 2\n")
    assert identify(copies[0]) != identify(copies[1])


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_this_folder(repository, name, monkeypatch) -> None:
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match="a side has an empty name"), open_source(name, repository, gpu=False):
        pass


def test_a_name_that_is_a_folder_and_a_branch_is_asked_for_again(repository, monkeypatch) -> None:
    shutil.copytree(repository, repository / "main", ignore=shutil.ignore_patterns(".git", "main"))
    monkeypatch.chdir(repository)
    with pytest.raises(UsageError, match=r"'main' is a folder and a git ref: write \./main for the folder"), open_source("main", repository, gpu=False):
        pass
    for clear in ("./main", str(repository / "main")):
        with open_source(clear, repository, gpu=False) as source:
            assert source.side.identity.startswith("files:")


@pytest.mark.parametrize("revision", [None, "a" * 40], ids=["bare", "in an image"])
def test_a_plain_folder_needs_no_git(repository, tmp_path, monkeypatch, revision) -> None:
    if revision:
        monkeypatch.setenv("ASSAY_REVISION", revision)
    copy = shutil.copytree(repository, tmp_path / "copy", ignore=shutil.ignore_patterns(".git"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    for name in (str(copy), "copy"):
        with open_source(name, repository, gpu=False) as source:
            assert source.side.identity.startswith("files:")


@pytest.mark.parametrize("name", ["no-such-branch", "--all", ""])
def test_what_names_no_side(repository, name) -> None:
    with pytest.raises(UsageError, match="no commit of"):
        resolve_commit(name, repository)


@pytest.mark.parametrize(("package", "reason"), [(False, "has no package assay: it is older than this gate"), (True, "is it older than the gate?")])
def test_a_checkout_older_than_the_gate_is_not_compared(repository, tmp_path, package, reason) -> None:
    if package:
        (repository / "assay").mkdir()
    done = gate(tmp_path, "--reference", str(repository), "--candidate", str(ROOT), "--select", "affinity-v2 and documented and train and closed")
    report = GateReport.model_validate_json(done.stdout)
    assert done.returncode == 3, done.stderr
    assert [finding.verdict for finding in report.findings] == [GateVerdict.NOT_COMPARABLE]
    assert reason in report.findings[0].reason


def gate(results: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "gate", "--profile", "cpu", "--results", str(results), "--json", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_one_real_pair_from_end_to_end(tmp_path) -> None:
    """The budget ends after the first launch pair: too little for a verdict, enough for every message between real workers."""
    case = "affinity-v2/documented/train/smoke/closed/fp32"
    select = "affinity-v2 and documented and train and closed and fp32"
    done = gate(
        tmp_path, "--reference", str(ROOT), "--candidate", str(ROOT), "--select", select, "--budget", "0.02", "--rounds", "3",
        "--markdown", str(tmp_path / "comment.md"), "--junit", str(tmp_path / "junit.xml"),
    )
    report = GateReport.model_validate_json(done.stdout)
    assert done.returncode == 3, done.stderr
    speed = report.findings[0]
    assert (speed.case_id, speed.verdict, len(speed.screen)) == (case, GateVerdict.INCONCLUSIVE, 1)
    assert abs(speed.screen[0]) < 1
    assert report.reference.identity == report.candidate.identity
    assert case in (tmp_path / "comment.md").read_text()
    assert case in (tmp_path / "junit.xml").read_text()
