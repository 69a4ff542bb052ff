import json

import pytest

from benchmarks.peer_table import BEGIN, END, PEERS, README, render_table, replace_table


def make_lane(lane, ratio, **changes):
    result = {
        "workload": "affinity-v2",
        "lane": lane,
        "precision": "fp32",
        "samples_per_s": {"value": 17_934.2, "unit": "pairs/s"},
        "speed_ratio": {"value": ratio, "low": ratio - 0.1, "high": ratio + 0.1},
        "loss_ratio": {"value": 1.0, "low": None, "high": None},
        "peak_memory": {"value": 10.2e6},
        "mfu": {"value": None, "reason": "profile cpu has no peak for fp32"},
        "aim": None,
        "aim_met": None,
    }
    return result | changes


def test_rows_by_hand(tmp_path):
    lanes = [make_lane("peer", 1.0), make_lane("assay open", 3.25, aim=3.0, aim_met=True, mfu={"value": 0.123})]
    document = {"device": "Some CPU", "options": {"device": "cpu", "threads": 1}, "taken": "2026-11-26", "results": lanes}
    (tmp_path / "training.json").write_text(json.dumps(document))
    header, rule, peer, ours, _, note = render_table(tmp_path).splitlines()
    assert header.count("|") == rule.count("|") == peer.count("|")
    assert peer == "| affinity-v2 | Some CPU, 1 thread | peer fp32 | 17,930 pairs/s | 1.00 [0.90, 1.10] | 1.00 | 10 MB |  |  |"
    assert ours.endswith("| 3.25 [3.15, 3.35] | 1.00 | 10 MB | 12.3% | 3x met |")
    assert note.startswith("Taken 2026-11-26; ")


def test_the_readme_holds_what_is_committed():
    text = README.read_text()
    assert replace_table(text, render_table(PEERS)) == text, "run `python benchmarks/peer_table.py --write`"


def test_a_page_without_its_marks_is_refused():
    assert replace_table(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="no place for the table"):
        replace_table("a page", "new")
