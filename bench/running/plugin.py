"""pytest hooks of the instrument: options, one parametrised test per case, and a record for every outcome."""

from __future__ import annotations

import atexit
import json
import os
import shlex
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from assay.bench.case import Case, Division, ExitCode, Outcome, Phase, Preset, Unsupported, UsageError

if TYPE_CHECKING:
    from assay.bench.profiles import Profile
    from assay.bench.running.execution import Execution, Settings
    from assay.models.workload import Progress

# torch, the registry and the measurement are imported inside the hooks: this plugin is loaded for every pytest run of the
# project, and the tests of small modules should not wait for them

CASES = Path(__file__).resolve().parents[1] / "cases"
PHASE_OF_TEST = {"test_train": Phase.TRAIN, "test_eval": Phase.EVAL, "test_attention": Phase.ATTENTION}
MARK = b"\x1e"  # ASCII record separator: begins a progress line among what a case prints
BAD_INPUT = "bad input: "  # starts the reason of a case whose data could not be used; the run then exits with 2

_execution = pytest.StashKey["Execution"]()
_outcome = pytest.StashKey[tuple[Outcome, str | None]]()
_progress = pytest.StashKey["Progress"]()
_status = pytest.StashKey[int]()
_find_neighbours = pytest.StashKey[Callable[[], Collection[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the benchmark cases; `python -m bench run` sets them for its case processes."""
    group = parser.getgroup("assay", "benchmark cases (bench/cases)")
    group.addoption("--assay-case", metavar="ID", help="run this one case; default: every case of the preset and division")
    group.addoption("--assay-preset", metavar="P", default="smoke", choices=[p.value for p in Preset], help="how much of it (default: smoke)")
    group.addoption("--assay-division", metavar="D", default="closed", choices=[d.value for d in Division], help="closed or open (default: closed)")
    group.addoption("--assay-profile", metavar="NAME", help="machine class; default: found out")
    group.addoption("--assay-data", metavar="DIR", type=Path, help="folder of real data; default: synthetic twins")
    group.addoption("--assay-run", metavar="DIR", type=Path, help="run folder for the records; default: a new one in results/runs")
    group.addoption("--assay-seed", metavar="N", type=int, default=42, help="seed of python, numpy, torch and the loader (default: 42)")
    group.addoption("--assay-parallel", metavar="N", type=int, default=1, help="cases that run beside each other, for the record (default: 1)")
    group.addoption("--assay-command", metavar="TEXT", help="what the user typed, for the record; default: this command")
    group.addoption("--assay-emulated", metavar="WHAT", action="append", default=[], help="marks records as emulated; they are never compared")
    group.addoption("--assay-line", metavar="FD", help="socket to the launcher, or stdio: progress goes out, its end means that the launcher is gone")


def pytest_configure(config: pytest.Config) -> None:
    """Connects to the launcher, when there is one."""
    line = config.getoption("--assay-line")
    from assay.models.workload import ignore_progress  # plain pytest shows its own progress

    if line is None:
        config.stash[_progress] = ignore_progress
    else:
        config.stash[_progress], config.stash[_find_neighbours] = _attach(line)
        atexit.register(_leave, config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per case of the function's phase."""
    if "execution" not in metafunc.fixturenames:
        return
    phase = PHASE_OF_TEST[metafunc.function.__name__]
    try:
        cases = [case for case in _choose_cases(metafunc.config) if case.phase is phase]
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    metafunc.parametrize("case", cases, ids=[case.id for case in cases], scope="function")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trains before it evaluates, so that evaluation finds the weights of its run. In a case, a library's warning is told and ends nothing."""
    unused = "ignore:Benchmark fixture was not used at all"  # of a case that did not come to its timing
    for item in items:
        if "execution" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.filterwarnings("default", unused))
    order = list(PHASE_OF_TEST)
    items.sort(key=lambda item: order.index(name) if (name := getattr(item, "originalname", "")) in order else -1)


@pytest.fixture
def execution(case: Case, request: pytest.FixtureRequest) -> Iterator[Execution]:
    """The case under way. Its record is written when the test has ended, whatever the end was."""
    from assay.bench.running.execution import Execution

    config = request.config
    settings = _settle(config, case)
    if config.getoption("--assay-line") is None:
        _stand_alone(config, settings.run)
    under_way = Execution(case, settings, config.stash[_progress], config.stash[_find_neighbours])
    request.node.stash[_execution] = under_way
    yield under_way
    outcome, reason = request.node.stash.get(_outcome, (Outcome.CRASH, "ended before pytest could report"))
    path = under_way.finish(outcome, reason)
    request.node.user_properties.append(("record", str(path)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Keeps the outcome of a case that Ctrl-C ends: pytest makes no report of it, but takes its fixtures down, where the record is written."""
    try:
        return (yield)
    except KeyboardInterrupt as error:
        item.stash[_outcome] = _classify(error)
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns what the test raised into the case's outcome."""
    report = yield
    if call.when == "call" and _execution in item.stash:
        error = call.excinfo.value if call.excinfo is not None else None
        outcome, reason = item.stash[_outcome] = _classify(error)
        if outcome in (Outcome.SKIPPED, Outcome.UNSUPPORTED):
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {outcome}: {reason}")
    return report


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keeps the exit code for `_leave`."""
    session.config.stash[_status] = exitstatus


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says where the records are."""
    records = [value for reports in terminalreporter.stats.values() for r in reports for name, value in getattr(r, "user_properties", []) if name == "record"]
    if records:
        terminalreporter.write_line(f"{len(records)} records in {Path(records[0]).parent}; `python -m bench board` ranks them")


def _choose_cases(config: pytest.Config) -> list[Case]:
    from assay.bench.registry import get_variant, get_workload, select_cases

    if wanted := config.getoption("--assay-case"):
        case = Case.parse(wanted)
        get_variant(get_workload(case.workload), case.variant)
        return [case]
    return select_cases(Preset(config.getoption("--assay-preset")), Division(config.getoption("--assay-division")))


def _settle(config: pytest.Config, case: Case) -> Settings:
    from platformdirs import user_cache_path

    from assay.bench.checkout import RESULTS
    from assay.bench.measure.detection import choose_profile
    from assay.bench.records.store import RunStore
    from assay.bench.running.execution import Settings

    name, emulated = config.getoption("--assay-profile"), tuple(config.getoption("--assay-emulated"))
    profile = choose_profile(name)
    if config.getoption("--assay-line") is None and not emulated and _find_neighbours not in config.stash:  # once a session, before its first case
        _require_machine(profile)
    run = config.getoption("--assay-run") or RESULTS / "runs" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-pytest"
    config.option.assay_run = run  # one run folder for every case of this pytest session
    RunStore.create(run.parent, run.name)
    smoke = case.preset is Preset.SMOKE
    # the energy counter needs a window of 5 s: 26 rounds of 0.2 s
    rounds = 26 if profile.device == "cuda" and not smoke else 10
    return Settings(
        run=run,
        profile=profile,
        data=config.getoption("--assay-data"),
        seed=config.getoption("--assay-seed"),
        cache=user_cache_path("assay"),
        round_seconds=0.02 if smoke else 0.2,  # a smoke case says whether it runs, not how fast
        rounds=rounds,
        warm_up_seconds=1 if smoke else 20,
        parallel=config.getoption("--assay-parallel"),
        command=tuple(shlex.split(config.getoption("--assay-command") or shlex.join(["pytest", *sys.argv[1:]]))),
        emulated=emulated,
    )


def _require_machine(profile: Profile) -> None:
    """Ends the session, before any record, where no case of the profile could start; the launcher has seen to that for its cases."""
    from assay.bench.measure.fitness import NotFit, require_machine

    try:
        require_machine(profile)
    except NotFit as refused:
        told = "\n".join(f"{finding.name}: {finding.message} Wanted: {finding.wanted}. {finding.remedy}" for finding in refused.refusals)
        pytest.exit(f"{refused.where}: not fit to measure on\n{told}", returncode=ExitCode.MACHINE_NOT_FIT)


def _stand_alone(config: pytest.Config, run: Path) -> None:
    """What the launcher does for its cases: has the run's folder for itself, knows of other runs, heeds SIGTERM as Ctrl-C. For the whole session."""
    from assay.bench.running.neighbours import announce_run, own_run

    if _find_neighbours in config.stash:
        return
    held = ExitStack()
    config.add_cleanup(held.close)
    try:
        if fault := held.enter_context(own_run(run)):
            warnings.warn(pytest.PytestWarning(fault), stacklevel=1)
    except UsageError as error:
        pytest.exit(str(error).replace("--name", "--assay-run"), returncode=ExitCode.WRONG_USE)
    config.stash[_find_neighbours] = held.enter_context(announce_run(run.name)).find
    held.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))


def _classify(error: BaseException | None) -> tuple[Outcome, str | None]:
    import torch

    from assay.datasets.card import DataError, MissingData

    match error:
        case None:
            return Outcome.OK, None
        case MissingData():
            return Outcome.SKIPPED, str(error)
        case DataError() | UsageError():
            return Outcome.SKIPPED, BAD_INPUT + str(error)
        case Unsupported():
            return Outcome.UNSUPPORTED, str(error)
        case MemoryError() | torch.cuda.OutOfMemoryError():  # torch.OutOfMemoryError came after 2.1
            return Outcome.OOM, f"{type(error).__name__}: {error}"
        case KeyboardInterrupt():
            return Outcome.INTERRUPTED, "ended by Ctrl-C or SIGTERM; run it again"
        case _:
            return Outcome.CRASH, f"{type(error).__name__}: {error}"


def _leave(config: pytest.Config) -> None:
    """Ends a case's process without taking apart what it imported, which for torch's compiler, part of every optimiser, takes a second."""
    if (status := config.stash.get(_status, None)) is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _attach(line: str) -> tuple[Progress, Callable[[], Collection[str]]]:
    """Reports progress to the launcher, hears of other runs from it, a line each, and dies with it: a case that outlives it would disturb the next one.

    Returns what tells the progress, and what gives the other runs that the launcher has told of.
    """
    receive, send = _open_line(line)
    neighbours: set[str] = set()

    def watch() -> None:
        pending = b""
        while heard := receive(4096):
            *names, pending = (pending + heard).split(b"\n")
            neighbours.update(name.decode(errors="replace") for name in names)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="launcher-watch").start()
    last = 0.0

    def report(done: int, total: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 0.1 or done == total:
            last = now
            with suppress(ConnectionError):  # the launcher is gone: `watch` is about to end this process, and nothing here has crashed
                send(json.dumps({"done": done, "total": total, "note": note}).encode() + b"\n")

    return report, lambda: neighbours


def _open_line(line: str) -> tuple[Callable[[int], bytes], Callable[[bytes], object]]:
    if line == "stdio":  # of a container, with pytest's capture off: no descriptor is inherited there
        return partial(os.read, 0), lambda message: os.write(1, MARK + message)
    channel = socket.socket(fileno=int(line))
    return channel.recv, channel.sendall
