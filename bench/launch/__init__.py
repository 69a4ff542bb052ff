"""Starts case processes and survives whatever becomes of them."""
