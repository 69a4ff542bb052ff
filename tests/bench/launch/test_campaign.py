"""Runs that go wrong in every way, with real processes: every earlier record stays, every case gets its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.case import Outcome
from bench.record import Record
from bench.store import RunStore
from tests.conftest import heed_interrupts

PATIENT = ("--select", "accidents and not hangs and not dawdles", "--name", "accidents", "--memory", "2.5")
STRICT = ("--select", "accidents and (hangs or dawdles)", "--name", "accidents", "--resume", "--silence", "12", "--timeout", "30")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", "run", "--profile", "cpu", *arguments]


def bench(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=project, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def accidents(project: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Record], RunStore]:
    """One run over every accident, and its records by variant and phase. Only what never ends is given little time: the machine may be busy."""
    done = bench(project, *PATIENT)
    assert bench(project, *STRICT).returncode == 1
    store = RunStore(project / "results" / "runs" / "accidents")
    return done, {f"{r.case.variant}/{r.case.phase}": r for r in store.read()}, store


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        ("well/train", Outcome.OK, None),
        ("well/eval", Outcome.OK, None),
        ("hangs/train", Outcome.TIMEOUT, "no sign of life for 12 s"),
        ("dawdles/train", Outcome.TIMEOUT, "longer than 30 s in all"),
        ("segfaults/train", Outcome.CRASH, "killed by SIGSEGV"),
        ("raises/train", Outcome.CRASH, "RuntimeError: the gradient | went <b>astray</b>"),
        ("runs-out/train", Outcome.OOM, "MemoryError: no room for the activations"),
        ("leaks/train", Outcome.OOM, "more than the 2.5 GB a case may use here"),
        ("no-such-unit/train", Outcome.UNSUPPORTED, "needs a unit that this machine has not"),
        ("bad-file/train", Outcome.SKIPPED, "bad input: line.csv, row 1: column y is missing. Add it."),
        ("no-file/train", Outcome.SKIPPED, "line.csv: is not there. Fetch it."),
    ],
)
def test_every_ending_has_its_outcome(accidents, case: str, outcome: Outcome, reason: str | None) -> None:
    record = accidents[1][case]
    assert record.outcome is outcome
    assert (reason or "") in (record.reason or "")


def test_the_run_reports_bad_input_and_keeps_a_whole_chain(accidents) -> None:
    done, records, store = accidents
    assert done.returncode == 2, done.stderr
    assert len(records) == 11
    assert store.verify_chain() == []
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("case", "end"), [("well", "1 passed in"), ("raises", "1 failed in"), ("no-such-unit", "1 skipped in")])
def test_logs_are_whole_although_cases_leave_in_a_hurry(accidents, case: str, end: str) -> None:
    log = accidents[2].folder / "logs" / f"accidents.{case}.train.smoke.closed.fp32.log"
    assert log.read_text().splitlines()[-1].startswith(end)


def test_evaluation_uses_the_weights_of_training(accidents) -> None:
    records = accidents[1]
    assert records["well/eval"].weights_sha256 == records["well/train"].weights_sha256
    assert records["well/eval"].quality == records["well/train"].quality


def test_the_page_shows_failures_and_harmless_text(accidents, project: Path) -> None:
    page = (project / "results" / "LEADERBOARD.md").read_text()
    assert "timeout" in page
    assert "<b>" not in page


def test_resume_runs_only_what_is_missing(accidents, project: Path) -> None:
    store = accidents[2]
    # known only once a session is open, and no reason to run the case again
    assert accidents[1]["well/train"].comparability.attention == "eager"
    before = [path.read_bytes() for path in store.paths()]
    again = bench(project, "--select", "accidents and (well or raises)", "--name", "accidents", "--resume")
    assert again.returncode == 1, again.stderr
    after = store.paths()
    assert [path.read_bytes() for path in after[: len(before)]] == before
    assert [record.case.variant for record in store.read()[len(before) :]] == ["raises"]
    assert (again.stdout + again.stderr).count("recorded    accidents/well") == 2
    assert store.verify_chain() == []


def start_and_wait_for_second_case(project: Path, name: str) -> subprocess.Popen[str]:
    arguments = ("--select", "accidents and train and (well or dawdles)", "--name", name, "--jobs", "1", "--timeout", "60")
    process = subprocess.Popen(
        command(*arguments), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_interrupts
    )
    log = project / "results" / "runs" / name / "logs" / "accidents.dawdles.train.smoke.closed.fp32.log"
    while not log.exists():
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
    return process


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children: list[psutil.Process] = []
    while not children:
        children = psutil.Process(process.pid).children(recursive=True)
    return children


def test_killed_run_leaves_its_records_and_no_process(project: Path) -> None:
    process = start_and_wait_for_second_case(project, "killed")
    children = children_of(process)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    store = RunStore(project / "results" / "runs" / "killed")
    assert [record.outcome for record in store.read()] == [Outcome.OK]
    assert store.verify_chain() == []
    done = bench(project, "--select", "accidents and train and (well or raises)", "--name", "killed", "--resume", "--jobs", "1")
    assert [record.case.variant for record in store.read()] == ["well", "raises"]
    assert done.returncode == 1


def test_interrupted_run_records_the_case_and_says_how_to_go_on(project: Path) -> None:
    process = start_and_wait_for_second_case(project, "interrupted")
    children_of(process)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    told = " ".join(output.split()).partition("Go on with: ")[2]
    assert told.startswith("python -m bench run --profile cpu --select 'accidents and train and (well or dawdles)' --name interrupted ")
    assert told.endswith(" --resume")
    store = RunStore(project / "results" / "runs" / "interrupted")
    assert [(r.outcome, r.reason) for r in store.read()] == [(Outcome.OK, None), (Outcome.INTERRUPTED, "interrupted by the user")]
    assert store.verify_chain() == []


def test_unwritable_results_are_refused(project: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "results"
    blocked.write_text("a file where a folder should be")
    done = bench(project, "--select", "accidents and well", "--out", str(blocked))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "--out DIR" in done.stderr


def test_json_is_one_document_of_records(project: Path) -> None:
    done = bench(project, "--select", "accidents and well and train", "--name", "as-json", "--json")
    assert done.returncode == 0, done.stderr
    records = [Record.model_validate(entry) for entry in json.loads(done.stdout)]
    assert [record.outcome for record in records] == [Outcome.OK]


def test_records_tell_the_command_that_the_user_typed(accidents) -> None:
    environment = accidents[1]["well/train"].environment
    assert environment is not None
    assert environment.command == ("python", "-m", "bench", "run", "--profile", "cpu", *PATIENT)


def test_killed_case_is_a_crash_and_the_run_ends_in_order(project: Path) -> None:
    process = start_and_wait_for_second_case(project, "case-killed")
    children_of(process)[0].kill()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    records = RunStore(project / "results" / "runs" / "case-killed").read()
    assert [(r.case.variant, r.outcome) for r in records] == [("well", Outcome.OK), ("dawdles", Outcome.CRASH)]
    assert "killed by SIGKILL" in (records[1].reason or "")
