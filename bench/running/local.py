"""One case in one process group on this machine: started, watched, and killed as a tree when it hangs, leaks or is not wanted any more."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import psutil

from assay.bench.case import Case, Outcome
from assay.bench.checkout import CHECKOUT, ROOT

if TYPE_CHECKING:
    import torch

    from assay.bench.records.record import Environment, Machine

POLL_SECONDS = 0.25
INTERRUPTED = (Outcome.INTERRUPTED, "its run was ended by Ctrl-C or SIGTERM; --resume tries it again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long a case may take, how long it may stay silent, and how much memory its process group may hold."""

    wall_seconds: float
    silent_seconds: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a case process ended when it could not say so itself: the outcome for its record; None when it ended in order."""

    outcome: Outcome | None
    reason: str | None
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What passes between a run and a case under way."""

    report: Callable[[int, int, str], None]  # called with (done, total, note)
    stop: Event  # set: the case must end
    find_neighbours: Callable[[], Collection[str]]  # other runs on this machine, now
    told: set[str] = field(default_factory=set)  # of these, the ones that the case knows of

    def fetch_news(self) -> bytes:
        """Lines for the case: the other runs that it does not know of yet."""
        news = set(self.find_neighbours()) - self.told
        self.told.update(news)
        return "".join(f"{name}\n" for name in sorted(news)).encode()


@dataclass(frozen=True, slots=True)
class LocalLauncher:
    """Runs cases as processes of this machine. See assay.bench.running.campaign.Launcher."""

    run: Path
    data: Path | None
    command: tuple[str, ...]

    @property
    def folders(self) -> list[str]:
        data = [f"--assay-data={os.path.relpath(self.data, ROOT)}"] if self.data else []  # relative: records are published
        return [f"--assay-run={self.run.resolve()}", *data]

    def identify(self, device: torch.device) -> tuple[Machine, Environment]:
        from assay.bench.measure.machine import identify_environment, identify_machine

        return identify_machine(device), identify_environment(ROOT, self.command)

    def launch(self, case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
        return run_case(case, options, limits, log, contact)


def run_case(case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
    """Runs one case to its end, or until `contact.stop` is set. `options` are pytest options of assay.bench.running.plugin.

    The case's process group is gone when this returns, however it returns.
    """
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "pytest", f"bench/cases/test_{case.phase}.py", "-q", "-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"]
    command += [*options, f"--assay-case={case.id}", f"--assay-line={theirs.fileno()}", f"--benchmark-storage=file://{log.parent.resolve()}"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins of other tools would only cost start-up time
    if not CHECKOUT:
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # pytest would keep that of the cases inside the installed package
    log.parent.mkdir(exist_ok=True)
    with ours, log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        try:
            killed = _watch(process, ours, limits, contact)
        finally:
            _kill_group(process)
    if killed is not None:
        return Ending(*killed, log)
    return Ending(*explain_exit(process.returncode, log), log)


def _watch(process: subprocess.Popen[bytes], line: socket.socket, limits: Limits, contact: Contact) -> tuple[Outcome, str] | None:
    started = spoke = time.monotonic()
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(line, selectors.EVENT_READ)
        while process.poll() is None:
            if selector.select(POLL_SECONDS):
                received = line.recv(65536)
                if not received:  # the process closed its end: it is on its way out
                    return _await_exit(process, limits, contact.stop)
                spoke = time.monotonic()
                *lines, pending = (pending + received).split(b"\n")
                if lines:
                    said = json.loads(lines[-1])
                    contact.report(said["done"], said["total"], said["note"])
            if contact.stop.is_set():
                return INTERRUPTED
            if news := contact.fetch_news():
                with contextlib.suppress(OSError):  # a case that has just ended has its record and needs none
                    line.sendall(news)
            if overrun := find_overrun(limits, started, spoke):
                return overrun
            if (held := _memory_of_group(process.pid)) > limits.memory_bytes:
                return Outcome.OOM, f"held {held / 1e9:.1f} GB, more than the {limits.memory_bytes / 1e9:.1f} GB a case may use here; allow more with --memory"
    return None


def find_overrun(limits: Limits, started: float, spoke: float) -> tuple[Outcome, str] | None:
    """Whether a case that started and last spoke at these times (monotonic, s) has been going on or silent for too long."""
    now = time.monotonic()
    if now - started > limits.wall_seconds:
        return Outcome.TIMEOUT, f"longer than {limits.wall_seconds:g} s in all; allow more with --timeout"
    if now - spoke > limits.silent_seconds:
        return Outcome.TIMEOUT, f"no sign of life for {limits.silent_seconds:g} s; it hangs, or needs --silence"
    return None


def _await_exit(process: subprocess.Popen[bytes], limits: Limits, stop: Event) -> tuple[Outcome, str] | None:
    until = time.monotonic() + limits.silent_seconds
    while process.poll() is None:
        if stop.wait(POLL_SECONDS):
            return INTERRUPTED
        if time.monotonic() > until:
            return Outcome.TIMEOUT, f"closed its line but did not end within {limits.silent_seconds:g} s"
    return None


def _memory_of_group(leader: int) -> int:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(leader)
        for member in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
    return total


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def explain_exit(code: int, log: Path) -> tuple[Outcome | None, str | None]:
    """Outcome and reason for a case process that ended with this code (negative: by a signal); None, None when its record is its own."""
    if code in (0, 1):  # pytest ran the case to a verdict, so the record is the case's own
        return None, None
    if code < 0:
        name = signal.Signals(-code).name if -code in set(map(int, signal.Signals)) else f"signal {-code}"  # real-time signals have no names
        if -code in (signal.SIGINT, signal.SIGTERM):
            return Outcome.INTERRUPTED, f"ended by {name}; --resume tries it again"
        hint = "; the system's out-of-memory killer is the usual sender" if name == "SIGKILL" else ""
        return Outcome.CRASH, f"killed by {name}{hint}; its output is in {log.name}"
    return Outcome.CRASH, f"exit code {code}: {_last_line(log)}; its output is in {log.name}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"
