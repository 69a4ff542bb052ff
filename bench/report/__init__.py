"""Pages made from records: leaderboard and claims report."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from assay.bench.case import UsageError
from assay.bench.claims.documented import find_claims, load_claims
from assay.bench.claims.judgement import judge
from assay.bench.exchange.imports import read_imports
from assay.bench.records.documents import write_whole
from assay.bench.records.index import Ledger, read_ledger
from assay.bench.report.claims_page import render_claims
from assay.bench.report.fits import compare_fits
from assay.bench.report.leaderboard import render_leaderboard
from assay.bench.report.page import read_history, render_page


def write_pages(results: Path, ledger: Ledger | None = None, page: Path | None = None) -> list[Path]:
    """Writes LEADERBOARD.md, CLAIMS.md and the HTML page from the records in results/runs. Raises RecordError for a record that cannot be trusted.

    ledger: the records, if they are read already. page: where the HTML page goes; default results/index.html. Its links to records only
    work from the results folder.

    Leaves out the HTML page, unless `page` asks for it, where what draws its plots is not installed; `explain_missing_page` then says so.
    A results folder without baselines of its own is judged by the project's.
    """
    ledger = ledger or read_ledger(results)
    claims = load_claims(find_claims(results))
    records, imports = ledger.records, read_imports(results)
    written = {
        results / "LEADERBOARD.md": render_leaderboard(records, claims, ledger.heads, results, frozenset(ledger.faults), imports),
        results / "CLAIMS.md": render_claims(judge(claims, records), compare_fits(claims, records), claims.words),
    }
    if page or not explain_missing_page():
        written[page or results / "index.html"] = render_page(records, claims, read_history(results), imports)
    for path, text in written.items():
        _write(path, text)
    return list(written)


def explain_missing_page() -> str | None:
    """Why `write_pages` makes no HTML page here, or None where it makes one."""
    if find_spec("vl_convert"):
        return None
    return "no index.html: its plots need vl-convert-python, which is not installed here; `pip install vl-convert-python`, then `python -m bench board`"


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose a folder that exists and is yours") from None
