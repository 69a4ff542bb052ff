"""Ensembles and cross-validation of splice workloads."""

from assay.models.splice.ensemble.declaration import EnsembleRecipe, EnsembleWorkload
from assay.models.splice.ensemble.session import Kind

__all__ = ["EnsembleRecipe", "EnsembleWorkload", "Kind"]
