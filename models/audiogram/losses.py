"""The loss of document 003 term by term: 2 MSE(ABR) + 1 MSE(metadata) + 1.5 MSE(PCA) + 1 KL + 1 clustering + 0.5 contrastive + 0.3 consistency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.datasets.audiograms import COMPONENTS
from assay.models.audiogram.networks import Outputs

ABR_WEIGHT, METADATA_WEIGHT, PCA_WEIGHT = 2.0, 1.0, 1.5
KL_WEIGHT, CLUSTER_WEIGHT, CONTRASTIVE_WEIGHT, CONSISTENCY_WEIGHT = 1.0, 1.0, 0.5, 0.3
TEMPERATURE = 0.5


@dataclass(frozen=True, slots=True)
class Pairing:
    """Who belongs together in a batch of B mice."""

    same: Tensor  # [B, B] bool: of the same gene; every mouse is so with itself
    paired: Tensor  # [B] 1 for a mouse with a partner, else 0; float
    partner: Tensor  # [B] int64 position of another mouse of the same gene; its own where there is none

    @classmethod
    def of(cls, genes: Tensor, partner: Tensor) -> Pairing:
        """genes: [B] int64, negative and different for mice without a partner; partner: [B] int64."""
        return cls(genes[:, None] == genes, (genes >= 0).float(), partner)


def reconstruct(outputs: Outputs, abr: Tensor, context: Tensor) -> Tensor:
    """Weighted sum of the three mean squared errors; a scalar."""
    metadata = context.shape[1] - COMPONENTS
    shown, wanted = outputs.context, context
    return (
        ABR_WEIGHT * F.mse_loss(outputs.abr, abr)
        + METADATA_WEIGHT * F.mse_loss(shown[:, :metadata], wanted[:, :metadata])
        + PCA_WEIGHT * F.mse_loss(shown[:, metadata:], wanted[:, metadata:])
    )


def diverge_from_prior(outputs: Outputs) -> Tensor:
    """[latent] KL of the posterior from N(0, 1) in each dimension, averaged over the batch."""
    mean, log_variance = outputs.mean, outputs.log_variance
    return -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean(0)


def sharpen(assignment: Tensor, mass: Tensor | None = None) -> Tensor:
    """DEC's target p [B, K] for soft assignments q [B, K]: q^2 / mass, normalised over clusters.

    mass: [K] sum of q over the rows that count: of the whole data set in DEC, of the batch alone in the documented recipe (None).
    """
    weighted = assignment**2 / (assignment.sum(0) if mass is None else mass)
    return weighted / weighted.sum(1, keepdim=True)


def cluster(assignment: Tensor, target: Tensor) -> Tensor:
    """KL(p || q) summed over batch and clusters, as documented. assignment q and target p (a constant): [B, K]."""
    return F.kl_div(assignment.clamp(min=1e-10).log(), target, reduction="sum")


def contrast(projection: Tensor, pairing: Pairing) -> Tensor:
    """InfoNCE at temperature 0.5: each mouse against its partner among the partners of the batch; a scalar, 0 without any pair.

    projection: [B, d], unit length. Partners pass no gradient. They are taken from this very pass instead of being encoded a second time.
    Other mice of the same gene are neither positive nor negative.
    """
    logits = projection @ projection.detach()[pairing.partner].T / TEMPERATURE
    others = pairing.same.clone().fill_diagonal_(0)
    own = torch.arange(len(logits), device=logits.device)
    return _mean_over_pairs(F.cross_entropy(logits.masked_fill(others, -torch.inf), own, reduction="none"), pairing)


def keep_together(mean: Tensor, pairing: Pairing) -> Tensor:
    """Phenotype consistency: mean distance of a mouse to its gene's mean in the batch. mean: [B, latent]; a scalar, 0 without any pair."""
    same = pairing.same.to(mean.dtype)
    centre = same @ mean / same.sum(1, keepdim=True)
    return _mean_over_pairs(torch.linalg.vector_norm(mean - centre, dim=1), pairing)


def _mean_over_pairs(loss: Tensor, pairing: Pairing) -> Tensor:
    return (loss * pairing.paired).sum() / pairing.paired.sum().clamp(min=1)
