"""Delta scores of variants: what either allele makes of the splice sites within 50 nt, on either strand.

Definitions: Jaganathan et al. 2019 for DS_AG, DS_AL, DS_DG, DS_DL and the alignment of insertions and deletions; documents 000 and 001
for the delta at the position of the largest summed magnitude, once as it should be (one softmax) and once as the documents' scripts
computed it (a second softmax over the ensemble's probabilities, alleles compared index by index).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay.datasets.base_windows import SCAN, BaseWindow
from assay.datasets.genome import N, reverse_complement
from assay.models.splice.base.network import CLASSES, SpliceAI, SpliceAIEnsemble

Array = np.ndarray

NEITHER, ACCEPTOR, DONOR = range(len(CLASSES))
_NO_SITE = np.eye(len(CLASSES))[NEITHER]
SITE_PROBABILITY = 0.5
"""Probability from which a strand counts as carrying a splice site."""


@dataclass(frozen=True, slots=True)
class StrandScores:
    """Scores of n variants by a model that reads one strand. Positions are of the plus strand whichever strand was read.

    gains_losses: float64 [n, 4] acceptor gain, acceptor loss, donor gain, donor loss, each 0 to 1; delta: [n, 3] alternative minus
    reference probability (neither, acceptor, donor) at the offset of the largest summed magnitude; offset: int64 [n] nt from the
    variant; double: [n, 3] the same after a second softmax, at its own offset; site: [n] largest probability of a site in the reference.
    """

    gains_losses: Array
    delta: Array
    offset: Array
    double: Array
    site: Array


@dataclass(frozen=True, slots=True)
class BaseScores:
    """Scores of n variants on either strand."""

    plus: StrandScores
    minus: StrandScores

    @property
    def strand(self) -> list[str]:
        """The strand that carries a site within 50 nt: `-` where the minus strand has one, as the SpliceVarDB reader decides, else `+`, else `.`."""
        there = zip(self.plus.site > SITE_PROBABILITY, self.minus.site > SITE_PROBABILITY, strict=True)
        return ["-" if minus else "+" if plus else "." for plus, minus in there]


def score_windows(model: SpliceAI | SpliceAIEnsemble, windows: Sequence[BaseWindow], device: torch.device) -> BaseScores:
    """Scores of a batch of variants: four passes (two alleles, two strands) through the model, which is on `device` and in eval mode."""
    # an insertion pushes scanned positions outwards; symmetric, because the minus strand reads the window from its other end
    margin = max(max(len(window.variant.alternative) - len(window.variant.reference), 0) for window in windows)
    reach = model.architecture.context // 2 + SCAN + margin
    reference, alternative = (_cut(np.stack([getattr(window, name) for window in windows]), reach) for name in ("reference", "alternative"))
    covered = np.stack([window.covered for window in windows])
    scores: list[StrandScores] = []
    for minus in (False, True):
        codes = np.concatenate([reference, alternative])
        predicted = _predict(model, reverse_complement(codes) if minus else codes, device)
        before, after = np.split(predicted[:, ::-1] if minus else predicted, 2)
        aligned = np.stack([align(each, window) for each, window in zip(after, windows, strict=True)])
        scores.append(_summarise(_cut(before, SCAN), aligned, _cut(after, SCAN), covered))
    return BaseScores(*scores)


def align(alternative: Array, window: BaseWindow) -> Array:
    """Probabilities of the alternative allele at the reference's positions: [P, 3], the variant in the middle, -> [2 * SCAN + 1, 3].

    A deleted nucleotide carries no site; inserted ones count for the reference allele's last nucleotide with their largest site
    probabilities; everything behind the variant moves along.
    """
    centre = len(alternative) // 2
    reference_length, alternative_length = len(window.variant.reference), len(window.variant.alternative)
    grown = alternative_length - reference_length
    offsets = np.arange(-SCAN, SCAN + 1)
    aligned: Array = alternative[centre + np.where(offsets >= reference_length, offsets + grown, offsets)]
    if grown < 0:
        aligned[(offsets >= alternative_length) & (offsets < reference_length)] = _NO_SITE
    elif grown > 0 and reference_length <= SCAN:
        inserted = alternative[centre + reference_length - 1 : centre + alternative_length]
        aligned[SCAN + reference_length - 1] = [inserted[:, NEITHER].min(), inserted[:, ACCEPTOR].max(), inserted[:, DONOR].max()]
    return aligned


def _summarise(reference: Array, aligned: Array, alternative: Array, covered: Array) -> StrandScores:
    change = np.where(covered[..., None], aligned - reference, 0.0)
    largest, offset = _pick_largest(change, covered)
    doubled = np.where(covered[..., None], _softmax(alternative) - _softmax(reference), 0.0)
    extremes = [(sign * change[..., channel]).max(axis=1) for channel in (ACCEPTOR, DONOR) for sign in (1, -1)]
    site = np.where(covered, reference[..., ACCEPTOR:].max(axis=-1), 0.0).max(axis=1)
    return StrandScores(np.stack(extremes, axis=1).clip(min=0), largest, offset, _pick_largest(doubled, covered)[0], site)


def _pick_largest(change: Array, covered: Array) -> tuple[Array, Array]:
    at = np.where(covered, np.abs(change).sum(axis=-1), -1.0).argmax(axis=1)
    return change[np.arange(len(change)), at], at - SCAN


def _softmax(values: Array) -> Array:
    grown = np.exp(values)  # of probabilities: nothing overflows
    normalised: Array = grown / grown.sum(axis=-1, keepdims=True)
    return normalised


def _cut(values: Array, reach: int) -> Array:
    """Positions -reach to +reach around the middle of [n, P, ...]."""
    centre = values.shape[1] // 2
    return values[:, centre - reach : centre + reach + 1]


def _predict(model: SpliceAI | SpliceAIEnsemble, codes: Array, device: torch.device) -> Array:
    """uint8 [B, context + P] -> float64 [B, P, 3]."""
    one_hot = torch.cat([torch.eye(N), torch.zeros(1, N)]).to(device)  # N is no base: all zeros, as in training
    with torch.inference_mode():
        given = torch.from_numpy(np.ascontiguousarray(codes)).to(device).long()
        probabilities: Tensor = model(one_hot[given].transpose(1, 2).contiguous())
    return probabilities.transpose(1, 2).double().cpu().numpy()
