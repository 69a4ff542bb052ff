"""Inference throughput of the DNABERT encoder on a ragged batch against plain attention: `python benchmarks/peer_dnabert.py`.

Three lanes with the same weights and the same sequences, in float32: the peer pads everything and materialises the bias (plain_dnabert.py);
the published way runs the suite's unpadded layers around padded, materialised attention; the suite runs unpadded attention too. Embeddings
must agree before anything is timed. Exit code 1 when the suite surely does not keep what benchmarks.contest.judge asks of it, its aim of
3 times the peer on a CPU included.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run as a script, from the checkout

from assay.models.dnabert.attention.registry import AttentionKind
from assay.models.dnabert.network import DnabertEncoder, EncoderConfig, pack, pool_mean
from benchmarks.contest import Contest, Entry, Lane
from benchmarks.contest_command import Place, make_parser, open_place, run_contests
from benchmarks.plain_dnabert import encode_padded, pool_padded

AIM = 3.0
"""Times the peer's throughput that the suite is to reach on a CPU."""
TOLERANCE = 1e-4
FIRST_WORD = 5  # ids below are special tokens
WAYS = {
    Lane.PEER: "padded, bias materialised",
    Lane.PUBLISHED: "layers unpadded, attention padded",
    Lane.OPEN: "unpadded, sdpa by length",
}
Embed = Callable[[], Tensor]


class Embeddings(nn.Module):
    """What a lane leaves behind."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values


def prepare(layers: int, sequences: int, shortest: int, longest: int, seed: int = 0, place: Place | None = None) -> Contest:
    """One batch of log-uniform lengths, the longest among them, at the published width. Raises ValueError when the lanes disagree."""
    place = place or open_place("cpu")
    torch.manual_seed(seed)
    drawn = np.exp(np.random.default_rng(seed).uniform(np.log(shortest), np.log(longest), sequences)).astype(np.int64)
    drawn[0] = longest
    lengths = torch.from_numpy(drawn)
    lanes = make_lanes(EncoderConfig(layers=layers), lengths, longest, place.device)
    check_agreement(lanes)
    padding = 1 - int(lengths.sum()) / (sequences * longest)
    return Contest(
        name=f"dnabert {layers} layers, {padding:.0%} pad",
        unit="sequences",
        samples=sequences,
        lanes={lane: Entry(run=_leave_embeddings(embed), how=WAYS[lane]) for lane, embed in lanes.items()},
        agreement=f"embeddings agree within {TOLERANCE:g}, checked before timing",
        aim=AIM,
        device=place.device,
        profile=place.profile,
    )


def make_lanes(config: EncoderConfig, lengths: Tensor, longest: int, device: torch.device) -> Mapping[Lane, Embed]:
    """Each lane's way to mean embeddings [B, hidden] of random tokens; lengths: int64 [B]."""
    ids = torch.randint(FIRST_WORD, config.vocabulary, (len(lengths), longest)).to(device)
    there = lengths.to(device)
    encoders = {kind: DnabertEncoder(config, kind).eval().to(device) for kind in (AttentionKind.EAGER, AttentionKind.SDPA)}
    weights = encoders[AttentionKind.EAGER].state_dict()
    encoders[AttentionKind.SDPA].load_state_dict(weights)

    def embed(kind: AttentionKind) -> Tensor:
        tokens, packing = pack(ids, lengths)
        return pool_mean(encoders[kind](tokens, packing), packing)

    def embed_plainly() -> Tensor:
        with device:  # its masks and biases are made where the tokens are
            return pool_padded(encode_padded(weights, ids, there, config.heads), there)

    return {Lane.PEER: embed_plainly, Lane.PUBLISHED: lambda: embed(AttentionKind.EAGER), Lane.OPEN: lambda: embed(AttentionKind.SDPA)}


def check_agreement(lanes: Mapping[Lane, Embed]) -> None:
    """Raises ValueError when a lane's embeddings differ from the peer's by more than 1e-4."""
    with torch.inference_mode():
        reference = lanes[Lane.PEER]()
        for lane in (Lane.PUBLISHED, Lane.OPEN):
            difference = float((lanes[lane]() - reference).abs().max())
            if difference > TOLERANCE:
                raise ValueError(f"{WAYS[lane]}: embeddings differ by {difference:.2g} from the peer's; nothing to compare")


def _leave_embeddings(embed: Embed) -> Callable[[int], nn.Module]:
    def run(_: int) -> nn.Module:
        with torch.inference_mode():
            return Embeddings(embed())

    return run


def main(arguments: list[str] | None = None) -> int:
    """Runs the contest, prints the table and returns the exit code."""
    parser = make_parser(__doc__)
    parser.add_argument("--layers", type=int, default=2, metavar="N", help="layers; all are alike, the published models have 12 (default: 2)")
    parser.add_argument("--sequences", type=int, default=16, metavar="N", help="sequences of the batch (default: 16)")
    parser.add_argument("--longest", type=int, default=512, metavar="N", help="tokens of the longest sequence, at least 16 (default: 512)")

    def prepare_one(options: Namespace, place: Place) -> Iterator[Contest]:
        if options.longest < 16:
            parser.error("--longest must be at least 16")
        yield prepare(options.layers, options.sequences, 16, options.longest, place=place)

    return run_contests(parser, prepare_one, arguments)


if __name__ == "__main__":
    sys.exit(main())
