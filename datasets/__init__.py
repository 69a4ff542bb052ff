"""One module per dataset family: the real reader and its synthetic twin behind one type. Imports nothing of bench or models."""
