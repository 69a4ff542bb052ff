"""The script of the throw-away engine where none runs: what it says of machines that are not fit, and what it leaves when a daemon does not come up."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.docker.conftest as fixtures
from tests.docker.conftest import SCRIPT, skip

ENGINE = SCRIPT.parent
FAILING_START = """
import engine, pathlib, sys
engine.START_SECONDS = 0.5
try:
    engine.Engine(pathlib.Path(sys.argv[1]))._spawn()
except engine.EngineError as error:
    print(error)
"""
AS_ANYBODY = "import engine, os, sys; os.geteuid = lambda: 1000; sys.exit(engine.main())"


def make_daemon(folder: Path, script: str) -> Path:
    """A dockerd that does no more than this shell script says, run by a shell of the folder's own."""
    programs = folder / "tools" / "usr" / "sbin"
    programs.mkdir(parents=True)
    (folder / "tools" / "usr" / "bin").mkdir()
    shutil.copy("/bin/sh", programs / "shell")
    (programs / "dockerd").write_text(f"#!{programs / 'shell'}\n{script}\n")
    (programs / "dockerd").chmod(0o755)
    return programs / "shell"


def find_running(program: Path) -> list[str]:
    found = []
    for link in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):  # a process of the kernel's or of another user, or one that has just ended
            found += [str(link)] if str(link.readlink()) == str(program.resolve()) else []
    return found


@pytest.mark.parametrize(("script", "last_words"), [("echo came up; while :; do read line < /dev/zero; done", "came up"), ("echo no overlay; exit 1", "no overlay")])
def test_a_daemon_that_does_not_come_up_is_ended(tmp_path, script, last_words):
    shell = make_daemon(tmp_path, script)
    done = subprocess.run([sys.executable, "-c", FAILING_START, tmp_path], cwd=ENGINE, capture_output=True, text=True)
    assert done.stdout == f"dockerd does not answer; the end of {tmp_path / 'dockerd.log'}:\n{last_words}\n", done.stderr
    assert find_running(shell) == []


def test_a_stale_pidfile_harms_no_other_program(tmp_path):
    make_daemon(tmp_path, "exit 0")
    with subprocess.Popen(["sleep", "60"]) as other:
        (tmp_path / "dockerd.pid").write_text(f"{other.pid}\n")
        done = subprocess.run([sys.executable, SCRIPT, "--dir", tmp_path, "stop"], capture_output=True, text=True)
        assert (done.returncode, done.stderr, other.poll()) == (0, "", None)
        other.kill()
    assert not tmp_path.exists()


@pytest.mark.parametrize("command", ["start", "fit"])
def test_a_machine_that_is_not_fit_has_an_exit_code_of_its_own(tmp_path, command):
    done = subprocess.run([sys.executable, "-c", AS_ANYBODY, "--dir", tmp_path, command], cwd=ENGINE, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stderr == "engine.py: a Docker engine needs root with CAP_SYS_ADMIN: run this as root, or use an engine that is there\n"
    assert list(tmp_path.iterdir()) == []


def answer(monkeypatch, code, stderr):
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: subprocess.CompletedProcess(command, code, "", stderr))


def test_only_a_machine_that_is_not_fit_is_a_skip_and_where_an_engine_is_required_not_even_that(monkeypatch, tmp_path):
    monkeypatch.delenv("ASSAY_ENGINE", raising=False)
    answer(monkeypatch, 3, "engine.py: needs root")
    with pytest.raises(pytest.skip.Exception, match=r"no Docker engine can run here: engine\.py: needs root"):
        fixtures.ask(tmp_path, "start")
    answer(monkeypatch, 2, "engine.py: dockerd does not answer")
    with pytest.raises(AssertionError, match="dockerd does not answer"):
        fixtures.ask(tmp_path, "start")
    monkeypatch.setenv("ASSAY_ENGINE", "required")
    with pytest.raises(pytest.fail.Exception, match="ASSAY_ENGINE=required, but no disk"):
        skip("no disk")


@pytest.mark.parametrize(
    ("said", "raised"),
    [
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", pytest.fail.Exception),
        ("ERROR: Could not find a version that satisfies the requirement h5py==9 (from versions: 3.0, 3.1)", pytest.fail.Exception),
        ("ERROR: Could not find a version that satisfies the requirement h5py==3 (from versions: none)", pytest.skip.Exception),
    ],
)
def test_wheels_are_missed_only_where_no_index_answers(monkeypatch, said, raised):
    monkeypatch.delenv("ASSAY_ENGINE", raising=False)
    answer(monkeypatch, 1, said)
    with pytest.raises(raised, match="wheels of the cpu image cannot be downloaded"):
        fixtures.find_wheels()
