import shutil
import sys
import types
from types import SimpleNamespace

import numpy as np
import pytest

from assay.bench.gate.presence import judge_mismatch
from assay.models.splice.encoder import GatedEncoder
from benchmarks.gate_rig import recorder
from benchmarks.gate_rig.injection import ENCODER, TRAINING, add_layer, copy_project, replace_once, slow_down
from benchmarks.gate_rig.recorder import CASES, plan_jobs, record_sessions, run_job
from tests.benchmarks.test_gate_rig import record
from tests.conftest import ROOT


def copy_file(name, folder):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / name, folder / name)


@pytest.fixture
def load_module(monkeypatch):
    def load(path):
        module = types.ModuleType(f"injected_{path.stem}")
        monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
        exec(compile(path.read_text(), path, "exec"), module.__dict__)
        return module

    return load


def test_a_busy_loop_takes_its_share_of_each_step(tmp_path, load_module):
    copy_file(TRAINING, tmp_path)
    slow_down(0.10)(tmp_path)
    module = load_module(tmp_path / TRAINING)
    now = 0.0

    def read_clock():
        nonlocal now
        now += 0.001
        return now

    def step():
        nonlocal now
        now += 5.0
        return 32

    module.time = SimpleNamespace(thread_time=read_clock)
    session = SimpleNamespace(_undisturbed_step=step)
    assert module.TrainingSession.step(session) == 32
    assert now == pytest.approx(5.5, abs=0.005)


def test_an_extra_layer_is_one_block_more(tmp_path, load_module):
    copy_file(ENCODER, tmp_path)
    add_layer(tmp_path)
    injected = load_module(tmp_path / ENCODER).GatedEncoder(8, 6, 0.1)
    assert len(injected.blocks) == len(GatedEncoder(8, 6, 0.1).blocks) + 1 == 7


def test_a_slowdown_that_cannot_be_injected_is_an_error(tmp_path):
    (tmp_path / "x.py").write_text("a\na\n")
    with pytest.raises(ValueError, match="2 times, not once"):
        replace_once(tmp_path / "x.py", "a\n", "b")


def test_a_copy_is_a_checkout(tmp_path):
    copy = copy_project(ROOT, tmp_path / "copy")
    assert (copy / "bench" / "gate" / "worker.py").is_file()
    assert (copy / "docker" / "cpu" / "requirements.txt").read_bytes() == (ROOT / "docker" / "cpu" / "requirements.txt").read_bytes()
    assert not list(copy.rglob("__pycache__"))


def test_the_plan_has_all_that_is_asked_for():
    jobs = plan_jobs()
    assert len({job.name for job in jobs}) == len(jobs)
    assert {case: sum(job.slowdown == 0 and job.case_id == case for job in jobs) for case in CASES} == dict.fromkeys(CASES, 10)
    assert [sum(job.slowdown == slowdown for job in jobs) for slowdown in (0.05, 0.10, None)] == [10, 10, 3]


def test_recording_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    random = np.random.default_rng(4)
    done = []

    def run(root, job):
        done.append(job)
        if len(done) == 3:
            raise KeyboardInterrupt
        return None if len(done) == 2 else record(job.slowdown, job.case_id, job.repetition, random)

    monkeypatch.setattr(recorder, "run_job", run)
    jobs = plan_jobs()[:3]
    with pytest.raises(KeyboardInterrupt):
        record_sessions(ROOT, tmp_path, jobs, budget_minutes=5)
    assert [path.name for path in tmp_path.iterdir()] == [jobs[0].name], "the second was on a machine that was not fit, the third was interrupted"
    assert record_sessions(ROOT, tmp_path, jobs, budget_minutes=0) == 2
    assert record_sessions(ROOT, tmp_path, jobs, budget_minutes=5) == 0
    assert done == [jobs[0], jobs[1], jobs[1], jobs[1], jobs[2]]


def test_a_machine_that_stays_unfit_ends_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(recorder, "run_job", lambda root, job: None)
    assert record_sessions(ROOT, tmp_path, plan_jobs()[:2], budget_minutes=5) == 2


@pytest.mark.parametrize("broken", ["a side", "the machine", None])
def test_a_session_in_which_something_broke_is_not_stored(monkeypatch, capsys, broken):
    whole = record(0.0, CASES[0], 0, np.random.default_rng(4)).report
    finding = judge_mismatch(CASES[0], "the packages of one side are gone")
    told = {"a side": whole.model_copy(update={"findings": (*whole.findings, finding)}), "the machine": whole.model_copy(update={"faults": ("too hot",)})}
    monkeypatch.setattr(recorder, "copy_project", lambda root, target: target)
    monkeypatch.setattr(recorder, "_compare", lambda *_, **__: (SimpleNamespace(pairs=[]), told.get(broken, whole)))
    assert (run_job(ROOT, plan_jobs()[0]) is None) == (broken is not None)
    if broken:
        assert "not stored: " in capsys.readouterr().err
