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
    slow = make_lane("peer", 1.0, samples_per_s={"value": 5_518.2, "unit": "pairs/s"}, peak_memory={"value": 12.7e6})
    lanes = [slow, make_lane("assay open", 3.25, aim=3.0, aim_met=True, mfu={"value": 0.123}), make_lane("assay closed", 1.0, peak_memory={"value": None})]
    document = {"device": "Some CPU", "options": {"device": "cpu", "threads": 1}, "taken": "2026-11-26", "results": lanes}
    (tmp_path / "training.json").write_text(json.dumps(document))
    header, rule, opened, closed, _, note = render_table(tmp_path).splitlines()
    assert header.count("|") == rule.count("|") == opened.count("|") == closed.count("|")
    head = "| affinity-v2 | Some CPU, 1 thread | assay"
    assert opened == f"{head} open fp32 | 17,930 pairs/s | 5,518 | 3.25 [3.15, 3.35] | 3: met | 1.00 | 10 MB | 13 MB | 12.3% |"
    assert closed == f"{head} closed fp32 | 17,930 pairs/s | 5,518 | 1.00 [0.90, 1.10] |  | 1.00 |  | 13 MB |  |"
    assert note.startswith("Taken 2026-11-26; ")


@pytest.mark.usefixtures("checkout")  # the measurements are in no image
def test_the_readme_holds_what_is_committed():
    text = README.read_text()
    assert replace_table(text, render_table(PEERS)) == text, "run `python benchmarks/peer_table.py --write`"


def test_a_page_without_its_marks_is_refused():
    assert replace_table(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"
    with pytest.raises(ValueError, match="no place for the table"):
        replace_table("a page", "new")
