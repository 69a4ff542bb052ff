import os
import subprocess
import sys
import threading
import time

import pytest

from bench.measure.queueing import SCHEDSTAT, QueueClock

on_linux = pytest.mark.skipif(not SCHEDSTAT.exists(), reason="the kernel tells no waits for a core here")


def burn(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@on_linux
def test_time_that_a_neighbour_took_is_counted() -> None:
    """Two processes on one core: each gets half, so the wall time of fixed work doubles and the difference is the wait."""
    cores = os.sched_getaffinity(0)
    one = {min(cores)}
    code = f"import os; os.sched_setaffinity(0, {one}); print('on', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE) as neighbour:
        try:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
            os.sched_setaffinity(0, one)
            clock, began = QueueClock(), time.perf_counter()
            burn(0.2)
            wall, waited = time.perf_counter() - began, clock.stop()
        finally:
            os.sched_setaffinity(0, cores)
            neighbour.kill()
    assert wall > 0.25
    assert wall - waited == pytest.approx(0.2, rel=0.1)


@on_linux
def test_sleep_is_no_wait_for_a_core() -> None:
    clock, began = QueueClock(), time.perf_counter()
    time.sleep(0.05)
    assert time.perf_counter() - began - clock.stop() > 0.045


def test_a_process_that_may_have_waited_for_itself_counts_nothing(tmp_path) -> None:
    told = tmp_path / "schedstat"
    told.write_text("0 0 1\n")
    clock = QueueClock(told)
    burn(0.05)  # enough that the test runner's own threads are a trifle beside it
    told.write_text("0 50000000 2\n")
    assert clock.stop() == pytest.approx(0.05)
    clock.start()
    other = threading.Thread(target=burn, args=(0.02,))
    other.start()
    other.join()
    told.write_text("0 90000000 3\n")
    assert clock.stop() == 0


def test_a_kernel_that_does_not_tell(tmp_path) -> None:
    assert QueueClock(tmp_path / "none").stop() == 0
