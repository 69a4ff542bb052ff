"""Batches in which every mouse meets another one of its gene."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from assay.datasets.card import DataError

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class PairedBatch:
    """Rows of one step, and for each the position within the batch of a mouse of the same gene (its own where it has none)."""

    rows: Array  # [B]
    partner: Array  # [B]


class ContrastiveSampler:
    """Parts mice into batches: once an epoch each, and never less than two mice of a gene in a batch.

    A gene's mice are shuffled into pairs (and one triple where their number is odd), pairs and single mice are shuffled together, and
    batches end between pairs. `genes` [n] are labels; an empty label is a control, which has no partner.

    singles: what to do with genes of one mouse: "refuse" raises DataError that names one, "unpaired" treats them as controls.
    """

    def __init__(self, genes: Array, batch: int, source: Path | str, singles: Literal["refuse", "unpaired"] = "refuse") -> None:
        if batch < 3:  # between a single mouse and a triple, a batch of two would have to be one or four
            raise ValueError(f"a batch of {batch} is too small for pairs and triples of a gene; take 3 or more")
        names, member, counts = np.unique(genes, return_inverse=True, return_counts=True)
        lonely = names[(counts == 1) & (names != "")]
        if len(lonely) and singles == "refuse":
            shown = ", ".join(map(str, lonely[:3])) + (", ..." if len(lonely) > 3 else "")
            remedy = "Leave these genes out or give more of their mice: the contrastive loss compares mice of one gene"
            raise DataError(source, f"{len(lonely)} genes have one mouse only ({shown})", remedy)
        paired = (counts > 1) & (names != "")
        self.genes = np.where(paired[member], member, -1 - np.arange(len(genes)))  # [n] int64; negative and its own: no partner
        self.pairs, self.singles = int(paired.sum()), len(lonely)  # genes with and without a second mouse
        self._batch = batch

    def draw(self, random: np.random.Generator) -> Sequence[PairedBatch]:
        """The batches of one epoch; a batch is at most one mouse larger or smaller than asked for, the last two aside."""
        order, chunk = self._shuffle(random)
        starts = np.flatnonzero(np.r_[True, chunk[1:] != chunk[:-1]])
        ends = np.r_[starts[1:], len(order)]
        size = (ends - starts)[np.cumsum(np.r_[False, chunk[1:] != chunk[:-1]])]
        first = np.repeat(starts, ends - starts)
        partner = first + (np.arange(len(order)) - first + 1) % size
        edges = self._cut(ends)
        return [PairedBatch(order[a:b], partner[a:b] - a) for a, b in itertools.pairwise(edges)]

    def _shuffle(self, random: np.random.Generator) -> tuple[Array, Array]:
        """Rows in an order in which chunks (pairs, triples, single mice) are contiguous, and each row's chunk."""
        n = len(self.genes)
        by_gene = np.lexsort((random.random(n), self.genes))
        genes = self.genes[by_gene]
        start = np.flatnonzero(np.r_[True, genes[1:] != genes[:-1]])
        count = np.diff(np.r_[start, n])
        rank, total = np.arange(n) - np.repeat(start, count), np.repeat(count, count)
        pair = np.minimum(rank // 2, total // 2 - 1)  # the odd one joins the last pair
        opens = np.where(genes < 0, True, (rank % 2 == 0) & (rank // 2 == pair))
        chunk = np.cumsum(opens) - 1
        place = random.permutation(int(chunk[-1]) + 1)[chunk]
        shuffled = np.argsort(place, kind="stable")
        return by_gene[shuffled], place[shuffled]

    def _cut(self, ends: Array) -> list[int]:
        """Batch edges on chunk ends; a tail too small to train on joins the batch before it."""
        edges = [0]
        while edges[-1] + self._batch < ends[-1]:
            edges.append(int(ends[np.searchsorted(ends, edges[-1] + self._batch + 1, side="right") - 1]))
        edges.append(int(ends[-1]))
        if len(edges) > 2 and edges[-1] - edges[-2] < 2:
            del edges[-2]
        return edges
