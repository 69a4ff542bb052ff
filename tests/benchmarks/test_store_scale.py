"""The benchmark's store is a valid one, and both ways of reading it make the same page."""

from pathlib import Path

import pytest

import assay.bench.records.index
from assay.bench.records.index import read_ledger
from assay.bench.report import write_pages
from benchmarks.store_scale import make_store, read_store


@pytest.mark.usefixtures("checkout")
def test_both_ways_make_the_same_leaderboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assay.bench.records.index, "SETTLED_NS", -(10**12))
    make_store(tmp_path, 250)
    ledger = read_ledger(tmp_path)
    assert (ledger.files, ledger.read_again, ledger.faults, len(ledger.heads)) == (250, 250, {}, 3)
    write_pages(tmp_path, ledger)
    # heads aside: the plain way does not compute them
    ours = (tmp_path / "LEADERBOARD.md").read_text().partition("## Runs")[0]
    plain = read_store(tmp_path, "read_plainly")
    assert (plain["files"], plain["checked"]) == (250, 250)
    assert plain["table_lines"] > 200
    assert (tmp_path / "LEADERBOARD.md").read_text().partition("## Runs")[0] == ours
    assert read_ledger(tmp_path).read_again == 0
