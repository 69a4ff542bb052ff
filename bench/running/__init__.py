"""Runs cases: one after the other or within a budget, as processes or containers, each with its record."""
