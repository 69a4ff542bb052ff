"""The workloads: one folder per family with its networks, its recipe and its declaration."""
