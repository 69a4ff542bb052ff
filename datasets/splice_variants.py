"""Splice variants: the one type of the family, its contract, balanced sampling, and the two ways to make a training target.

Source of the contract: documents 000 and 001 (SpliceVarDB experiments), data preparation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from assay.datasets.card import DataError, DatasetIdentity
from assay.datasets.genome import N, complement, reverse_complement

Array = np.ndarray

CHANNELS = ("donor", "acceptor", "neither")
"""Order of a target's channels."""

TEST_CHROMOSOMES = ("chr21", "chr22")
MIN_EFFECT = 0.1
"""A delta from which an effect counts: the documented detection threshold."""


class TargetRecipe(StrEnum):
    """How base-model scores become targets, and sequences become input."""

    DOCUMENTED = "documented"  # double softmax, plus strand only, channels mislabelled, N read as A
    CORRECTED = "corrected"  # single softmax, right channels, the gene's strand, N all-zero


class Effect(StrEnum):
    """What a variant does to a splice site; the order is the class index of the effect-type classifier."""

    NORMAL = "Normal"
    DONOR_GAIN = "Donor_gain"
    DONOR_LOSS = "Donor_loss"
    ACCEPTOR_GAIN = "Acceptor_gain"
    ACCEPTOR_LOSS = "Acceptor_loss"
    COMPLEX = "Complex"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpliceVariants:
    """n variants as a model takes them.

    reference, alternative: uint8 [n, L] base codes A 0, C 1, G 2, T 3, N 4; position: int64 [n], 0-based index of the variant in its
    sequence; reference_base, alternative_base: uint8 [n] codes of the alleles' first bases; label: int8 [n], Splice-altering 1 and
    Normal 0; target: float32 [n, 3] delta scores (donor, acceptor, neither), dimensionless, zero for Normal; chromosome: [n] str with
    `chr`; gene: [n] str, empty where unknown; strand: int8 [n], +1 where the sequence reads along the gene, -1 against, 0 unknown.
    """

    reference: Array
    alternative: Array
    position: Array
    reference_base: Array
    alternative_base: Array
    label: Array
    target: Array
    chromosome: Array
    gene: Array
    strand: Array
    identity: DatasetIdentity
    path: str  # where messages point to
    source: str
    licence: str
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, length = self.reference.shape
        shapes = {"alternative": (n, length), "target": (n, 3)} | dict.fromkeys(("position", "reference_base", "alternative_base"), (n,))
        shapes |= dict.fromkeys(("label", "chromosome", "gene", "strand"), (n,))
        for name, expected in shapes.items():
            if (shape := getattr(self, name).shape) != expected:
                raise ValueError(f"{name} of {n} splice variants has shape {shape}, expected {expected}")
        if n and max(self.reference.max(), self.alternative.max()) > N:
            raise ValueError("sequences of splice variants hold codes other than 0 to 4")
        if not np.isfinite(self.target).all():
            raise ValueError("targets of splice variants must be finite")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def length(self) -> int:
        """Nucleotides per sequence."""
        return int(self.reference.shape[1])

    @property
    def effect(self) -> Array:
        """int64 [n] class indices in the order of Effect, from label and target.

        A Splice-altering variant whose donor and acceptor deltas both reach 0.1 is Complex; otherwise the larger of the two in
        magnitude names the site and its sign gain or loss. The documents define no rule: their column effect_type does not exist.
        """
        donor, acceptor = self.target[:, 0], self.target[:, 1]
        by_donor = np.abs(donor) >= np.abs(acceptor)
        kind = np.where(by_donor, np.where(donor > 0, 1, 2), np.where(acceptor > 0, 3, 4))
        both = np.minimum(np.abs(donor), np.abs(acceptor)) >= MIN_EFFECT
        return np.where(self.label == 0, 0, np.where(both, 5, kind)).astype(np.int64)

    def take(self, rows: Array) -> SpliceVariants:
        """The variants of the given row numbers, in their order."""
        per_row = ("reference", "alternative", "position", "reference_base", "alternative_base", "label", "target", "chromosome", "gene", "strand")
        return replace(self, **{name: getattr(self, name)[rows] for name in per_row})

    def orient(self) -> SpliceVariants:
        """Every sequence along its gene: those against it are replaced by their reverse complement. Targets stay as they are."""
        against = self.strand < 0

        def flip(codes: Array) -> Array:
            return np.where(against[:, None], reverse_complement(codes), codes)

        return replace(
            self,
            reference=flip(self.reference),
            alternative=flip(self.alternative),
            position=np.where(against, self.length - 1 - self.position, self.position),
            reference_base=np.where(against, complement(self.reference_base), self.reference_base),
            alternative_base=np.where(against, complement(self.alternative_base), self.alternative_base),
            strand=np.abs(self.strand),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseDeltas:
    """Alternative minus reference score of a base splice-site model, at the position of largest summed magnitude within 50 nt.

    plus, minus: float64 [n, 3] probabilities' differences when the model reads the plus or minus strand; double: the same on the
    plus strand after a second softmax. Channels in the base model's order: neither, acceptor, donor. strand: int8 [n] of the gene.
    """

    plus: Array
    minus: Array
    double: Array
    strand: Array


def make_targets(recipe: TargetRecipe, label: Array, deltas: BaseDeltas) -> Array:
    """float32 [n, 3] targets (donor, acceptor, neither); zero for Normal.

    DOCUMENTED takes the double-softmax deltas of the plus strand and leaves their channels in the base model's order under the
    names donor, acceptor, neither, as the documents' scripts did. CORRECTED takes the single-softmax deltas of the gene's strand.
    """
    along_gene = np.where(deltas.strand[:, None] < 0, deltas.minus, deltas.plus)[:, ::-1]
    chosen = deltas.double if recipe is TargetRecipe.DOCUMENTED else along_gene
    return np.where(label[:, None] == 1, chosen, 0.0).astype(np.float32)


def share_effect(label: Array, effect: Array) -> Array:
    """float32 [n, 3] targets (e, e, -e) from one scalar effect per variant; zero for Normal.

    An assay of exon inclusion sees one number: an exon gained or lost has gained or lost both of its sites.
    """
    return np.where(label[:, None] == 1, np.stack([effect, effect, -effect], axis=1), 0.0).astype(np.float32)


def sample_balanced(variants: SpliceVariants, rows: Array, most: int | None, seed: int, part: str) -> Array:
    """Row numbers with as many Splice-altering as Normal variants: n = min(#SA, #Normal, most / 2) of each, in random order.

    rows: the rows to choose from; most: None takes all that balance allows. Raises DataError when a class has no row.
    """
    random = np.random.default_rng(seed)
    classes = [rows[variants.label[rows] == label] for label in (1, 0)]
    for name, members in zip(("Splice-altering", "Normal"), classes, strict=True):
        if not len(members):
            raise DataError(variants.path, f"no {name} variant is left in the {part} split", "Give more rows, or other chromosomes to hold out")
    each = min(len(members) for members in classes) if most is None else min(*(len(members) for members in classes), max(1, most // 2))
    chosen = np.concatenate([random.permutation(members)[:each] for members in classes])
    return random.permutation(chosen)
