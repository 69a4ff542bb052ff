"""A gate session between two fake workers, from plan to report."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay.bench.case import Preset
from assay.bench.gate.pair import A, B, PairPlan
from assay.bench.gate.pipe import Pipe, ProcessPipe
from assay.bench.gate.reference import Source
from assay.bench.gate.session import GateSession, Options
from assay.bench.gate.verdict import GateReport, Side
from assay.bench.profiles import load_profile
from tests.conftest import ROOT
from tests.fakes import gate_worker
from tests.fakes.gate_worker import CLOCK, FakePipe, FakeWorker


@dataclass
class FakeSource:
    side: Side
    worker: FakeWorker | str  # a string: a process that behaves like that
    contents: Callable[[], str] = lambda: "the same"

    def start(self, log: Path, data: Path | None) -> Pipe:
        if isinstance(self.worker, str):
            return ProcessPipe([sys.executable, "-S", gate_worker.__file__, self.worker], log.parent, {"PYTHONPATH": str(ROOT)}, log)
        return FakePipe(self.worker.launch())

    def locate(self, data: Path | None) -> str | None:
        return None

    def copy_harness(self, to: Path) -> Path:
        raise NotImplementedError

    def lay_out(self, harness: Path, place: Path, *, own_environment: bool) -> Source:
        raise NotImplementedError

    def hash_contents(self) -> str:
        return self.contents()


class Notes:
    """A display that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []
        self.pairs = 0

    def start(self, case: str, stage: str, total: int) -> None:
        self.stages.append(stage)

    def advance(self, values) -> None:
        self.pairs += 1

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def compare(tmp_path: Path, notes: Notes, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GateReport]:
    """compare(reference, candidate, ...) -> report. Workers are FakeWorker, or the name of a process's behaviour."""
    monkeypatch.setattr("assay.bench.gate.line.time", CLOCK)

    def run(
        reference, candidate, *, seeds=10, budget=None, faults=(), later=(), notes_of_load=(), profile="cpu", across_environments=False, silence=10.0,
        borrowed=False, allow_inconclusive=False, contents=lambda: "the same",
    ) -> GateReport:
        CLOCK.runs = isinstance(reference, str) or isinstance(candidate, str)
        if not CLOCK.runs:
            monkeypatch.setattr("assay.bench.gate.line.read_own_wait", lambda: 0.0)
        sources = {
            A: FakeSource(Side(name="main", identity="0" * 40), reference, contents),
            B: FakeSource(Side(name="pull", identity="1" * 40), candidate),
        }
        plan = PairPlan(
            sources=sources, profile=load_profile(profile), data=None, seed=7, logs=tmp_path, rounds=5, round_seconds=0.2, warm_up_seconds=1,
            silence=silence, across_environments=across_environments, borrowed=borrowed, report=notes.note,
        )
        options = Options(
            profile=load_profile(profile), select="", preset=Preset.SMOKE, budget_minutes=budget, seeds=seeds, allow_inconclusive=allow_inconclusive, results=tmp_path
        )
        looks = iter([list(faults), list(later)])
        session = GateSession(options, plan, notes, find_faults=lambda profile, results: next(looks), note_load=lambda profile: list(notes_of_load))
        return session.run()

    return run
