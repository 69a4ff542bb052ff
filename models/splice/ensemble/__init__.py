"""Ensembles and cross-validation of splice workloads."""

from models.splice.ensemble.declaration import EnsembleRecipe, EnsembleWorkload
from models.splice.ensemble.session import Kind

__all__ = ["EnsembleRecipe", "EnsembleWorkload", "Kind"]
