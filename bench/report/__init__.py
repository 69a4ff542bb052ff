"""Pages made from records: leaderboard and claims report."""

from __future__ import annotations

from pathlib import Path

from bench.case import UsageError
from bench.claims import find_claims, load_claims
from bench.documents import write_whole
from bench.exchange.imports import read_imports
from bench.index import Ledger, read_ledger
from bench.judgement import judge
from bench.report.claims_page import render_claims
from bench.report.fits import compare_fits
from bench.report.leaderboard import render_leaderboard
from bench.report.page import read_history, render_page


def write_pages(results: Path, ledger: Ledger | None = None, page: Path | None = None) -> list[Path]:
    """Writes LEADERBOARD.md, CLAIMS.md and the HTML page from the records in results/runs. Raises RecordError for a record that cannot be trusted.

    ledger: the records, if they are read already. page: where the HTML page goes; default results/index.html. Its links to records only
    work from the results folder.

    A results folder without baselines of its own is judged by the project's.
    """
    ledger = ledger or read_ledger(results)
    claims = load_claims(find_claims(results))
    records, imports = ledger.records, read_imports(results)
    written = {
        results / "LEADERBOARD.md": render_leaderboard(records, claims, ledger.heads, results, frozenset(ledger.faults), imports),
        results / "CLAIMS.md": render_claims(judge(claims, records), compare_fits(claims, records), claims.words),
        page or results / "index.html": render_page(records, claims, read_history(results), imports),
    }
    for path, text in written.items():
        _write(path, text)
    return list(written)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose a folder that exists and is yours") from None
