"""The red team: candidates that try to look faster than they are. benchmarks/gate_rig/cheats.py lists them, and those that nothing catches."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from assay.bench.gate.harness import open_sides
from assay.bench.gate.line import Line
from assay.bench.gate.pair import B, PairPlan, start_line
from assay.bench.gate.pipe import ProcessPipe
from assay.bench.gate.protocol import Hello, Open, Warm, Warmed, Welcome
from assay.bench.gate.reference import Checkout, open_source
from assay.bench.gate.verdict import FindingKind, GateVerdict
from assay.bench.profiles import load_profile
from benchmarks.gate_rig.cheats import CHEATS, Mechanism, tabulate_cheats
from benchmarks.gate_rig.injection import copy_project
from tests.bench.gate.test_command import gate  # noqa: F401  # a fixture
from tests.bench.gate.test_history import FIRST
from tests.bench.gate.test_session import find
from tests.bench.gate.test_unsound import MACHINE, OPENED
from tests.conftest import ROOT
from tests.fakes import gate_worker
from tests.fakes.gate_worker import ORDINARY, STEP, FakeLaunch, FakePipe, FakeWorker

on_linux = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel keeps no such accounts here")
CASE = "affinity-v2/documented/train/smoke/closed/fp32"
WARM = Warm(round_seconds=0.05, max_seconds=1)


def refuse(report, *words):
    """Not comparable, with these words, and not for want of data."""
    finding = find(report, FindingKind.PRESENCE)
    assert (finding.verdict, finding.refused) == (GateVerdict.NOT_COMPARABLE, True)
    assert all(word in finding.reason for word in words), finding.reason
    assert report.model_copy(update={"allow_inconclusive": True}).exit_code == 3


def test_every_cheat_has_its_test_and_every_mechanism_three() -> None:
    tests = {name for name in globals() if name.startswith("test_") and "honest" not in name}
    tests -= {"test_every_cheat_has_its_test_and_every_mechanism_three", "test_the_page_has_today_s_list"}
    assert {cheat.test for cheat in CHEATS if cheat.test is not None} == tests
    for mechanism in Mechanism:
        assert len({cheat.what for cheat in CHEATS if cheat.mechanism is mechanism}) >= 3, mechanism


def test_the_page_has_today_s_list() -> None:
    page = (ROOT / "docs" / "gate.md").read_text()
    assert tabulate_cheats(caught=True) in page
    assert tabulate_cheats(caught=False) in page


@on_linux
def test_an_honest_process(compare) -> None:
    """A process like those below, without their tricks, is not refused."""
    report = compare("is honest", "is honest", seeds=0, budget=0.02)
    assert find(report, FindingKind.SPEED).verdict in (GateVerdict.INCONCLUSIVE, GateVerdict.EQUIVALENT)
    assert not any(finding.refused for finding in report.findings)


@pytest.mark.parametrize("fields", [{"began": 0.0, "ended": 0.1}, {"seconds": 0.1}, {"queued": 5.0}])
def test_a_duration_of_its_own(compare, fields) -> None:
    refuse(compare(FakeWorker(), FakeWorker(factor=1.5, changes={"timed": fields})), "no answer of the protocol")


@on_linux
@pytest.mark.parametrize("behaviour", ["works after its answer", "works after its warm-up", "works in a thread", "starts a child", "starts a daemon"])
def test_work_out_of_turn(compare, behaviour) -> None:
    refuse(compare("is honest", behaviour), "candidate cheated: computed for", "after its answer, in the other side's turn")


def test_answers_before_they_are_asked_for(compare) -> None:
    refuse(compare("is honest", "answers twice"), "spoke before it was asked")


def test_steps_that_train_nothing(compare) -> None:
    idle = FakeWorker(changes={"peaks": {"changed": False}})
    refuse(compare(FakeWorker(), idle), "took its steps and changed no weight")
    assert compare(idle, idle, seeds=0).exit_code == 0, "a frozen model trains nothing on either side"


@pytest.mark.parametrize("samples", [160, 90, 82])
def test_more_samples_than_the_batch_has(compare, samples) -> None:
    refuse(compare(FakeWorker(), FakeWorker(changes={"timed": {"samples": samples}})), f"says that {samples} samples went through a round of 10 steps of 8 each")


def test_a_larger_batch_of_a_closed_case(compare) -> None:
    larger = FakeWorker(changes={"opened": {"recipe": {"batch": 16}}, "timed": {"samples": 160}})
    finding = find(compare(FakeWorker(), larger), FindingKind.PRESENCE)
    assert finding.verdict is GateVerdict.NOT_COMPARABLE
    assert "recipe batch: 8 -> 16" in finding.reason


@pytest.mark.parametrize(("field", "value"), [("dataset", "easy"), ("dataset_sha256", "9" * 64), ("batch", 4), ("threads", 2), ("seed", 8), ("case", CASE)])
def test_another_key(compare, field, value) -> None:
    report = compare(FakeWorker(), FakeWorker(changes={"opened": {"comparability": OPENED["comparability"] | {field: value}}}))
    finding = find(report, FindingKind.PRESENCE)
    assert (finding.verdict, finding.refused) == (GateVerdict.NOT_COMPARABLE, field in ("seed", "case"))


def test_a_verdict_file_that_is_there_already(gate, tmp_path) -> None:  # noqa: F811
    files = {option: tmp_path / option for option in ("report", "junit", "markdown")}
    for path in files.values():
        path.write_text("all is well")
    done = gate("--reference", FIRST, *(word for option, path in files.items() for word in (f"--{option}", str(path))))
    assert done.exit_code == 0, done.output
    assert all("all is well" not in path.read_text() for path in files.values())


def test_files_that_change_meanwhile(compare) -> None:
    contents = iter(["before", "after"])
    report = compare(FakeWorker(), FakeWorker(factor=0.5), seeds=0, contents=lambda: next(contents))
    assert {finding.verdict for finding in report.findings} == {GateVerdict.NOT_COMPARABLE}
    assert report.findings[0].reason.startswith("files of the reference were changed while they were compared; withdrawn: improved")
    assert report.model_copy(update={"allow_inconclusive": True}).exit_code == 3


@on_linux
@pytest.mark.parametrize("behaviour", ["starts a child", "starts a daemon"])
def test_nothing_of_a_worker_stays_behind(tmp_path, behaviour) -> None:
    with meet(behaviour, tmp_path) as line:
        line.ask(WARM, Warmed)
        (worker,) = [child for child in psutil.Process().children() if behaviour in child.cmdline()]
        started = worker.children(recursive=True)
        assert len(started) == 1
    gone, alive = psutil.wait_procs(started, timeout=30)
    assert (len(gone), alive) == (1, [])


@on_linux
@pytest.mark.parametrize("behaviour", ["starts a child", "starts a daemon"])
def test_a_worker_that_waits_for_itself(tmp_path, behaviour) -> None:
    """Its child takes half of its core from it in the round: it waits, and that is nobody else's doing."""
    with meet(behaviour, tmp_path) as line:
        line.ask(WARM, Warmed)  # not `warm`: then what the child does between the rounds would be refused first
        timed = line.time_round(10)
    assert timed.seconds > 0.08, "of which the round itself takes 0.05 s"
    assert timed.waited == 0


def test_signs_of_life_in_a_round(compare) -> None:
    refuse(compare(FakeWorker(), "calls out"), "answered 'alive' where 'timed' was due")


def test_an_answer_in_pieces(monkeypatch) -> None:
    """The gate waits 5 s for a core at each piece but the last: while a worker is still computing, that is no excuse."""

    waited = [0.0]

    class Dribbling(FakePipe):
        def read(self, timeout):
            if timeout == 0 or not self._out:
                return None
            waited[0] += 5.0 * (len(self._out) > 1)
            piece, self._out = self._out[:1], self._out[1:]
            return piece

    monkeypatch.setattr("assay.bench.gate.line.read_own_wait", lambda: waited[0])
    monkeypatch.setattr("assay.bench.gate.line.time", gate_worker.CLOCK)
    monkeypatch.setattr(gate_worker.CLOCK, "runs", False)
    with Line(Dribbling(FakeLaunch(FakeWorker(spread=0), 0)), 60) as line:
        assert line.time_round(10).seconds == pytest.approx(STEP)


@pytest.mark.parametrize(("late", "queued"), [(0.5, 0.5), (0.0, 0.9)], ids=["after the answer", "while the worker ran"])
def test_an_honest_round_takes_its_time_however_long_the_gate_waits_for_a_core(monkeypatch, late, queued) -> None:
    """late: of a step's time, how much later than it came the answer is read; queued: how much of it the gate waited for a core."""
    waited = [0.0]

    class Late(FakePipe):
        def read(self, timeout):
            if timeout:
                gate_worker.CLOCK.skip(late * STEP)
                waited[0] += queued * STEP
            return super().read(timeout)

    monkeypatch.setattr("assay.bench.gate.line.read_own_wait", lambda: waited[0])
    monkeypatch.setattr("assay.bench.gate.line.time", gate_worker.CLOCK)
    monkeypatch.setattr(gate_worker.CLOCK, "runs", False)
    with Line(Late(FakeLaunch(FakeWorker(spread=0), 0)), 60) as line:
        assert line.time_round(10).seconds == pytest.approx(STEP)


def test_more_cores_than_threads(compare) -> None:
    refuse(compare(FakeWorker(), FakeWorker(factor=0.6, others=0.4 * STEP)), "took 1.7 cores in a round of a case with 1 thread")


@pytest.mark.parametrize("changed", [{"cores": frozenset({0})}, {"niceness": 19}, {"policy": 5}])
def test_workers_that_the_system_treats_differently(compare, changed) -> None:
    for other in (0, 1):
        sides = [FakeWorker(), FakeWorker()]
        sides[other].standing = lambda launch: replace(ORDINARY, **changed)
        refuse(compare(*sides), "the system did not treat the workers alike")
    if "cores" in changed and len(psutil.Process().cpu_affinity() or ()) > 1:
        refuse(compare("is honest", "pins itself"), "the system did not treat the workers alike")


@pytest.mark.parametrize("standing", [lambda launch: replace(ORDINARY, cores=frozenset({launch})), lambda launch: None], ids=["moved once", "not told"])
def test_honest_workers_that_the_system_moved(compare, standing) -> None:
    report = compare(FakeWorker(standing=lambda launch: standing(launch) if launch == 0 else ORDINARY), FakeWorker(), seeds=0)
    assert not any(finding.refused for finding in report.findings)
    assert find(report, FindingKind.SPEED).verdict is GateVerdict.EQUIVALENT


def test_an_honest_worker_on_a_kernel_that_books_by_ticks(compare) -> None:
    """One tick of 10 ms falls into a rest of each launch."""
    report = compare(FakeWorker(), FakeWorker(resting=lambda look: 0.01 * (look == 2)), seeds=0)
    assert not any(finding.refused for finding in report.findings)


def test_a_little_work_in_every_rest(compare) -> None:
    """As little as a tick would be, but each time."""
    refuse(compare(FakeWorker(), FakeWorker(resting=lambda look: 0.008 * (look % 2 == 0))), "in the other side's turn")


def test_a_gpu_that_is_held_down(compare, monkeypatch) -> None:
    monkeypatch.setattr("assay.bench.gate.session.identify_machine", lambda device: MACHINE)
    report = compare(FakeWorker(), FakeWorker(factor=0.8), profile="a40", later=["clocks: held by: applications_clocks_setting"], seeds=0)
    assert find(report, FindingKind.SPEED).verdict is GateVerdict.INVALID_MACHINE


@pytest.mark.parametrize("worker", ["absent", FakeWorker(answer=lambda request, _: {"kind": "failed", "outcome": "crash", "reason": "no such name"} if request["kind"] == "open" else None)])
def test_models_that_want_their_own_harness(compare, worker) -> None:
    refuse(compare(FakeWorker(), worker, borrowed=True), "merge the change of bench/ first, or trust it: --own-harness")
    assert find(compare(FakeWorker(), worker), FindingKind.PRESENCE).verdict is GateVerdict.REGRESSED


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    """A copy of the project, to be tampered with."""
    return copy_project(ROOT, tmp_path / "candidate")


def test_modules_beside_the_models(candidate, tmp_path) -> None:
    for name in ("torch.py", "sitecustomize.py", "usercustomize.py", "conftest.py", "pytest.ini", "assay/__init__.py"):
        (candidate / name).write_text("raise SystemExit('imported')\n")
    with open_sides(str(ROOT), str(candidate), ROOT, gpu=False) as sides:
        source = sides.sources[B]
        assert isinstance(source, Checkout)
        assert source.place is not None
        (package,) = source.place.iterdir()
        assert sorted(path.name for path in package.iterdir()) == ["__init__.py", "bench", "datasets", "docker", "models"]
        assert [*(package / "docker").rglob("*.py"), (package / "__init__.py").read_text()] == [(ROOT / "assay" / "__init__.py").read_text()]


def test_variables_of_the_interpreter(tmp_path, monkeypatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "sitecustomize.py"))
    monkeypatch.setattr("assay.bench.gate.reference.WORKER", ("-c", "import os; print(*[name for name in os.environ if name.startswith('PYTHON')], flush=True)"))
    with open_source(str(ROOT), ROOT, gpu=False) as source:
        pipe = source.start(tmp_path / "log", None)
        assert pipe.read(60) == b"\n"
        pipe.close()


def test_threads_that_keep_their_cores(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.setenv("KMP_BLOCKTIME", "infinite")
    code = "import os; print(*[os.environ.get(name) for name in ('OMP_WAIT_POLICY', 'GOMP_SPINCOUNT', 'KMP_BLOCKTIME')], flush=True)"
    monkeypatch.setattr("assay.bench.gate.reference.WORKER", ("-c", code))
    with open_source(str(ROOT), ROOT, gpu=False) as source:
        pipe = source.start(tmp_path / "log", None)
        assert pipe.read(60) == b"None None 1\n"
        pipe.close()


def test_an_interpreter_of_its_own(candidate) -> None:
    own = candidate / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\nexit 1\n")
    for trusted, python in ((False, sys.executable), (True, str(own))):
        with open_sides(str(ROOT), str(candidate), ROOT, gpu=False, own_environments=trusted) as sides:
            source = sides.sources[B]
            assert isinstance(source, Checkout)
            assert source.python == python
            assert any("environments of their own" in note for note in sides.notes) == trusted


@dataclass(frozen=True)
class Attempt:
    """What the gate and the test itself saw of a round of a tampered candidate."""

    seconds: float  # by the gate
    worked: float  # CPU seconds of the worker, by the test
    trained: bool
    log: str
    notes: tuple[str, ...]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attempt]:
    """One launch of a real candidate whose own harness takes no step and whose models slow all clocks down."""
    folder = tmp_path_factory.mktemp("attempt")
    candidate = copy_project(ROOT, folder / "candidate")
    clock = candidate / "bench" / "measure" / "clock.py"
    clock.write_text(clock.read_text().replace("        samples += step()\n", "        samples += 128\n"))
    patch = "import sys, time\n_real = time.monotonic\ntime.monotonic = time.perf_counter = lambda: _real() / 2\nprint('clocks are patched', file=sys.stderr)\n"
    training = candidate / "models" / "training.py"
    training.write_text(training.read_text().replace("import time\n", patch))
    with open_sides(str(ROOT), str(candidate), ROOT, gpu=False) as sides:
        plan = PairPlan(
            sources=sides.sources, profile=load_profile("cpu"), data=None, seed=42, logs=folder, rounds=1, round_seconds=0.05, warm_up_seconds=1, silence=120,
            across_environments=False, report=lambda _: None,
        )  # fmt: skip
        with start_line(plan, B, "attempt") as line:
            line.greet()
            line.open(Open(case=CASE, profile="cpu", seed=42))
            line.warm(WARM)
            (worker,) = [child for child in psutil.Process().children() if "assay.bench.gate.start" in child.cmdline()]
            before = worker.cpu_times()
            seconds = line.time_round(40).seconds
            after = worker.cpu_times()
            trained = line.read_peaks().changed
            yield Attempt(seconds, sum(after[:2]) - sum(before[:2]), trained, (folder / f"attempt.{B}.log").read_text(), sides.notes)


def test_patched_clocks(attempt) -> None:
    assert "clocks are patched" in attempt.log
    assert attempt.worked > 0.1, "less could be the steps in which CPU time is counted"
    assert attempt.seconds > 0.75 * attempt.worked, "by its own clocks it was half"


def test_an_altered_harness(attempt) -> None:
    assert attempt.notes == ("bench/ differs between the sides; the candidate is run by the reference's",)
    assert attempt.trained, "by its own harness, no step is taken"


def meet(behaviour: str, folder: Path) -> Line:
    """A process that behaves like that, greeted."""
    line = Line(ProcessPipe([sys.executable, "-S", gate_worker.__file__, behaviour], folder, {"PYTHONPATH": str(ROOT)}, folder / "log"), 60)
    assert line.ask(Hello(), Welcome).protocol
    return line
