"""Runs live sessions of the gate one after the other and stores each as soon as it has ended, so that the work can stop and go on."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from assay.bench.case import Preset
from assay.bench.cli.gate_progress import GateDisplay
from assay.bench.gate.harness import open_sides
from assay.bench.gate.pair import A, B, PairPlan
from assay.bench.gate.session import GateSession, Options
from assay.bench.gate.verdict import GateReport, GateVerdict
from assay.bench.measure.machine import identify_environment
from assay.bench.profiles import load_profile
from assay.bench.records.documents import write_whole
from benchmarks.gate_rig.injection import Change, add_layer, copy_project, slow_down
from benchmarks.gate_rig.live import Injection, Launches, LiveSession, name_session

CASES = (  # quick, steady, and of three families
    "affinity-v2/documented/train/smoke/closed/fp32",
    "tissuebert-region/documented/train/smoke/closed/fp32",
    "splice-validated/hidden128-layers6/train/smoke/closed/fp32",
)
LAYERED = CASES[2]  # whose network benchmarks.gate_rig.injection gives one layer more
REPETITIONS = 10
LAYER_REPETITIONS = 3
STILL_SECONDS, SLOW_SECONDS = 90.0, 270.0  # first guess of a session that screens, and of one that also confirms
ROUNDS, ROUND_SECONDS, WARM_UP_SECONDS = 8, 0.2, 3.0  # as `python -m bench gate` has them for the smoke preset

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Job:
    """One session to run."""

    injection: Injection
    slowdown: float | None
    case_id: str
    repetition: int

    @property
    def name(self) -> str:
        """Of its file."""
        return name_session(self.injection, self.slowdown, self.case_id, self.repetition)

    @property
    def injected(self) -> str:
        """In words."""
        return f"{self.injection} of {100 * self.slowdown:.0f} %" if self.slowdown else self.injection

    @property
    def change(self) -> Change | None:
        """What makes the candidate slower."""
        return add_layer if self.slowdown is None else slow_down(self.slowdown) if self.slowdown else None


def plan_jobs() -> list[Job]:
    """All sessions, mixed so that a proof that is stopped early has some of each."""
    jobs = []
    for n in range(REPETITIONS):
        case = CASES[n % len(CASES)]
        jobs += [Job("nothing", 0.0, each, n) for each in CASES]
        jobs += [Job("busy loop", slowdown, case, n) for slowdown in (0.10, 0.05)]
        jobs += [Job("extra layer", None, LAYERED, n)] if n < LAYER_REPETITIONS else []
    return jobs


def record_sessions(root: Path, folder: Path, jobs: Sequence[Job], budget_minutes: float) -> int:
    """Runs what is not in the folder yet until the budget is spent; returns how many sessions are still missing.

    A session on a machine that was not fit, or in which a side broke, is told and not stored; three in a row end the work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    began, unfit = time.monotonic(), 0
    seconds: dict[bool, list[float]] = {False: [], True: []}
    missing = [job for job in jobs if not (folder / job.name).exists()]
    while missing and time.monotonic() - began < 60 * budget_minutes and unfit < 3:
        job = missing[0]
        remaining = _estimate(missing, seconds) / 60
        console.print(f"{len(jobs) - len(missing) + 1}/{len(jobs)} {_describe(job)}; all of it takes about {remaining:.0f} minutes more", soft_wrap=True)
        started = time.monotonic()
        session = run_job(root, job)
        seconds[bool(job.change)].append(time.monotonic() - started)
        if session is None:
            unfit += 1
            continue
        unfit = 0
        write_whole(folder / job.name, session.model_dump_json(indent=None) + "\n")
        console.print(f"    {session.verdict}: {session.speed.reason}", markup=False, soft_wrap=True)
        missing = missing[1:]
    return len(missing)


def run_job(root: Path, job: Job) -> LiveSession | None:
    """One session of the product's own gate between two copies of the project. None when the machine was not fit."""
    with tempfile.TemporaryDirectory(prefix="assay-rig-") as place:
        sides = {"reference": copy_project(root, Path(place) / "reference"), "candidate": copy_project(root, Path(place) / "candidate")}
        if job.change is not None:
            job.change(sides["candidate"])
        session, report = _compare(root, sides, job.case_id, Path(place), seed=1000 + job.repetition)
    broken = [finding.reason for finding in report.findings if finding.verdict is GateVerdict.NOT_COMPARABLE]
    if report.faults or broken:
        why = f"the machine is not fit: {'; '.join(report.faults)}" if report.faults else "; ".join(broken)
        console.print(f"    not stored: {why}", markup=False, soft_wrap=True)
        return None
    pairs = tuple(Launches(reference=_shorten(pair.seconds[A]), candidate=_shorten(pair.seconds[B])) for pair in session.pairs)
    source = _identify_source(root)
    names = {"reference": source, "candidate": f"{source}, injected: {job.injected}"}  # not the names of folders that are gone
    named = {side: getattr(report, side).model_copy(update={"name": name}) for side, name in names.items()}
    return LiveSession(
        injection=job.injection, slowdown=job.slowdown, case_id=job.case_id, repetition=job.repetition, report=report.model_copy(update=named), pairs=pairs
    )


def _compare(root: Path, sides: Mapping[str, Path], case_id: str, logs: Path, *, seed: int) -> tuple[GateSession, GateReport]:
    profile = load_profile("cpu")
    options = Options(
        profile=profile,
        select=case_id,
        preset=Preset.SMOKE,
        budget_minutes=None,
        seeds=0,
        allow_inconclusive=False,
        results=root / "results",
    )
    with ExitStack() as stack:
        opened = stack.enter_context(open_sides(str(sides["reference"]), str(sides["candidate"]), root, gpu=False))
        display = stack.enter_context(GateDisplay(quiet=False))
        plan = PairPlan(
            sources=opened.sources,
            profile=profile,
            data=None,
            seed=seed,
            logs=logs,
            rounds=ROUNDS,
            round_seconds=ROUND_SECONDS,
            warm_up_seconds=WARM_UP_SECONDS,
            silence=120,
            across_environments=False,
            report=display.note,
        )
        session = GateSession(options, plan, display)
        return session, session.run()


def _shorten(seconds: Sequence[float]) -> tuple[float, ...]:
    """Seven digits are more than a round is good for."""
    return tuple(float(f"{each:.7g}") for each in seconds)


def _describe(job: Job) -> str:
    workload, variant, *_ = job.case_id.split("/")
    return f"{workload}/{variant}, injected: {job.injected}, repetition {job.repetition + 1}"


def _identify_source(root: Path) -> str:
    found = identify_environment(root, ())
    dirty = f" with changes {found.git_dirty_sha256[:16]}" if found.git_dirty_sha256 else ""
    return f"copy of {found.git_sha or 'a folder without git'}{dirty}"


def _estimate(missing: Sequence[Job], seconds: Mapping[bool, Sequence[float]]) -> float:
    guesses = {False: STILL_SECONDS, True: SLOW_SECONDS}
    means = {slow: sum(taken) / len(taken) if (taken := seconds[slow]) else guess for slow, guess in guesses.items()}
    return sum(means[bool(job.change)] for job in missing)
