"""Documented claims and what records say of them."""
