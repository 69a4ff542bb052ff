"""How a worker starts: `python -m assay.bench.gate.start`. What must hold before any code of the candidate runs is done here."""

from assay.bench.gate.kernel import adopt_orphans


def main() -> None:
    """Serves until the gate is gone."""
    adopt_orphans()
    from assay.bench.gate.worker import main as serve  # imports models/, which is what is measured

    serve()


if __name__ == "__main__":
    main()
