"""`bench run --engine docker`: each case in a container of its image, examined first, watched, and removed whatever happens."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docker.utils.socket import STDOUT, frames_iter

from assay.bench.case import Case, ExitCode, Outcome, UsageError
from assay.bench.measure.fitness import Finding, NotFit
from assay.bench.profiles import Profile, load_profile
from assay.bench.records.record import Environment, Machine
from assay.bench.running.containers import DATA, FAULTS, RESULTS, CannotStart, Containers, Image, Running, explain_fault, remove_container, write_input
from assay.bench.running.local import INTERRUPTED, POLL_SECONDS, Contact, Ending, Limits, explain_exit, find_overrun
from assay.bench.running.plugin import MARK

if TYPE_CHECKING:
    import torch

EXAMINE_SECONDS = 300.0  # a doctor that calibrates takes one minute at most, on a slow disk that has not read the image yet
STATUS_SECONDS = 30.0  # for the engine to say how a container ended whose output has ended
SIGNALS = frozenset(map(int, signal.Signals))


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the doctor found inside a container that is fit to measure in."""

    profile: Profile
    machine: Machine
    environment: Environment


def examine(containers: Containers, profile: str | None, emulated: Sequence[str]) -> Examination:
    """Runs the doctor in a container like those of the cases. Raises NotFit, and UsageError for what the doctor calls wrong use."""
    # on a CPU other work is no refusal, as in the services of compose.yaml: the spread of the rounds shows it
    depth = ["--quick"] if containers.gpu is None else []
    arguments = ["-m", "bench", "doctor", "--json", *depth, f"--results={RESULTS}", *([f"--profile={profile}"] if profile else [])]
    try:
        with containers.start([*arguments, *(f"--emulated={what}" for what in emulated)]) as running:
            said = _listen(running, containers.image)
            code = running.container.wait(timeout=STATUS_SECONDS)["StatusCode"]
    except CannotStart as error:
        remedy = "For a GPU, install the NVIDIA Container Toolkit on the host and restart Docker; `docker info` then lists the runtime nvidia."
        raise _refuse(containers.image, f"Docker cannot start one: {error}.", remedy) from None
    except FAULTS as error:
        remedy = "See whether `docker info` answers, and start Docker again where it does not."
        raise _refuse(containers.image, f"Docker: {explain_fault(error)}.", remedy) from None
    if code not in (ExitCode.OK, ExitCode.MACHINE_NOT_FIT):
        last = [line for line in b"".join(said.values()).decode(errors="replace").splitlines() if line.strip()][-1:]
        raise UsageError(f"the doctor in {containers.image.tag} ended with {code}: {''.join(last).removeprefix('error: ')}")
    found = json.loads(said[STDOUT])
    if code == ExitCode.MACHINE_NOT_FIT:
        raise NotFit(containers.image.tag, [Finding(**finding) for finding in found["findings"] if not finding["ok"]])
    return Examination(
        profile=load_profile(found["profile"]),
        machine=Machine.model_validate(found["machine"]),
        environment=Environment.model_validate(found["environment"]),
    )


def _listen(running: Running, image: Image) -> dict[int, bytes]:
    """All that a container says, by stream. Raises NotFit when it has not ended after EXAMINE_SECONDS: a GPU or a disk may let a process hang for ever."""
    said: dict[int, bytes] = {}

    def read() -> None:
        for stream, chunk in frames_iter(running.stream, tty=False):
            said[stream] = said.get(stream, b"") + chunk

    reader = threading.Thread(target=read, daemon=True, name="doctor-output")
    reader.start()
    reader.join(EXAMINE_SECONDS)
    if reader.is_alive():
        remove_container(running.container)
        reader.join(STATUS_SECONDS)
        remedy = "Something on the host hangs, most likely the GPU or the disk of the results: see `nvidia-smi`, `dmesg` and the state of the folder."
        raise _refuse(image, f"the doctor inside has not ended after {EXAMINE_SECONDS:g} s.", remedy)
    return said


def _refuse(image: Image, message: str, remedy: str) -> NotFit:
    return NotFit(image.tag, [Finding("container", ok=False, message=message, remedy=remedy)])


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerLauncher:
    """Runs cases in containers. See assay.bench.running.campaign.Launcher."""

    containers: Containers
    run: Path
    machine: Machine
    environment: Environment

    @property
    def folders(self) -> list[str]:
        return [f"--assay-run={RESULTS}/runs/{self.run.name}", *([f"--assay-data={DATA}"] if self.containers.data else [])]

    def identify(self, device: torch.device) -> tuple[Machine, Environment]:  # noqa: ARG002  # the doctor looked at the profile's device
        return self.machine, self.environment

    def launch(self, case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
        arguments = ["-m", "pytest", f"bench/cases/test_{case.phase}.py", "-q", "-s", "-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"]
        arguments += [*options, f"--assay-case={case.id}", "--assay-line=stdio"]
        log.parent.mkdir(exist_ok=True)
        try:
            with self.containers.start(arguments, memory_bytes=limits.memory_bytes) as running:
                output = _Output(running, log, contact.report)
                output.start()
                overrun = _watch(running, output, limits, contact)
                if overrun:
                    remove_container(running.container)
                output.join()
                if output.fault and not overrun:
                    return Ending(Outcome.CRASH, f"Docker: the output broke off: {output.fault}", log)
                return Ending(*(overrun or _explain(running, limits, log)), log)
        except (CannotStart, *FAULTS) as error:  # whatever the engine does, the case gets its record and the run goes on
            return Ending(Outcome.CRASH, f"Docker: {explain_fault(error)}", log)


class _Output(threading.Thread):
    """Reads a container's output to its end: progress goes to the launcher, all else to the log."""

    def __init__(self, running: Running, log: Path, report: Callable[[int, int, str], None]) -> None:
        super().__init__(daemon=True, name="container-output")
        self._stream, self._log, self._report = running.stream, log, report
        self.spoke = time.monotonic()
        self.fault: str | None = None  # why the output ended before the container did

    def run(self) -> None:
        try:
            self._read()
        except FAULTS as error:
            self.fault = explain_fault(error)

    def _read(self) -> None:
        pending = b""
        with self._log.open("wb") as log:
            for stream, chunk in frames_iter(self._stream, tty=False):
                if stream != STDOUT:
                    log.write(chunk)
                    continue
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._sort(line, log)
            log.write(pending)

    def _sort(self, line: bytes, log: Any) -> None:
        text, mark, progress = line.partition(MARK)
        if mark:
            said = json.loads(progress)
            self._report(said["done"], said["total"], said["note"])
            self.spoke = time.monotonic()
        if text or not mark:
            log.write(text + b"\n")


def _watch(running: Running, output: _Output, limits: Limits, contact: Contact) -> tuple[Outcome, str] | None:
    """Waits for the end of the output, which is the end of the container. Not None: why it must be ended before."""
    started = time.monotonic()
    while output.is_alive():
        output.join(POLL_SECONDS)
        if contact.stop.is_set():
            return INTERRUPTED
        if news := contact.fetch_news():
            write_input(running.stream, news)
        if overrun := find_overrun(limits, started, output.spoke):
            return overrun
    return None


def _explain(running: Running, limits: Limits, log: Path) -> tuple[Outcome | None, str | None]:
    status = running.container.wait(timeout=STATUS_SECONDS)["StatusCode"]
    running.container.reload()
    if running.container.attrs["State"]["OOMKilled"]:
        return Outcome.OOM, f"killed at the {limits.memory_bytes / 1e9:.1f} GB a case may use here; allow more with --memory"
    return explain_exit(read_status(status), log)


def read_status(status: int) -> int:
    """A container's exit status as subprocess writes it: -9 for a death by signal 9, which engines and shells write as 137. 255 is an exit code."""
    return 128 - status if status - 128 in SIGNALS else status
