"""Whether samples/s of timed steps are those of the training itself, for recipes that accumulate batches.

    python benchmarks/timed_as_trained.py [--rounds 7] [--updates 2] [CASE ...]

Alternates in one process: optimiser updates as a case times them (`step`) and as `fit` takes them, the first of each left out as its warm-up.
Prints the ratio with its interval; ends with 1 where a median is off by more than a tenth.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from platformdirs import user_cache_path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from assay.bench.case import Case, Quantity  # noqa: E402
from assay.bench.measure.clock import median_interval, run_round  # noqa: E402
from assay.bench.registry import get_workload  # noqa: E402
from assay.models.workload import Resources, Session  # noqa: E402

CASES = ("tissuebert-file/bottleneck2048/train/scale/closed/fp32", "splice-hyenadna/tiny-1k/train/scale/closed/fp32")
TOLERANCE = 0.1


class Seen(Exception):
    """The training has taken the updates that were to be timed."""


def time_steps(session: Session, device: torch.device, updates: int) -> float:
    """Samples/s of so many steps, after one more."""
    session.step()
    began = time.perf_counter()
    samples = run_round(session.step, device, updates)
    return samples / (time.perf_counter() - began)


def time_training(session: Session, batch: int, accumulate: int, updates: int) -> float:
    """Samples/s of so many updates of `fit`, after its first one. Raises ValueError where the first epoch has too few whole ones."""
    began = ended = 0.0
    first, last = accumulate, (updates + 1) * accumulate

    def watch(done: int, _total: int, _note: str) -> None:
        nonlocal began, ended
        if done == first:
            began = time.perf_counter()
        elif done == last:
            ended = time.perf_counter()
            raise Seen

    if (updates + 1) * accumulate * batch > session.card.rows["train"]:  # only whole updates of one epoch are alike
        raise ValueError(f"{session.card.rows['train']} training rows are fewer than {updates + 1} updates of {accumulate} x {batch}: give fewer --updates")
    try:
        session.fit(watch)
    except Seen:
        return updates * accumulate * batch / (ended - began)
    raise RuntimeError("the training ended before the updates that its rows make up")


def compare(case: Case, device: torch.device, rounds: int, updates: int) -> Quantity:
    """Timed over trained samples/s."""
    workload = get_workload(case.workload)
    session = workload.open(case, Resources(device=device, data=None, batch=None, seed=42, cache=user_cache_path("assay")))
    recipe = workload.recipe(case)["training"]
    assert isinstance(recipe, dict)  # noqa: S101  # every recipe that accumulates has one
    ratios = []
    for number in range(rounds):
        order = [lambda: time_steps(session, device, updates), lambda: time_training(session, recipe["batch"], recipe["accumulate"], updates)]
        turns = (0, 1) if number % 2 else (1, 0)
        speeds = {turn: order[turn]() for turn in turns}
        ratios.append(speeds[0] / speeds[1])
    interval = median_interval(ratios)
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    return Quantity(sorted(ratios)[rounds // 2], "", rounds, low, high, f"median of {rounds} rounds of {updates} updates of {recipe['accumulate']} batches")


def main() -> int:
    """Prints a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=CASES, metavar="CASE", help=f"ids of cases that accumulate (default: {' '.join(CASES)})")
    parser.add_argument("--rounds", type=int, default=7, help="an interval takes 6 (default: 7)")
    parser.add_argument("--updates", type=int, default=2, help="timed in a round (default: 2)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    worst = 0.0
    for name in options.cases:
        ratio = compare(Case.parse(name), torch.device(options.device), options.rounds, options.updates)
        assert ratio.value is not None  # noqa: S101
        bounds = "" if ratio.low is None else f" [{ratio.low:.2f}, {ratio.high:.2f}]"
        print(f"{name}: timed {ratio.value:.2f}{bounds} times as fast as trained; {ratio.how}", flush=True)
        worst = max(worst, abs(ratio.value - 1))
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
