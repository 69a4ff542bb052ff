"""Rows of other tools, as the page's template shows them: apart from the records, and a few of many."""

from __future__ import annotations

from collections.abc import Sequence

from assay.bench.exchange.imports import Imported
from assay.bench.formatting.markdown import clean_text
from assay.bench.formatting.numbers import format_interval

MAX_IMPORTED = 200  # they must not take the room of records; all are in LEADERBOARD.md


def describe_imports(imports: Sequence[Imported]) -> dict[str, object]:
    """The newest measurements first; text is cleaned here and escaped by the template."""
    rows = [
        {
            "name": clean_text(row.name, 200),
            "group": clean_text(row.group or "", 60),
            "seconds": format_interval(row.seconds),
            "rounds": row.seconds.n,
            "machine": clean_text(entry.machine, 60),
            "commit": clean_text(entry.commit or "", 60),
            "measured": f"{entry.measured:%Y-%m-%d}",
            "file": clean_text(entry.source, 60),
        }
        for entry in reversed(imports)
        for row in entry.rows
    ]
    return {"rows": rows[:MAX_IMPORTED], "left": max(0, len(rows) - MAX_IMPORTED)}
