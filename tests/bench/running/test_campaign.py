"""Runs that go wrong in every way, with real processes: every earlier record stays, every case gets its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file, save_file

from assay.bench.case import Outcome
from assay.bench.records.record import Record
from assay.bench.records.store import RunStore
from assay.bench.running.campaign import judge_run
from tests.conftest import heed_interrupts

PATIENT = ("--select", "accidents and not hangs and not dawdles", "--name", "accidents", "--memory", "2.5")
SILENT = ("--select", "accidents and hangs", "--name", "accidents", "--resume", "--silence", "12")
LONG = ("--select", "accidents and dawdles", "--name", "accidents", "--resume", "--timeout", "15")  # a run of its own: imports may be silent for longer


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench", "run", "--profile", "cpu", *arguments]


def bench(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), cwd=project, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def accidents(project: Path) -> tuple[subprocess.CompletedProcess[str], dict[str, Record], RunStore]:
    """One run over every accident, and its records by variant and phase. Only what never ends is given little time: the machine may be busy."""
    done = bench(project, *PATIENT)
    assert [bench(project, *strict).returncode for strict in (SILENT, LONG)] == [1, 1]
    store = RunStore(project / "results" / "runs" / "accidents")
    return done, {f"{r.case.variant}/{r.case.phase}": r for r in store.read()}, store


@pytest.mark.parametrize(
    ("case", "outcome", "reason"),
    [
        ("well/train", Outcome.OK, None),
        ("well/eval", Outcome.OK, None),
        ("hangs/train", Outcome.TIMEOUT, "no sign of life for 12 s"),
        ("dawdles/train", Outcome.TIMEOUT, "longer than 15 s in all"),
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


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Waits without taking a core from what it waits for."""
    until = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, "nothing happened for 240 s"
        time.sleep(0.05)


def start_and_wait_for_second_case(project: Path, name: str) -> subprocess.Popen[str]:
    """A run that has recorded one case and dawdles in the next."""
    arguments = ("--select", "accidents and train and (well or dawdles)", "--name", name, "--jobs", "1", "--timeout", "300")
    process = subprocess.Popen(
        command(*arguments), cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=heed_interrupts
    )
    log = project / "results" / "runs" / name / "logs" / "accidents.dawdles.train.smoke.closed.fp32.log"
    wait_for(log.exists, process)
    return process


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    launcher = psutil.Process(process.pid)
    wait_for(lambda: launcher.children(recursive=True), process)
    return launcher.children(recursive=True)


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_interrupted_run_records_the_case_and_says_how_to_go_on(project: Path, number: int, code: int) -> None:
    name = f"interrupted-{code}"
    process = start_and_wait_for_second_case(project, name)
    children = children_of(process)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    assert not any(child.is_running() for child in children)
    told = " ".join(output.split()).partition("Go on with: ")[2]
    assert told.startswith(f"python -m bench run --profile cpu --select 'accidents and train and (well or dawdles)' --name {name} ")
    assert told.endswith(" --resume")
    store = RunStore(project / "results" / "runs" / name)
    interrupted = (Outcome.INTERRUPTED, "its run was ended by Ctrl-C or SIGTERM; --resume tries it again")
    assert [(r.outcome, r.reason) for r in store.read()] == [(Outcome.OK, None), interrupted]
    assert store.verify_chain() == []


def test_resume_tries_an_interrupted_case_again(project: Path) -> None:
    process = start_and_wait_for_second_case(project, "again")
    process.terminate()
    process.communicate(timeout=60)
    select = ("--select", "accidents and train and (well or dawdles)")
    assert bench(project, *select, "--name", "again", "--resume", "--jobs", "1", "--timeout", "1").returncode == 1
    records = RunStore(project / "results" / "runs" / "again").read()
    assert [(r.case.variant, r.outcome) for r in records] == [("well", Outcome.OK), ("dawdles", Outcome.INTERRUPTED), ("dawdles", Outcome.TIMEOUT)]


def test_one_name_is_one_run_and_runs_of_other_names_are_told_in_both_records(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # other runs of this machine are none of this test's
    first = start_and_wait_for_second_case(project, "first")
    refused = bench(project, "--select", "accidents and well", "--name", "first")
    assert refused.returncode == 2
    assert f"error: run first is under way: process {first.pid} on " in refused.stderr
    assert bench(project, "--select", "accidents and well and train", "--name", "second").returncode == 0
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    well, dawdles = RunStore(project / "results" / "runs" / "first").read()
    (second,) = RunStore(project / "results" / "runs" / "second").read()
    assert second.beside == (f"first (pid {first.pid})",)  # as its case was told
    assert well.beside == ()
    assert [told.partition(" (pid ")[0] for told in dawdles.beside] == ["second"]
    assert "beside other runs on its machine: first (pid" in (project / "results" / "LEADERBOARD.md").read_text()


@pytest.mark.parametrize(
    ("seed", "changed", "reason"),
    [
        ("7", False, "trained under other conditions (here -> there: seed: 7 -> 42)"),
        ("42", True, "no record of this run says how they were trained: the training was ended before its record, or the file was changed since"),
    ],
)
def test_weights_of_another_training_are_not_evaluated(accidents, project: Path, tmp_path: Path, seed: str, changed: bool, reason: str) -> None:
    run = tmp_path / "runs" / "accidents"
    shutil.copytree(accidents[2].folder, run)
    (path,) = (run / "weights").glob("accidents.well.*")
    if changed:
        save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    done = bench(project, "--select", "accidents and well and eval", "--name", "accidents", "--out", str(tmp_path), "--seed", seed)
    told = f"weights/{path.name}: {reason}. Train them anew with --select 'accidents/well/train/smoke/closed/fp32', or choose another --name"
    record = RunStore(run).read()[-1]
    assert (record.outcome, record.reason, record.weights_sha256, record.quality) == (Outcome.SKIPPED, told, None, {})
    assert done.returncode == 3, done.stderr
    assert told in done.stderr, "a remedy is told in full"


def start_plain_pytest(project: Path, run: Path) -> subprocess.Popen[str]:
    case = ["--assay-case=accidents/dawdles/train/smoke/closed/fp32", f"--assay-run={run}", "--assay-profile=cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "bench/cases", "-q", "-s", *case], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip


def test_plain_pytest_has_its_run_for_itself_and_records_what_is_interrupted(project: Path, tmp_path: Path) -> None:
    process = start_plain_pytest(project, tmp_path / "plain")
    assert process.stdout is not None
    while "dawdling" not in (line := process.stdout.readline()):
        assert line, "ended before its case began"
    refused = start_plain_pytest(project, tmp_path / "plain")
    output, _ = refused.communicate(timeout=240)
    assert refused.returncode == 2, output
    assert f"run plain is under way: process {process.pid} on " in output
    process.terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    (record,) = RunStore(tmp_path / "plain").read()
    assert (record.outcome, record.reason) == (Outcome.INTERRUPTED, "ended by Ctrl-C or SIGTERM; run it again")


def test_a_case_that_sigterm_ends_is_interrupted(project: Path) -> None:
    process = start_and_wait_for_second_case(project, "case-ended")
    children_of(process)[0].terminate()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    records = RunStore(project / "results" / "runs" / "case-ended").read()
    assert [(r.outcome, r.reason) for r in records] == [(Outcome.OK, None), (Outcome.INTERRUPTED, "ended by SIGTERM; --resume tries it again")]


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


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (("ok", "skipped", "unsupported"), 0),
        (("unsupported",), 0),
        (("skipped",), 3),
        (("skipped", "unsupported"), 3),
        (("ok", "invalid", "skipped"), 4),
        (("ok", "interrupted", "invalid"), 130),
        (("ok", "interrupted", "timeout"), 1),
    ],
)
def test_the_exit_code_of_a_run(accidents, outcomes: tuple[str, ...], code: int) -> None:
    ok = accidents[1]["well/train"]
    assert judge_run([ok.model_copy(update={"outcome": Outcome(outcome), "reason": None if outcome == "ok" else "why"}) for outcome in outcomes]) == code
