"""Synthetic twin of SpliceVarDB: its schema, class shares and sizes, with planted donor and acceptor motifs.

A Splice-altering variant breaks or completes a splice-site motif at the centre of its window; how much it changes depends on which
of two grades the motif has. A known share of the classes is planted the wrong way round, so that no model can be perfect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from assay.datasets.card import DatasetIdentity, identify_twin
from assay.datasets.genome import N, complement, encode_bases, reverse_complement
from assay.datasets.splice_variants import BaseDeltas, SpliceVariants, TargetRecipe, make_targets
from assay.datasets.splice_windows import WINDOW
from assay.datasets.splicevardb import SHARES

Array = np.ndarray

DOCUMENTED_ROWS = sum(SHARES.values())
SILENT_SHARE = 0.2
"""Splice-altering variants without a planted motif: nothing in their sequence tells them from Normal."""
DECOY_SHARE = 0.1
"""Normal variants with a planted motif: a base model would call them, the experiment did not."""
MIN_LENGTH = 41
GENES_PER_CHROMOSOME = 40

_TEST_ROWS = {1: 433, 0: 292}
"""Splice-altering and Normal rows of chr21 and chr22 at the documented size: 725 together."""
_STRENGTH = (0.8, 0.45)
"""Mean probability of the splice site in the sequence that has its motif, by grade."""
_SPREAD = 0.15
"""Largest departure of a row's site probability from its grade's mean; the sequence does not show it."""
_MOTIFS = (("CAGGTAAGT", "TGCGTCTCA"), ("TTTTTTTTTTTTCAGG", "TGTACTCTATGACAGA"))
"""Donor and acceptor motifs by grade; GT opens the donor's intron, AG ends the acceptor's."""
_SITE = (3, 13)
"""Index of the G of GT, and of the A of AG, in the motifs."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Per row: has it a motif, which one (donor 0, acceptor 1), its grade, whether it is gained, and which of its two bases changes."""

    planted: Array
    site: Array
    grade: Array
    gained: Array
    second: Array


def identify_splice_twin(rows: int, length: int, seed: int, recipe: TargetRecipe) -> DatasetIdentity:
    """Identity of the twin that `make_splice_twin` would generate."""
    return identify_twin("splice-twin", rows=rows, length=length, seed=seed, targets=str(recipe))


def make_splice_twin(rows: int, length: int = WINDOW, seed: int = 0, recipe: TargetRecipe = TargetRecipe.DOCUMENTED) -> SpliceVariants:
    """A twin of `rows` table rows (at most 50,715), of which the Splice-altering and Normal ones, about half, become variants.

    length: odd, from 41 nt. The notes of what comes back tell the best AUROC and the best Pearson correlation over Splice-altering
    rows that any function of the sequences can expect. Raises ValueError for a size or length that cannot be.
    """
    if not 0 < rows <= DOCUMENTED_ROWS or length < MIN_LENGTH or length % 2 == 0:
        raise ValueError(f"a splice twin has 1 to {DOCUMENTED_ROWS} rows of an odd length from {MIN_LENGTH} nt, got {rows} rows of {length} nt")
    random = np.random.default_rng(seed)
    counts = {name: max(1, round(rows * share / DOCUMENTED_ROWS)) for name, share in SHARES.items()}
    label = np.repeat(np.array([1, 0], dtype=np.int8), [counts["Splice-altering"], counts["Normal"]])
    n = len(label)
    plan = _Plan(
        planted=random.random(n) < np.where(label == 1, 1 - SILENT_SHARE, DECOY_SHARE),
        site=random.integers(0, 2, n),
        grade=random.integers(0, 2, n),
        gained=random.random(n) < 0.5,
        second=random.integers(0, 2, n),
    )
    reference, alternative = _plant(plan, n, length, random)
    chromosome, gene, strand = _place(label, random)
    deltas = _score(plan, strand, random)
    against = strand[:, None] < 0
    centre = np.full(n, length // 2)
    bases = reference[:, length // 2], alternative[:, length // 2]
    target = make_targets(recipe, label, deltas)
    twin = SpliceVariants(
        # sequences were planted along the gene: a table of coordinates shows the plus strand
        reference=np.where(against, reverse_complement(reference), reference),
        alternative=np.where(against, reverse_complement(alternative), alternative),
        position=centre,
        reference_base=np.where(strand < 0, complement(bases[0]), bases[0]),
        alternative_base=np.where(strand < 0, complement(bases[1]), bases[1]),
        label=label,
        target=target,
        chromosome=chromosome,
        gene=gene,
        strand=strand,
        identity=identify_splice_twin(rows, length, seed, recipe),
        path=f"splice twin of {rows} rows, seed {seed}",
        source="synthetic twin of SpliceVarDB",
        licence="generated",
        dropped={name: counts[name] for name in ("Low-frequency", "Conflicting")},
        notes=(f"synthetic {length}-nt sequences", f"targets: {recipe} recipe", _describe_ceiling(plan, strand, label, target)),
    )
    return twin.orient() if recipe is TargetRecipe.CORRECTED else twin


def _plant(plan: _Plan, n: int, length: int, random: np.random.Generator) -> tuple[Array, Array]:
    intact = random.integers(0, N, (n, length), dtype=np.uint8)
    centre = length // 2
    changed = random.integers(1, N, n, dtype=np.uint8)  # steps from the present base to another one
    for site, motifs in enumerate(_MOTIFS):
        for grade, motif in enumerate(motifs):
            codes = encode_bases(motif)
            rows = np.flatnonzero(plan.planted & (plan.site == site) & (plan.grade == grade))
            first = centre - _SITE[site] - plan.second[rows]
            intact[rows[:, None], first[:, None] + np.arange(len(codes))] = codes
    broken = intact.copy()
    broken[:, centre] = (intact[:, centre] + changed) % N
    gained = plan.gained[:, None]
    return np.where(gained, broken, intact), np.where(gained, intact, broken)


def _place(label: Array, random: np.random.Generator) -> tuple[Array, Array, Array]:
    n = len(label)
    number = random.integers(1, 21, n)
    for value, held in _TEST_ROWS.items():
        rows = np.flatnonzero(label == value)
        share = held / SHARES["Splice-altering" if value else "Normal"]
        tested = random.permutation(rows)[: max(1, round(len(rows) * share))]
        number[tested] = random.integers(21, 23, len(tested))
    gene_number = number * GENES_PER_CHROMOSOME + random.integers(0, GENES_PER_CHROMOSOME, n)
    strand_of = random.choice(np.array([1, -1], dtype=np.int8), 23 * GENES_PER_CHROMOSOME)
    return np.char.add("chr", number.astype(str)), np.char.add("GENE", gene_number.astype(str)), strand_of[gene_number]


def _score(plan: _Plan, strand: Array, random: np.random.Generator) -> BaseDeltas:
    n = len(strand)
    faint = random.uniform(0.01, 0.1, n)
    strength = np.where(plan.planted, np.array(_STRENGTH)[plan.grade] + random.uniform(-_SPREAD, _SPREAD, n), faint)
    with_site = np.zeros((n, 3))
    with_site[np.arange(n), np.where(plan.site == 0, 2, 1)] = strength  # channels: neither, acceptor, donor
    with_site[:, 0] = 1 - strength
    without = np.tile([1.0, 0.0, 0.0], (n, 1))
    sign = np.where(plan.gained, 1.0, -1.0)[:, None]
    single = sign * (with_site - without)
    double = sign * (_softmax(with_site) - _softmax(without))
    along = strand[:, None] > 0
    wrong_strand = random.normal(0, 1e-3, (n, 3))
    return BaseDeltas(
        plus=np.where(along, single, wrong_strand), minus=np.where(along, wrong_strand, single), double=np.where(along, double, wrong_strand), strand=strand
    )


def _softmax(scores: Array) -> Array:
    grown = np.exp(scores)
    total: Array = grown / grown.sum(axis=1, keepdims=True)
    return total


def _describe_ceiling(plan: _Plan, strand: Array, label: Array, target: Array) -> str:
    """What a sequence shows is whether a motif is planted, its grade and its strand; nothing else carries information."""
    visible = np.where(plan.planted, 1 + plan.grade + 2 * (strand < 0) + 4 * plan.site, 0)
    altering = label == 1
    size = np.abs(target[altering]).max(axis=1).astype(float)
    mean = np.array([size[visible[altering] == cell].mean() if (visible[altering] == cell).any() else 0.0 for cell in range(9)])
    pearson = float(np.sqrt(mean[visible[altering]].var() / size.var())) if size.var() > 0 else 0.0
    hit, false_hit = float(plan.planted[altering].mean()), float(plan.planted[~altering].mean())
    return f"best reachable on these rows: AUROC {0.5 + (hit - false_hit) / 2:.4f}, Pearson over Splice-altering {pearson:.4f}"
