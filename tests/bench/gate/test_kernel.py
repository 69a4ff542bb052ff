"""What the kernel says of a process: whose the time was for which it did not run, and what it has started."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assay.bench.gate.kernel import Usage, count_wait, find_tree, read_own_wait, read_standing, read_usage

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel keeps no such accounts here")
ONE = {min(os.sched_getaffinity(0))} if hasattr(os, "sched_getaffinity") else {0}
BURN = f"import os, time\nos.sched_setaffinity(0, {ONE})\nprint('on', flush=True)\n"
FOREVER = "while True: pass\n"
FIXED = "input()\nuntil = time.thread_time() + 0.2\nwhile time.thread_time() < until: pass\nprint('done', flush=True)\ninput()\n"


@contextmanager
def process(code: str) -> Iterator["subprocess.Popen[str]"]:
    """Started, and pinned to one core."""
    with subprocess.Popen([sys.executable, "-S", "-c", BURN + code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "on\n"
            yield started
        finally:
            started.kill()


def measure(worker: "subprocess.Popen[str]") -> tuple[float, float]:
    """Seconds of its fixed work of 0.2 s, and how long it waited in them."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    before, began = read_usage(worker.pid), time.monotonic()
    worker.stdin.write("\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"
    seconds, after = time.monotonic() - began, read_usage(worker.pid)
    assert before is not None
    assert after is not None
    assert after.ran - before.ran == pytest.approx(0.2, rel=0.1)
    return seconds, count_wait(before, after, seconds)


def test_time_that_a_neighbour_took_is_counted() -> None:
    """Two processes on one core: each gets half, so the wall time of fixed work doubles and the difference is the wait."""
    with process(FOREVER), process(FIXED) as worker:
        own = read_own_wait()
        seconds, waited = measure(worker)
        own = read_own_wait() - own
    assert seconds > 0.25
    assert seconds - waited - own == pytest.approx(0.2, rel=0.2)


def test_sleep_is_no_wait_for_a_core() -> None:
    with process("import time\ninput()\ntime.sleep(0.5)\n" + FIXED.replace("input()\n", "", 1)) as worker:
        seconds, waited = measure(worker)
    assert seconds - waited > 0.65


@pytest.mark.parametrize(
    ("ran", "main", "waited", "counted"),
    [
        (1.0, 1.0, 0.5, 0.5),
        (1.01, 1.0, 0.5, 0.5),  # an interpreter's other threads
        (1.1, 1.0, 0.5, 0.0),  # it may have waited for them
        (1.0, 1.0, 1.5, 1.0),  # no more than the round has beside its work
        (2.0, 2.0, 0.5, 0.0),
        (-0.5, 0.1, 0.5, 0.0),  # a child got out of its accounts
    ],
)
def test_what_counts_as_a_wait(ran: float, main: float, waited: float, counted: float) -> None:
    assert count_wait(Usage(5.0, 5.0, 5.0), Usage(5.0 + ran, 5.0 + main, 5.0 + waited), 2.0) == pytest.approx(counted)


def test_children_and_what_they_used_are_its_own() -> None:
    code = "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-S', '-c', 'import time\\nwhile time.thread_time() < 0.2: pass\\ninput()'])\nprint('up', flush=True)\nchild.wait()\n"
    with process(code) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "up\n"
        while (usage := read_usage(worker.pid)) is not None and usage.ran - usage.main < 0.2:
            assert worker.poll() is None
        first, second = find_tree(worker.pid)
        assert first == worker.pid
        os.kill(second, 9)
        worker.wait(60)


def test_a_process_that_is_gone_has_no_accounts() -> None:
    with process("") as ended:
        ended.wait(60)
    assert read_usage(ended.pid) is None
    assert read_standing(ended.pid) is None


def test_standing() -> None:
    with process("input()") as worker:
        assert str(read_standing(worker.pid)) == f"cores {min(ONE)}, niceness {os.nice(0)}, scheduling policy 0"
