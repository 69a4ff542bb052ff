"""`bench gate` as a process that somebody stops: no worker, no worktree and no half of a verdict stays behind."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, heed_interrupts

CASE = "affinity-v2/documented/train/smoke/closed"


def is_worker(process: psutil.Process) -> bool:
    """False also for what has just ended: a gate starts git as well, and a process may be a zombie between two looks."""
    try:
        return "assay.bench.gate.start" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


@contextmanager
def gate_under_way(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A gate of HEAD against itself whose temporary files go to `folder`/tmp, once both workers have measured something."""
    (folder / "tmp").mkdir()
    command = [sys.executable, "-m", "bench", "gate", "--reference", "HEAD", "--candidate", "HEAD", "--select", CASE, "--profile", "cpu", "--results", str(folder / "results")]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    try:
        gate, until = psutil.Process(process.pid), time.monotonic() + 300
        workers: list[psutil.Process] = []
        while len(workers) < 2 or min(sum(worker.cpu_times()[:2]) for worker in workers) < 2:  # imports take less
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until, "no workers after 300 s"
            time.sleep(0.1)
            workers = [child for child in gate.children(recursive=True) if is_worker(child)]
        yield process, workers
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_who_is_stopped_ends_the_workers_and_stores_nothing(tmp_path, number, code):
    with gate_under_way(tmp_path) as (process, workers):
        process.send_signal(number)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == code, output
        assert "interrupted; nothing was judged and nothing was stored" in " ".join(output.split())
        assert "Traceback" not in output
        assert [worker for worker in workers if worker.is_running()] == []
    assert list((tmp_path / "tmp").iterdir()) == []  # logs and worktrees
    assert str(tmp_path) not in subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [path for path in (tmp_path / "results").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("checkout")
def test_workers_of_a_killed_gate_end_by_themselves(tmp_path):
    with gate_under_way(tmp_path) as (process, workers):
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=300)
        assert alive == []
    shutil.rmtree(tmp_path / "tmp")  # who is killed leaves its worktrees, as any program
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
