"""Where this project's files lie: in a checkout, or in a package that was installed without one."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # holds bench/, models/, datasets/, and what the project publishes in results/
CHECKOUT = ROOT if (ROOT / "assay").is_dir() else None
PUBLISHED = ROOT / "results"  # the baselines and the schema, which an installed package has too
RESULTS = Path("results") if CHECKOUT is None else PUBLISHED  # nothing is ever written into an installed package
COMMAND = ("assay",) if CHECKOUT is None else ("python", "-m", "bench")


def spell_commands(text: str) -> str:
    """Text of ours, whose commands are written as a checkout takes them, for whoever reads it here."""
    return text if CHECKOUT else text.replace("python -m bench", "assay")
