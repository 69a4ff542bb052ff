"""`python -m assay`, the same as the command `assay`."""

from assay.bench.cli import main

main()
