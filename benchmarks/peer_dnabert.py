"""Inference throughput of the DNABERT encoder on a ragged batch against plain attention: `python benchmarks/peer_dnabert.py`.

Three lanes with the same weights and the same sequences: the peer pads everything and materialises the bias (plain_dnabert.py); the
published way runs the suite's unpadded layers around padded, materialised attention; the suite runs unpadded attention too. Lanes alternate
in one process, in random order within each round, and ratios are taken within a round. Embeddings must agree before anything is timed.
Exit code 1 when the suite is slower than the aim against the peer, with its whole interval, or when embeddings differ.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from bench.case import ExitCode, Quantity
from benchmarks.peer_training import take_median
from benchmarks.plain_dnabert import encode_padded, pool_padded
from models.dnabert.attention.registry import AttentionKind
from models.dnabert.network import DnabertEncoder, EncoderConfig, pack, pool_mean

AIM = 3.0  # times the peer's throughput
TOLERANCE = 1e-4
FIRST_WORD = 5  # ids below are special tokens


class Lane(StrEnum):
    """Who embeds, and how."""

    PEER = "padded, bias materialised"
    PUBLISHED = "layers unpadded, attention padded"
    OURS = "assay, sdpa by length"


@dataclass(frozen=True, slots=True)
class Contest:
    """Lanes made ready on one batch; each returns mean embeddings [B, hidden]."""

    description: str
    sequences: int
    embed: Mapping[Lane, Callable[[], Tensor]]


@dataclass(frozen=True, slots=True)
class Result:
    """Throughput of one lane, and its ratio to the peer of the same round; above 1 is faster."""

    lane: Lane
    sequences_per_s: Quantity
    ratio: Quantity


def prepare(layers: int, sequences: int, shortest: int, longest: int, seed: int = 0) -> Contest:
    """One batch of log-uniform lengths, the longest among them, at the published width. Raises ValueError when the lanes disagree."""
    torch.manual_seed(seed)
    drawn = np.exp(np.random.default_rng(seed).uniform(np.log(shortest), np.log(longest), sequences)).astype(np.int64)
    drawn[0] = longest
    lengths = torch.from_numpy(drawn)
    config = EncoderConfig(layers=layers)
    ids = torch.randint(FIRST_WORD, config.vocabulary, (sequences, longest))
    encoders = {kind: DnabertEncoder(config, kind).eval() for kind in (AttentionKind.EAGER, AttentionKind.SDPA)}
    weights = encoders[AttentionKind.EAGER].state_dict()
    encoders[AttentionKind.SDPA].load_state_dict(weights)

    def embed(kind: AttentionKind) -> Tensor:
        tokens, packing = pack(ids, lengths)
        return pool_mean(encoders[kind](tokens, packing), packing)

    lanes: dict[Lane, Callable[[], Tensor]] = {
        Lane.PEER: lambda: pool_padded(encode_padded(weights, ids, lengths, config.heads), lengths),
        Lane.PUBLISHED: lambda: embed(AttentionKind.EAGER),
        Lane.OURS: lambda: embed(AttentionKind.SDPA),
    }
    padding = 1 - int(lengths.sum()) / ids.numel()
    described = f"{sequences} sequences, log-uniform {shortest} to {longest} tokens, {padding:.0%} padding, {layers} layers of {config.hidden}, float32"
    contest = Contest(described, sequences, lanes)
    check_agreement(contest)
    return contest


def check_agreement(contest: Contest) -> None:
    """Raises ValueError when a lane's embeddings differ from the peer's by more than 1e-4."""
    with torch.inference_mode():
        reference = contest.embed[Lane.PEER]()
        for lane in (Lane.PUBLISHED, Lane.OURS):
            difference = float((contest.embed[lane]() - reference).abs().max())
            if difference > TOLERANCE:
                raise ValueError(f"{lane}: embeddings differ by {difference:.2g} from the peer's; nothing to compare")


def compete(contest: Contest, rounds: int, seed: int = 0) -> list[Result]:
    """Every lane once a round, in random order."""
    order = random.Random(seed)
    seconds: dict[Lane, list[float]] = {lane: [] for lane in Lane}
    with torch.inference_mode():
        for _ in range(rounds):
            for lane in order.sample(list(Lane), len(Lane)):
                began = time.perf_counter()
                contest.embed[lane]()
                seconds[lane].append(time.perf_counter() - began)
    return [
        Result(
            lane,
            take_median([contest.sequences / s for s in seconds[lane]], "sequences/s"),
            take_median([peer / own for peer, own in zip(seconds[Lane.PEER], seconds[lane], strict=True)], "x peer"),
        )
        for lane in Lane
    ]


def falls_short(results: list[Result]) -> bool:
    """Whether the suite's whole interval lies below the aim; too few rounds for an interval cannot tell."""
    ours = next(result for result in results if result.lane is Lane.OURS)
    return ours.ratio.high is not None and ours.ratio.high < AIM


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds (default: 9; an interval takes 6)")
    parser.add_argument("--layers", type=int, default=2, metavar="N", help="layers; all are alike, the published models have 12 (default: 2)")
    parser.add_argument("--sequences", type=int, default=16, metavar="N", help="sequences of the batch (default: 16)")
    parser.add_argument("--longest", type=int, default=512, metavar="N", help="tokens of the longest sequence (default: 512)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="torch threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    options = parser.parse_args(arguments)
    if min(options.rounds, options.layers, options.sequences, options.threads) < 1 or options.longest < 16:
        parser.error("--rounds, --layers, --sequences and --threads must be at least 1, --longest at least 16")
    torch.set_num_threads(options.threads)
    contest = prepare(options.layers, options.sequences, 16, options.longest)
    results = compete(contest, options.rounds)
    if options.json:
        print(json.dumps({"batch": contest.description, "results": [asdict(result) for result in results]}, indent=1, allow_nan=False))
    else:
        print(contest.description)
        for result in results:
            interval = "" if result.ratio.low is None else f" [{result.ratio.low:.2f}, {result.ratio.high:.2f}]"
            print(f"{result.lane:<36} {result.sequences_per_s.value:>8.2f} sequences/s  {result.ratio.value:.2f} x peer{interval}")
    return ExitCode.VERDICT_FAILED if falls_short(results) else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
