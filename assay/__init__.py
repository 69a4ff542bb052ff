"""Reproducible benchmarks for deep-learning models of computational biology."""

__version__ = "0.1.0"
