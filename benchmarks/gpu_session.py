"""Everything that only a GPU can show, in half an hour or less: `python benchmarks/gpu_session.py --budget 8m`, or `make gpu-session BUDGET=8m`.

In this order: what the doctor says, the tests that need a GPU, attention and every workload against their peers (TissueBERT at several batches,
for its MFU), then cases, those first that decide a claim, and last what an earlier call began and did not end. Each part is done once: the same
command goes on where the last one ended, also on another machine with the same archive beside it. All that it made lies in the run's folder and
in the one archive, which `python -m bench import FILE` takes in elsewhere. To do a part anew, delete its .json or .xml in the run's documents.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from typer import Exit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.bench.case import ExitCode, Preset, UsageError
from assay.bench.cli.interruption import heed_termination
from assay.bench.formatting.numbers import format_duration
from assay.bench.measure.detection import choose_profile
from assay.bench.profiles import Profile
from assay.bench.records.store import RunStore
from assay.bench.running.archive import DOCUMENTS, take_in, write_archive
from assay.bench.running.budget import parse_budget

ROOT = Path(__file__).resolve().parents[1]
LEAST = 20.0  # s; nothing that starts torch on a GPU is done sooner
TERMINATED = 143  # of a run that SIGTERM ended
TESTS = 240.0  # s that the tests marked for a GPU are written to end within
PEER = 90.0  # s that one peer may take, so that none takes the time of all behind it
VERDICTS = (ExitCode.OK, ExitCode.VERDICT_FAILED)  # of tests and peers that ran to their end
GRACE = 10.0  # s between SIGTERM, on which a run records the cases under way, and SIGKILL
BATCHES = (32, 128, 256)  # of TissueBERT's sweep
PEERS = (
    ("attention-512", ("peer_attention.py", "--length", "512")),
    ("attention-2048", ("peer_attention.py", "--length", "2048")),
    *((f"tissuebert-{batch}", ("peer_tissuebert.py", "--batch", str(batch))) for batch in BATCHES),
    ("dnabert", ("peer_dnabert.py", "--layers", "12", "--sequences", "64")),
    ("hyenadna", ("peer_hyenadna.py", "--rows", "64", "--batch", "32")),
    ("training", ("peer_training.py",)),
    ("audiogram", ("peer_audiogram.py",)),
    ("splice-base", ("peer_splice_base.py",)),
)
CASES = (Preset.SCALE, Preset.STANDARD)  # documented sizes and the attention phase, then what data is there


@dataclass(frozen=True, slots=True)
class Part:
    """One command. kept: its file among the run's documents, by which it is known to be done; None for what every call does anew."""

    name: str
    command: Sequence[str]
    kept: Path | None = None
    most: float = float("inf")  # s that it may take; more means that it hangs

    @property
    def said(self) -> str:
        """Name of the file with what it printed, which is there from its start on."""
        return f"{self.name.replace(' ', '-')}.txt"


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a part. code: of its exit; None where it was not started or did not end in time."""

    name: str
    seconds: float
    ending: str
    code: int | None = None


def list_parts(profile: Profile, run: Path, data: Path | None, archive: Path, left: Callable[[], float]) -> Iterator[Part]:
    """The parts in their order. `left`: seconds of the budget, asked for when a part is about to begin."""
    bench = (sys.executable, "-m", "bench")
    yield Part("doctor", (*bench, "doctor", "--profile", profile.name))
    parts = [*list_measurements(profile.device, run / DOCUMENTS)]
    begun = [part for part in parts if (run / DOCUMENTS / part.said).exists() and not _is_done(part)]
    yield from (part for part in parts if part not in begun)
    for preset in CASES:
        where = ("--out", str(run.parents[1]), "--name", run.name, "--resume", "--archive", str(archive), *(("--data", str(data)) if data else ()))
        budget = ("--budget", f"{max(left() - LEAST, 1):.0f}s")
        yield Part(f"cases of {preset}", (*bench, "run", "--profile", profile.name, "--preset", preset, *budget, *where))
    yield from begun


def list_measurements(device: str, documents: Path) -> Iterator[Part]:
    """What is done once: the tests that need a GPU, then every peer."""
    tests = documents / "gpu-tests.xml"
    files = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*_on_gpu.py"))  # the others may need what no kit holds
    pytest = (sys.executable, "-m", "pytest", *files, "-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={tests}")
    yield Part("tests", pytest, tests, most=1.5 * TESTS)
    for name, (script, *options) in PEERS:
        kept = documents / f"peer-{name}.json"
        yield Part(f"peer {name}", (sys.executable, f"benchmarks/{script}", *options, "--device", device, "--json", str(kept)), kept, most=PEER)


def _is_done(part: Part) -> bool:
    return part.kept is not None and part.kept.exists()


def hold_session(parts: Iterable[Part], run: Path, archive: Path, left: Callable[[], float]) -> list[Done]:
    """Does every part that is not done yet while time is left, and writes the archive after each."""
    done: list[Done] = []
    for part in parts:
        seconds = left()
        if _is_done(part):
            done.append(Done(part.name, 0.0, "done before"))
        elif seconds < LEAST:
            done.append(Done(part.name, 0.0, "left for the next call"))
        else:
            print(f"== {part.name}, {format_duration(seconds)} left", flush=True)
            done.append(do_part(part, min(seconds, part.most), run / DOCUMENTS / part.said))
            if part.kept is not None and done[-1].code not in VERDICTS:
                part.kept.unlink(missing_ok=True)  # e.g. pytest's list of the tests that it could not even read
            if told := write_archive(archive, [run]):
                print(told, file=sys.stderr)
    return done


def do_part(part: Part, seconds: float, said: Path) -> Done:
    """Runs the command, shows what it prints and keeps it in `said`, and ends it, with all that it started, after so many seconds."""
    began = time.monotonic()
    with subprocess.Popen(
        part.command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as process:
        late = threading.Timer(seconds, _end_group, (process,))
        late.start()
        try:
            assert process.stdout is not None  # noqa: S101  # it is a pipe
            with said.open("wb") as kept:
                for line in process.stdout:
                    kept.write(line)
                    sys.stdout.buffer.write(line)
                    sys.stdout.flush()
            code = process.wait()
        finally:
            late.cancel()
            _end_group(process)
    took = time.monotonic() - began
    ended = took >= seconds and (code < 0 or code == TERMINATED)
    return Done(part.name, took, "ended: out of time", None) if ended else Done(part.name, took, "ok" if code == 0 else f"exit code {code}", code)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a part is left when this returns."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        os.killpg(process.pid, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None, started: float | None = None) -> int:
    """started: when the budget began to count, in seconds of the epoch; default: now.

    Exit codes: 0 all parts that ran ended well, 1 one did not, 2 wrong use, 130 after Ctrl-C, 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", default="8m", metavar="T", help="90s, 8m or 0.5h (default: %(default)s)")
    parser.add_argument("--profile", metavar="NAME", help="machine class; found out when left out")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of real data; without it, synthetic twins")
    parser.add_argument("--archive", type=Path, default=ROOT / "gpu-session.tar.gz", metavar="FILE", help="default: gpu-session.tar.gz in the project's folder")
    parser.add_argument("--results", type=Path, default=ROOT / "results", metavar="DIR", help="default: results")
    options = parser.parse_args(arguments)
    began = time.time() if started is None else started
    archive, results = options.archive.resolve(), options.results.resolve()  # the parts run in the project's folder
    try:
        seconds = parse_budget(options.budget)
        profile = choose_profile(options.profile)
        run = RunStore.create(results / "runs", f"gpu-session-{profile.name}").folder
        if archive.exists():  # of an earlier call, perhaps on another machine of the kind
            take_in(archive, results)
    except UsageError as error:
        parser.error(str(error))
    (run / DOCUMENTS).mkdir(exist_ok=True)

    def left() -> float:
        return seconds - (time.time() - began) - GRACE

    parts = list_parts(profile, run, options.data and options.data.resolve(), archive, left)
    try:
        with heed_termination(f"stopped; what was done is in {run} and in {archive}, the same command goes on"):
            done = hold_session(parts, run, archive, left)
    except Exit as stopped:
        write_archive(archive, [run])
        return stopped.exit_code
    print(f"\n{'part':<20} {'took':>8}  how it ended")
    for each in done:
        print(f"{each.name:<20} {format_duration(each.seconds):>8}  {each.ending}")
    print(f"all of it is in {archive}; `python -m bench import {archive.name}` takes it in elsewhere, the same command goes on")
    return 1 if any(each.code for each in done) else 0


if __name__ == "__main__":
    sys.exit(main(started=psutil.Process().create_time()))  # what it imported is of the budget too
