"""Whether this commit makes the harness itself slower: rounds of a step that does nothing, judged as the gate judges a case.

    python benchmarks/gate_overhead.py --reference HEAD~1 --candidate HEAD [--json]

Two live processes, one in each checkout, alternate rounds in random order; their d go through the gate's two stages. Exit codes are the
gate's: 0 no slower, 1 slower, 2 wrong use, 3 could not be judged.
"""

from __future__ import annotations

import argparse
import random
import selectors
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from assay.bench.case import ExitCode, UsageError  # noqa: E402
from assay.bench.gate.reference import Checkout, open_source  # noqa: E402
from assay.bench.gate.statistics import CONFIRM, SCREEN, NotARatio, value_pair  # noqa: E402
from assay.bench.gate.verdict import Finding, GateVerdict, Values, decide, looks_slower  # noqa: E402

CASE = "harness/empty-step"
ROUNDS, STEPS = 8, 100_000
SILENCE = 120.0  # s; importing torch from a cold disk takes long, a round does not
# given on the command line, so that checkouts from before this file can be the reference
WORKER = """
import sys, time, torch
try:
    from assay.bench.measure.clock import run_round
except ModuleNotFoundError:  # before bench/ was a part of assay
    from bench.measure.clock import run_round
device = torch.device("cpu")
for line in sys.stdin:
    began = time.perf_counter()
    run_round(lambda: 1, device, int(line))
    print(time.perf_counter() - began, flush=True)
"""


class Rounds:
    """A process in a checkout that times rounds when asked."""

    def __init__(self, folder: Path, silence: float = SILENCE) -> None:
        self._silence = silence
        self._process = subprocess.Popen([sys.executable, "-c", WORKER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Rounds:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def time(self, steps: int) -> float:
        """Seconds of one round. Raises UsageError where the checkout's clock does not run, or never comes back."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("started without pipes")
        try:
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it ended; the empty answer below says so
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self._silence):
                raise UsageError(f"a checkout's run_round of bench/measure/clock.py gave no answer for {self._silence:g} s")
        answer = self._process.stdout.readline()
        if not answer:
            raise UsageError("a checkout's run_round of bench/measure/clock.py does not run; what it printed stands above")
        return float(answer)


def measure_pair(reference: Path, candidate: Path, coin: random.Random, rounds: int, steps: int) -> float:
    """d of one launch pair."""
    seconds: tuple[list[float], list[float]] = ([], [])
    with Rounds(reference) as a, Rounds(candidate) as b:
        sides = [(a, seconds[0]), (b, seconds[1])]
        for side, _ in sides:
            side.time(steps)  # warms up
        for _ in range(rounds):
            coin.shuffle(sides)
            for side, taken in sides:
                taken.append(side.time(steps))
    return value_pair(*seconds)


def judge_overhead(reference: Path, candidate: Path, seed: int, rounds: int = ROUNDS, steps: int = STEPS) -> Finding:
    """The gate's two stages."""
    coin = random.Random(seed)
    screen = [measure_pair(reference, candidate, coin, rounds, steps) for _ in range(SCREEN.pairs)]
    fresh = [measure_pair(reference, candidate, coin, rounds, steps) for _ in range(CONFIRM.pairs)] if looks_slower(screen) else []
    (finding,) = decide({CASE: Values(screen, fresh)})
    return finding


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the finding; exit code 1 when it is a regression, 3 when there is none to be had."""
    parser = argparse.ArgumentParser(description="Whether a commit makes the harness itself slower.")
    parser.add_argument("--reference", default="HEAD~1", metavar="REF", help="a git ref or a folder")
    parser.add_argument("--candidate", default="HEAD", metavar="REF", help="a git ref or a folder")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a line")
    options = parser.parse_args(arguments)
    try:
        with ExitStack() as stack:
            reference, candidate = (_open_folder(stack, name) for name in (options.reference, options.candidate))
            finding = judge_overhead(reference, candidate, options.seed)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return ExitCode.WRONG_USE
    except NotARatio as error:
        print(f"{GateVerdict.NOT_COMPARABLE}: {CASE}: {error}", file=sys.stderr)
        return ExitCode.INCONCLUSIVE
    print(finding.model_dump_json(indent=1) if options.json else f"{finding.verdict}: {CASE}: {finding.reason}")
    if finding.verdict is GateVerdict.REGRESSED:
        return ExitCode.VERDICT_FAILED
    return ExitCode.OK if finding.verdict in (GateVerdict.EQUIVALENT, GateVerdict.IMPROVED) else ExitCode.INCONCLUSIVE


def _open_folder(stack: ExitStack, name: str) -> Path:
    source = stack.enter_context(open_source(name, ROOT, gpu=False))
    if not isinstance(source, Checkout):
        raise UsageError(f"{name}: an image has no folder to run in here; name a git ref or a folder")
    return source.folder


if __name__ == "__main__":
    sys.exit(main())
