"""Attention with symmetric ALiBi over ragged batches: one interface, one registry, five backends."""
