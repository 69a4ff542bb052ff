"""How long a large store of records takes to become a leaderboard, and how much memory.

    python benchmarks/store_scale.py [--records 100000] [--json]

Makes a store in a temporary folder from real evaluation records of results/, chained by hash like any other: runs of 100 records, each
record of one of sixty cases on one of twelve GPUs, every value of its own. Each reading is a process of its own; what is timed is reading
and checking, the leaderboard, and then all three pages; the start of Python with its imports stands beside it. Files are in the
system's cache.

first reading   no index: every file is read, validated and its place in the chain verified
nothing new     the index of the first reading is there
one new record  the same after `RunStore.append`
plain way       json.loads and pydantic for every file, all kept, then the same pages; the chain is not even verified

Memory is the peak of all processes together, pages that they share counted for each.
CPU s is what all processes used together: where others use the machine, half of it is nearer to what two free cores would take.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from assay.bench.records.index import SETTLED_NS  # noqa: E402
from assay.bench.records.store import RunStore, read_record  # noqa: E402

TEMPLATES = sorted((ROOT / "results" / "runs").glob("*/*.eval.standard.closed.fp32.json"))
RUN_LENGTH = 100
GPUS = 12
CASES = 60

READER = """
import json, resource, sys, threading, time
from pathlib import Path
import psutil
sys.path.insert(0, {root!r})

def read_plainly(results):
    paths = sorted(results.glob("runs/*/*.json"))
    return Ledger([Record.model_validate(json.loads(path.read_bytes())) for path in paths], {{}}, {{}}, len(paths), len(paths))

def watch_memory(peaks, stop):
    own = psutil.Process()
    while not stop.wait(0.1):  # not ru_maxrss of children: they inherit their parent's
        try:
            peaks.append(sum(process.memory_info().rss for process in (own, *own.children(recursive=True))))
        except psutil.NoSuchProcess:
            continue

def use_cpu():
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in usage)

if __name__ == "__main__":  # processes that check records import this file too
    began = time.perf_counter()
    from assay.bench.records.index import Ledger, read_ledger
    from assay.bench.records.record import Record
    from assay.bench.registry import load_workloads
    from assay.bench.claims.documented import find_claims, load_claims
    from assay.bench.report import write_pages
    from assay.bench.report.leaderboard import render_leaderboard
    load_workloads()
    peaks, stop = [], threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(peaks, stop))
    watcher.start()
    imported, used = time.perf_counter(), use_cpu()
    results = Path({results!r})
    ledger = {read}(results)
    read = time.perf_counter()
    render_leaderboard(ledger.records, load_claims(find_claims(results)), ledger.heads, results, frozenset(ledger.faults), [])
    ranked = time.perf_counter()
    write_pages(results, ledger)
    done = time.perf_counter()
    rows = sum(line.startswith("|") for line in (results / "LEADERBOARD.md").read_text().splitlines())
    found = {{"import_s": imported - began, "read_s": read - imported, "leaderboard_s": ranked - read, "all_pages_s": done - ranked, "cpu_s": use_cpu() - used}}
    stop.set()
    watcher.join()
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found |= {{"peak_bytes": max(own, *peaks), "files": ledger.files, "checked": ledger.read_again}}
    print(json.dumps(found | {{"table_lines": rows, "faults": len(ledger.faults)}}))
"""


def make_store(results: Path, records: int) -> None:
    """Writes `records` valid, chained records below results/runs. Without fsync: a benchmark's store may be lost."""
    templates = [record for path in TEMPLATES if (record := json.loads(path.read_bytes()))["outcome"] == "ok"]
    began = datetime.fromisoformat(templates[0]["ended"])
    for first in range(0, records, RUN_LENGTH):
        run = f"run{first // RUN_LENGTH:05d}"
        folder = results / "runs" / run
        folder.mkdir(parents=True)
        previous = None
        for sequence in range(min(RUN_LENGTH, records - first)):
            number = first + sequence
            record = _vary(templates[number % CASES % len(templates)], number) | {"run": run, "sequence": sequence, "previous_sha256": previous}
            record["ended"] = (began + timedelta(minutes=number)).isoformat()
            content = json.dumps(record, indent=1).encode()
            case = ".".join(record["case"][word] for word in ("workload", "variant", "phase", "preset", "division", "precision"))
            (folder / f"{sequence:04d}-{case}.json").write_bytes(content)
            previous = hashlib.sha256(content).hexdigest()


def _vary(template: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Another case on another GPU with values of its own."""
    gpu, case = f"NVIDIA Test {number // CASES % GPUS}", f"size{number % CASES}"
    scale = 1 + number % 997 / 1e5

    def rescale(quantities: Mapping[str, object]) -> dict[str, object]:
        return {
            name: {key: value * scale if isinstance(value, float) else value for key, value in quantity.items()} if isinstance(quantity, dict) else quantity
            for name, quantity in quantities.items()
        }

    return dict(template) | {
        "case": template["case"] | {"variant": case},
        "comparability": template["comparability"] | {"device": gpu},
        "machine": template["machine"] | {"gpu": gpu},
        "quality": rescale(template["quality"]),
        "measurements": rescale(template["measurements"]),
    }


def read_store(results: Path, read: str) -> dict[str, float]:
    """One reading in a process of its own."""
    script = results / "reader.py"
    script.write_text(READER.format(root=str(ROOT), results=str(results), read=read))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare_readings(results: Path, *, plain: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and measurements of each reading, in the order of the module's description."""
    time.sleep(SETTLED_NS / 1e9)  # the index watches files that are older than this
    yield "first reading", read_store(results, "read_ledger")
    yield "nothing new", read_store(results, "read_ledger")
    store = RunStore(sorted((results / "runs").iterdir())[-1])
    store.append(read_record(store.paths()[-1]))
    yield "one new record", read_store(results, "read_ledger")
    if plain:
        yield "plain way", read_store(results, "read_plainly")


def main() -> None:
    """Prints one line per reading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--no-plain", action="store_true", help="leave out the plain way, which takes several GB at full size")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = Path(tempfile.mkdtemp(prefix="assay-store-"))
    try:
        make_store(results, options.records)
        size = sum(path.stat().st_size for path in results.glob("runs/*/*.json"))
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if not options.json:
            print(f"{options.records:,} records, {size / 1e6:,.0f} MB in runs of {RUN_LENGTH}; {cores} cores, Python {sys.version.split()[0]}")
            heading = f"{'':16}{'read and check s':>18}{'ranked s':>10}{'together s':>12}{'all pages s':>13}{'CPU s':>8}"
            print(f"{heading}{'memory GB':>11}{'import s':>10}{'checked':>10}{'rows':>8}")
        for name, found in compare_readings(results, plain=not options.no_plain):
            if options.json:
                print(json.dumps({"reading": name} | found))
                continue
            line = f"{name:16}{found['read_s']:18.2f}{found['leaderboard_s']:10.2f}{found['read_s'] + found['leaderboard_s']:12.2f}"
            line += f"{found['all_pages_s']:13.2f}{found['cpu_s']:8.1f}{found['peak_bytes'] / 1e9:11.2f}"
            print(f"{line}{found['import_s']:10.2f}{found['checked']:10,.0f}{found['table_lines']:8,.0f}", flush=True)
    finally:
        shutil.rmtree(results)


if __name__ == "__main__":
    main()
