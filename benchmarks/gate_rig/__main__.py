"""The proof of the gate: `python -m benchmarks.gate_rig` simulates and replays, `--live` runs real sessions first; both write docs/gate.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import vl_convert
from rich.console import Console
from rich.progress import track

from assay.bench.case import ExitCode
from benchmarks.gate_rig.live import collect_rounds, pool_values, read_sessions
from benchmarks.gate_rig.noise import MODELS
from benchmarks.gate_rig.page import plot_rules, render_page
from benchmarks.gate_rig.proof import Proof, Trace, prove
from benchmarks.gate_rig.requirements import judge_live, judge_proof

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results" / "gate"
REPLAYED = 60  # recorded launch pairs of a case; fewer say too little about a machine


def make_proof(sessions: int, seed: int, results: Path) -> Proof:
    """Simulates and replays, with a progress bar, and stores the counts in `results`/proof.json."""
    live = read_sessions(results / "live")
    recorded = {case: d for case, d in pool_values(live).items() if len(d) >= REPLAYED}
    traces = [
        Trace(f"replay of {case.split('/')[0]}", f"{len(d)} recorded launch pairs of {case}", d, collect_rounds(live, case)) for case, d in recorded.items()
    ]
    bar = Console(stderr=True)
    done = list(track(prove(sessions, seed, traces), "proving", total=len(MODELS) + len(traces), console=bar))
    proof = Proof(seed=seed, sessions=sessions, machines=tuple(m for m, _ in done), counts=tuple(c for _, counts in done for c in counts))
    results.mkdir(parents=True, exist_ok=True)
    (results / "proof.json").write_text(proof.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return proof


def write_page(proof: Proof, results: Path, docs: Path) -> None:
    """docs/gate.md with its plot, and the requirements on the terminal."""
    live = read_sessions(results / "live")
    (docs / "gate.md").write_text(render_page(proof, live), encoding="utf-8")
    (docs / "gate.svg").write_text(vl_convert.vegalite_to_svg(plot_rules(proof)), encoding="utf-8")
    for requirement in (*judge_proof(proof), *judge_live(live)):
        asked, measured, met = requirement.row
        print(f"{met.strip('*'):12} {asked}\n{'':12} {measured}")
    print(f"wrote {docs / 'gate.md'}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code: 0, or 3 while live sessions are still missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gate_rig",
        description="Proves the regression gate and writes docs/gate.md.",
        epilog="example: python -m benchmarks.gate_rig --live --budget 60",
    )
    parser.add_argument("--sessions", type=int, default=4000, help="simulated sessions for each machine and slowdown (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the simulation (default: %(default)s)")
    parser.add_argument("--live", action="store_true", help="first run the live sessions that are missing; each is stored when it ends")
    parser.add_argument("--budget", type=float, default=240, metavar="MINUTES", help="start no live session after that (default: %(default)s)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where proof.json and live/ are")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", metavar="DIR", help="where gate.md and gate.svg go")
    options = parser.parse_args(arguments)
    missing = 0
    if options.live:
        from benchmarks.gate_rig.recorder import plan_jobs, record_sessions

        try:
            missing = record_sessions(ROOT, options.results / "live", plan_jobs(), options.budget)
        except KeyboardInterrupt:
            print("interrupted; every finished session is stored. Go on with the same command", file=sys.stderr)
            return 130
        if missing:
            print(f"{missing} live sessions are missing; go on with the same command", file=sys.stderr)
    write_page(make_proof(options.sessions, options.seed, options.results), options.results, options.docs)
    return ExitCode.INCONCLUSIVE if missing else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
