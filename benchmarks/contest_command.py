"""The command line of every side-by-side script: its common options, its table, its JSON document and its exit code."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from assay.bench.case import ExitCode, Quantity, UsageError
from assay.bench.measure.machine import identify_machine
from assay.bench.profiles import Profile, load_profile, match_gpu
from assay.bench.records.documents import write_whole
from benchmarks.contest import Contest, Lane, Result, compete, judge

STANDARD_OUTPUT = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contest is held."""

    device: torch.device
    profile: Profile


Prepare = Callable[[argparse.Namespace, Place], Iterable[Contest]]


def make_parser(description: str | None, rounds: int = 9) -> argparse.ArgumentParser:
    """--rounds, --threads, --device and --json; a script adds its own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, metavar="N", help=f"rounds per contest (default: {rounds}; an interval takes 6)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1, so that other programs on the machine disturb least)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument("--json", nargs="?", const=STANDARD_OUTPUT, metavar="FILE", help="one JSON document: into FILE beside the table, or instead of it")
    return parser


def run_contests(parser: argparse.ArgumentParser, prepare: Prepare, arguments: list[str] | None) -> int:
    """Holds the contests that `prepare` makes of the options, prints what they gave and returns the exit code."""
    options = parser.parse_args(arguments)
    for name, value in vars(options).items():
        if isinstance(value, int) and value < 1:
            parser.error(f"--{name} must be at least 1")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    torch.set_num_threads(options.threads)
    try:
        place = open_place(options.device)
    except UsageError as error:
        parser.error(str(error))
    results: list[Result] = []
    for contest in prepare(options, place):
        print(f"{contest.name}: {options.rounds} rounds of {len(contest.lanes)} lanes ...", file=sys.stderr, flush=True)
        results += compete(contest, options.rounds)
    failures = [judge(result) for result in results]
    if options.json != STANDARD_OUTPUT:
        print(format_table(results))
    if options.json is not None:
        script = Path(parser.prog).name
        text = json.dumps(describe(script, options, place, results), indent=1, allow_nan=False)
        print(text) if options.json == STANDARD_OUTPUT else write_whole(Path(options.json), text + "\n")
    return ExitCode.VERDICT_FAILED if any(failures) else ExitCode.OK


def open_place(device: str) -> Place:
    """The device with its profile; raises UsageError for a GPU without one."""
    if device == "cpu":
        return Place(torch.device("cpu"), load_profile("cpu"))
    return Place(torch.device("cuda"), match_gpu(torch.cuda.get_device_name(0)))


def describe(script: str, options: argparse.Namespace, place: Place, results: list[Result]) -> dict[str, object]:
    """The document of one run: where and how it was measured, and every lane's result with what it does not keep."""
    machine = identify_machine(place.device)
    return {
        "script": script,
        "options": {name: value for name, value in vars(options).items() if name != "json"},
        "device": machine.gpu or machine.cpu,
        "cores": machine.cores,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "taken": datetime.now(UTC).date().isoformat(),
        "results": [asdict(result) | {"aim_met": result.aim_met, "failures": judge(result)} for result in results],
    }


def format_table(results: list[Result]) -> str:
    """The results as fixed-width text, and below them why a figure is missing."""
    lines = [f"{'workload':<24} {'lane':<13} {'':<5} {'throughput':>20}  {'against the peer':<21} {'loss ratio':<21} {'memory':>10} {'MFU':>6}  verdict"]
    for result in results:
        speed = f"{result.samples_per_s.value:,.1f} {result.samples_per_s.unit}"
        memory = "-" if result.peak_memory.value is None else f"{result.peak_memory.value / 1e6:,.1f} MB"
        mfu = "-" if result.mfu.value is None else f"{result.mfu.value:.1%}"
        head = f"{result.workload:<24} {result.lane:<13} {result.precision:<5} {speed:>20}  {format_ratio(result.speed_ratio):<21}"
        lines.append(f"{head} {format_ratio(result.loss_ratio):<21} {memory:>10} {mfu:>6}  {format_verdict(result)}")
    reasons = {quantity.reason for result in results for quantity in (result.peak_memory, result.mfu, result.loss_ratio) if quantity.reason}
    ways = {f"{result.workload}, {result.lane}: {result.how}" for result in results if result.how}
    return "\n".join([*lines, *sorted(ways), *(f"-: {reason}" for reason in sorted(reasons))])


def format_ratio(ratio: Quantity) -> str:
    """`1.302 [1.196, 1.324]`, without the brackets where there is no interval, `-` where there is no ratio."""
    if ratio.value is None:
        return "-"
    return f"{ratio.value:.3f}" + ("" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]")


def format_verdict(result: Result) -> str:
    """What the lane does not keep, else ok; and whether it reaches its aim."""
    if result.lane is Lane.PEER:
        return "reference"
    aim = "" if result.aim is None else f"aim {result.aim:.3g}x {'met' if result.aim_met else 'missed'}"
    found = ", ".join(judge(result)) or ("ok" if result.speed_ratio.low is not None else "too few rounds")
    return "; ".join(filter(None, (found, aim)))
