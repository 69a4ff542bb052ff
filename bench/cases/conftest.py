"""Loads the instrument's pytest hooks for the benchmark cases only."""

pytest_plugins = ["bench.plugin"]
