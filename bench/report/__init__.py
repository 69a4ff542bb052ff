"""Pages made from records: leaderboard and claims report."""

from __future__ import annotations

from pathlib import Path

from bench.claims import find_claims, judge, load_claims
from bench.record import RunStore, read_runs
from bench.report.claims_page import render_claims
from bench.report.leaderboard import render_leaderboard


def write_pages(results: Path) -> list[Path]:
    """Writes LEADERBOARD.md and CLAIMS.md from the records in results/runs. Raises RecordError for a record that cannot be trusted.

    A results folder without baselines of its own is judged by the project's.
    """
    records = read_runs(results)
    stores = [RunStore(folder) for folder in sorted((results / "runs").glob("*")) if folder.is_dir()]
    heads = {store.folder.name: head for store in stores if (head := store.head())}
    claims = load_claims(find_claims(results))
    pages = {"LEADERBOARD.md": render_leaderboard(records, claims, heads, results), "CLAIMS.md": render_claims(judge(claims, records))}
    for name, text in pages.items():
        (results / name).write_text(text, encoding="utf-8")
    return [results / name for name in pages]
