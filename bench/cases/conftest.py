"""Loads the instrument's pytest hooks for the benchmark cases only."""

pytest_plugins = ["assay.bench.running.plugin"]
