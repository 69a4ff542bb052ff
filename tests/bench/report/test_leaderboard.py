"""The leaderboard as people see it, and what hostile records can do to it."""

import random
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from assay.bench.case import Outcome, Quantity
from assay.bench.claims.documented import Claims
from assay.bench.records.record import Environment, Machine, Record
from assay.bench.records.store import RunStore, read_runs
from assay.bench.report.leaderboard import render_leaderboard, select_latest
from assay.bench.report.ranking import find_replaced

HEADS = {"20240102-a40-documented": "a" * 64, "20240102-cpu-smoke": "b" * 64}

OTHER = Machine(cpu="Xeon 8480", cores=4, threads=4, memory_bytes=2**34, system="Linux")

pytestmark = pytest.mark.usefixtures("workloads")


def rows_of(page: str) -> list[dict[str, str]]:
    """Every row of every table with the table's own column names."""
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            header = []
        elif not header:
            header = cells
        elif set(line) - set("|-: "):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def ranked(page: str) -> dict[str, str]:
    return {row["workload/variant"]: row.get("rank", "") for row in rows_of(page) if "workload/variant" in row}


def reason_of(page: str, row: dict[str, str]) -> tuple[str, str]:
    """The outcome of a row, and the reason that its number leads to below the row's table."""
    outcome, number = re.fullmatch(r"(.*) \((\d+)\)", row["outcome"]).groups()  # type: ignore[union-attr]
    section = page[page.index(row["workload/variant"] + " ") :]
    return outcome, re.search(rf"^\* \({number}\) (.*)$", section, re.MULTILINE)[1]  # type: ignore[index]


def test_golden_page(records: list[Record], claims: Claims, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    golden(render_leaderboard(records, claims, HEADS, tmp_path), "leaderboard.md")


def test_quality_of_random_weights_says_so(make_record: Callable[..., Record], tmp_path: Path) -> None:
    records = [
        make_record(f"affinity-v2/{weights}/train/smoke/closed/fp32", conditions={"weights": weights}, quality={"rmse": Quantity(1.0, "pKd")})
        for weights in ("random", "pretrained")
    ]
    cells = {row["workload/variant"]: row["quality"] for row in rows_of(render_leaderboard(records, Claims(), {}, tmp_path)) if "quality" in row}
    assert cells["affinity-v2/random"].endswith(" (random weights)")
    assert "random" not in cells["affinity-v2/pretrained"]


def test_order_of_records_does_not_matter(records: list[Record], claims: Claims, tmp_path: Path) -> None:
    shuffled = random.Random(1).sample(records, len(records))
    assert render_leaderboard(shuffled, claims, HEADS, tmp_path) == render_leaderboard(records, claims, HEADS, tmp_path)


def test_no_records_say_how_to_make_some(claims: Claims, tmp_path: Path) -> None:
    assert "No records yet: `python -m bench run` makes some." in render_leaderboard([], claims, {}, tmp_path)


def test_every_row_on_generated_data_says_so(records: list[Record], claims: Claims, tmp_path: Path) -> None:
    for row in rows_of(render_leaderboard(records, claims, HEADS, tmp_path)):
        if "abag-twin" in row.get("data", ""):
            assert row["data"] == "abag-twin (synthetic twin)"


class TestRanks:
    def test_overlap_ties_and_a_gap_separates(self, make_record: Any, tmp_path: Path) -> None:
        def rmse(value: float, low: float, high: float) -> dict[str, Quantity]:
            return {"rmse": Quantity(value, "pKd", 100, low, high)}

        cases = [f"affinity-v2/{name}/train/smoke/closed/fp32" for name in "abcd"]
        quality = [rmse(1.5, 1.4, 1.6), rmse(1.6, 1.5, 1.7), rmse(1.8, 1.65, 1.9), rmse(2.5, 2.4, 2.6)]
        page = render_leaderboard([make_record(case, quality=q) for case, q in zip(cases, quality, strict=True)], Claims(), {}, tmp_path)
        # c overlaps b but is behind a; d is behind all three
        assert ranked(page) == {"affinity-v2/a": "1=", "affinity-v2/b": "1=", "affinity-v2/c": "2", "affinity-v2/d": "4"}

    def test_where_more_is_better_the_highest_leads(self, make_record: Any, tmp_path: Path) -> None:
        records = [make_record(f"splice-validated/{n}/train/smoke/closed/fp32", quality={"pearson_sa": Quantity(r, "r")}) for n, r in (("low", 0.1), ("high", 0.5))]
        assert ranked(render_leaderboard(records, Claims(), {}, tmp_path)) == {"splice-validated/high": "1", "splice-validated/low": "2"}

    def test_other_data_presets_and_phases_are_ranked_apart(self, records: list[Record], claims: Claims, tmp_path: Path) -> None:
        ranks = [(row["preset"], row["workload/variant"], row["rank"]) for row in rows_of(render_leaderboard(records, claims, HEADS, tmp_path)) if row.get("rank")]
        assert ranks == [
            ("documented", "affinity-v2/documented", "1"),
            ("documented", "affinity-v1/documented", "2"),
            ("smoke", "affinity-v2/documented", "1="),
            ("smoke", "affinity-v1/documented", "1="),
            ("smoke", "affinity-v2/without-gelu", "3"),
        ]

    def test_data_of_one_name_and_two_hashes_are_told_apart_and_ranked_apart(self, make_record: Any, tmp_path: Path) -> None:
        first = make_record("affinity-v2/a/train/smoke/closed/fp32", quality={"rmse": Quantity(1.0, "pKd")})
        other = make_record("affinity-v2/b/train/smoke/closed/fp32", quality={"rmse": Quantity(2.0, "pKd")})
        other = other.model_copy(update={"dataset": other.dataset.model_copy(update={"sha256": "ab" * 32})})
        rows = rows_of(render_leaderboard([first, other], Claims(), {}, tmp_path))
        assert [(row["rank"], row["data"]) for row in rows if "rank" in row] == [("1", "abag-twin 000000 (synthetic twin)"), ("1", "abag-twin ababab (synthetic twin)")]

    @pytest.mark.parametrize(("condition", "values"), [("split", ("by-complex", "random")), ("targets", ("corrected", "documented")), ("classes", (22, 39)), ("n_test", (113, 115))])
    def test_other_test_problems_are_ranked_apart_and_stand_apart(self, make_record: Callable[..., Record], tmp_path: Path, condition: str, values: tuple[object, object]) -> None:
        def scored(name: str, rmse: float, value: object) -> Record:
            return make_record(f"affinity-v2/{name}/train/smoke/closed/fp32", quality={"rmse": Quantity(rmse, "pKd")}, conditions={condition: value, "epochs": len(name)})

        first, second = values
        records = [scored("a", 1.0, second), scored("b", 2.0, first), scored("cc", 3.0, second), scored("dd", 4.0, first)]
        rows = [row for row in rows_of(render_leaderboard(records, Claims(), {}, tmp_path)) if "rank" in row]
        assert [(row["workload/variant"], row["rank"], row["test"]) for row in rows] == [
            ("affinity-v2/b", "1", f"{condition} {first}"),
            ("affinity-v2/dd", "2", f"{condition} {first}"),
            ("affinity-v2/a", "1", f"{condition} {second}"),
            ("affinity-v2/cc", "2", f"{condition} {second}"),
        ]

    def test_a_failure_that_knew_no_problem_yet_stands_after_the_ranked_rows(self, make_record: Any, tmp_path: Path) -> None:
        failed = make_record("affinity-v2/a/train/smoke/closed/fp32", outcome=Outcome.CRASH, reason="why", dataset=None)
        ran = make_record("affinity-v2/b/train/smoke/closed/fp32", quality={"rmse": Quantity(1.0, "pKd")}, conditions={"n_test": 3})
        assert [row["rank"] for row in rows_of(render_leaderboard([failed, ran], Claims(), {}, tmp_path)) if "rank" in row] == ["1", ""]

    def test_invalid_emulated_and_undeclared_rows_stay_visible_unranked(self, records: list[Record], claims: Claims, tmp_path: Path) -> None:
        page = render_leaderboard(records, claims, HEADS, tmp_path)
        rows = {row["workload/variant"] + "/" + row["precision"]: row for row in rows_of(page) if "precision" in row}
        assert reason_of(page, rows["splice-validated/hidden128-layers6/fp32"]) == ("invalid", "the GPU was throttled")
        assert reason_of(page, rows["splice-validated/hidden128-layers6/bf16"]) == ("oom", r"CUDA out of memory \| tried 2 GiB &amp; &lt;failed&gt;")
        assert reason_of(page, rows["splice-validated/hidden128-layers6/fp16"]) == ("emulated", "emulated: gpu: fake NVML; memory: &lt;A40&gt; &amp; its limit")
        assert all("rank" not in rows[name] for name in rows if name.startswith(("splice", "retired")))


class TestLatest:
    def test_newer_record_of_the_same_case_device_and_data_replaces_the_older(self, make_record: Any) -> None:
        old, new = make_record(minutes=1), make_record(minutes=2, sequence=1)
        assert select_latest([new, old]) == [new]

    @pytest.mark.parametrize("change", [{"batch": 64}, {"emulated": ("x",)}, {"profile": "laptop"}])
    def test_other_batch_or_machine_class_is_another_row(self, make_record: Any, change: dict[str, Any]) -> None:
        assert len(select_latest([make_record(), make_record(**change)])) == 2

    def test_newer_libraries_replace_the_older_row(self, make_record: Any) -> None:
        old, new = make_record(minutes=1), make_record(minutes=2)
        updated = new.model_copy(update={"comparability": new.comparability.model_copy(update={"torch": "3.0", "environment": "1" * 64})})
        assert select_latest([old, updated]) == [updated]

    def test_the_triton_2_image_keeps_a_row_of_its_own_that_its_newer_runs_replace(self, make_record: Callable[..., Record], tmp_path: Path) -> None:
        def run(triton: str | None, minutes: int, **changes: Any) -> Record:
            environment = Environment(python="3.11", torch="2", numpy="2", triton=triton, packages_sha256="0" * 64, image_digest="sha256:" + "3f" * 32)
            return make_record(minutes=minutes, sequence=minutes, environment=environment, **changes)

        old, newer = run("2.0.0", 1), run("2.1.0", 3)
        other = run("3.4.0", 2, outcome=Outcome.UNSUPPORTED, reason="no such call")
        plain = run(None, 4)
        assert select_latest([old, other]) == [old, other]
        assert select_latest([old, other, newer]) == [newer, other]
        assert select_latest([old, other, newer, plain]) == [newer, plain]
        rows = rows_of(render_leaderboard([other, newer], Claims(), {}, tmp_path))
        assert [(row["outcome"], row["image"]) for row in rows if "outcome" in row] == [("unsupported (1)", "3f3f3f3f3f3f"), ("ok", "3f3f3f3f3f3f, Triton 2")]

    def test_another_kernel_of_a_newer_version_replaces_the_older_row(self, make_record: Any) -> None:
        old, new = make_record(minutes=1), make_record(minutes=2)
        updated = new.model_copy(update={"comparability": new.comparability.model_copy(update={"attention": "flash"})})
        assert select_latest([old, updated]) == [updated]

    def test_crash_is_shown_until_the_case_ran_again(self, make_record: Any) -> None:
        crash = make_record(minutes=1, identified=False, outcome=Outcome.CRASH, reason="SIGSEGV")
        before, after = make_record(minutes=0), make_record(minutes=2)
        assert select_latest([before, crash]) == [before, crash]
        assert select_latest([before, crash, after]) == [after]


class TestOlderSource:
    """What was made from other source than today's stays, says so, and is not ranked beside what today's made of the same case."""

    @pytest.fixture
    def quality(self) -> dict[str, Quantity]:
        return {"rmse": Quantity(1.0, "pKd")}

    def test_it_gives_way_to_the_present_source_even_where_it_is_newer(self, make_record: Callable[..., Record]) -> None:
        old, new = make_record(minutes=2, older=True), make_record(minutes=1)
        assert select_latest([old, new]) == [new]
        assert select_latest([make_record(minutes=1, older=True), old]) == [old]

    def test_a_case_that_has_nothing_else_is_shown_marked_and_ranked(self, make_record: Callable[..., Record], quality: dict[str, Quantity], tmp_path: Path) -> None:
        records = [make_record(quality=quality, older=True), make_record("affinity-v2/documented/train/smoke/closed/fp32", quality=quality, sequence=1)]
        rows = [row for row in rows_of(render_leaderboard(records, Claims(), {}, tmp_path)) if "rank" in row]
        assert [(row["workload/variant"], row["source"], row["rank"]) for row in rows] == [("affinity-v1/documented", "older", "1="), ("affinity-v2/documented", "", "1=")]

    @pytest.mark.parametrize("change", [{"batch": 64}, {"machine": OTHER}, {"profile": "laptop"}])
    def test_it_has_no_rank_beside_a_present_record_of_the_same_case_whatever_the_machine(
        self, make_record: Callable[..., Record], quality: dict[str, Quantity], tmp_path: Path, change: dict[str, Any]
    ) -> None:
        records = [make_record(quality=quality, older=True, **change), make_record(quality=quality, sequence=1, minutes=1)]
        rows = [row for row in rows_of(render_leaderboard(records, Claims(), {}, tmp_path)) if "rank" in row]
        assert {row["source"]: row["rank"] for row in rows} == {"older": "", "": "1"}

    def test_a_new_version_of_the_data_replaces_it_too(self, make_record: Callable[..., Record]) -> None:
        old, new = make_record(older=True), make_record(sequence=1)
        assert new.comparability
        moved = new.model_copy(update={"comparability": new.comparability.model_copy(update={"dataset_sha256": "1" * 64})})
        other = new.model_copy(update={"comparability": new.comparability.model_copy(update={"dataset": "abag"})})
        assert find_replaced([old, moved]) == {(old.run, old.sequence)}
        assert find_replaced([old, other]) == set()
        assert find_replaced([moved, new]) == set()

    def test_a_record_that_ended_before_it_had_a_key_has_no_mark(self, make_record: Callable[..., Record], tmp_path: Path) -> None:
        crash = make_record(identified=False, outcome=Outcome.CRASH, reason="SIGSEGV")
        assert "source" not in rows_of(render_leaderboard([crash], Claims(), {}, tmp_path))[0]


class TestColumns:
    def test_columns_that_hold_nothing_are_left_out(self, make_record: Any, tmp_path: Path) -> None:
        page = render_leaderboard([make_record(measurements={"rss_peak": Quantity(1e9, "bytes")})], Claims(), {}, tmp_path)
        (row, _) = rows_of(page)
        assert set(row) == {"workload/variant", "phase", "division", "preset", "data", "device", "precision", "batch", "RSS GB", "outcome"}
        assert row["RSS GB"] == "1"

    def test_documented_value_stands_beside_the_row_with_its_verdict(self, records: list[Record], claims: Claims, tmp_path: Path) -> None:
        documented = [row.get("documented") for row in rows_of(render_leaderboard(records, claims, HEADS, tmp_path)) if row.get("workload/variant") == "affinity-v1/documented"]
        assert documented == ["1.4761, reproduced", "0.9 to 1.4761, not comparable"]

    def test_several_documented_values_that_cannot_be_compared_show_as_a_range(self, make_record: Any, claims: Claims, tmp_path: Path) -> None:
        more = [claims.claim[0].model_copy(update={"id": f"c{i}", "value": Decimal(text)}) for i, text in enumerate(("1.2", "1.30", "0.9"))]
        page = render_leaderboard([make_record(quality={"rmse": Quantity(1.0, "pKd")})], claims.model_copy(update={"claim": tuple(more)}), {}, tmp_path)
        assert rows_of(page)[0]["documented"] == "0.9 to 1.30, not comparable"

    def test_image_and_attention_kernel(self, make_record: Any, tmp_path: Path) -> None:
        environment = Environment(python="3.11", torch="2.13", numpy="2.4", packages_sha256="0" * 64, image_digest="sha256:" + "3f" * 32)
        records = [make_record(environment=environment, conditions={"attention": "flash", "batch": 64}), make_record("affinity-v1/z/train/smoke/closed/fp32")]
        first, second, _ = rows_of(render_leaderboard(records, Claims(), {}, tmp_path))
        assert (first["image"], first["attention"]) == ("3f3f3f3f3f3f", "flash")
        assert (second["image"], second["attention"]) == ("", "")

    @pytest.mark.parametrize(("curve", "moment"), [((1.9, 1.47, 1.4), "25"), ((1.9, 1.5, 1.48), "not reached")])
    def test_time_to_the_documented_quality_under_documented_conditions(
        self, make_record: Any, records: list[Record], claims: Claims, tmp_path: Path, curve: tuple[float, ...], moment: str
    ) -> None:
        timed = records[0].model_copy(update={"curves": {"test_rmse": curve, "epoch_end_s": (12.5, 25.0, 37.5)}})
        assert rows_of(render_leaderboard([timed], claims, {}, tmp_path))[0]["to documented s"] == moment
        elsewhere = timed.model_copy(update={"conditions": {"dataset": "abag", "n_train": 7}})
        assert "to documented s" not in rows_of(render_leaderboard([elsewhere], claims, {}, tmp_path))[0]

    def test_a_reason_shows_as_it_was_written(self, make_record: Any, tmp_path: Path) -> None:
        reason, emulated = "x < y & 'z' > \"w\"", "a <card> & more"
        page = render_leaderboard([make_record(outcome=Outcome.OOM, reason=reason, emulated=(emulated,))], Claims(), {}, tmp_path)
        html = MarkdownIt("commonmark").enable("table").render(page)
        shown = re.findall(r"<li>\(1\) (.*)</li>", html)
        assert [unescape(text) for text in shown] == [f"{reason}; emulated: {emulated}"]

    def test_a_row_that_was_not_alone_on_its_machine_says_so(self, make_record: Any, tmp_path: Path) -> None:
        page = render_leaderboard([make_record(beside=("nightly <b> (pid 4711)",))], Claims(), {}, tmp_path)
        assert reason_of(page, rows_of(page)[0]) == ("ok", "beside other runs on its machine: nightly &lt;b&gt; (pid 4711)")

    def test_a_summary_shows_as_it_was_written(self, records: list[Record], claims: Claims, tmp_path: Path) -> None:
        page = render_leaderboard(records, claims, HEADS, tmp_path)
        assert "* affinity-v2: Four hidden layers, the document's &amp; &lt;ours&gt;. Ranked by rmse, lower is better." in page.splitlines()

    def test_equal_reasons_stand_below_the_table_once(self, make_record: Any, tmp_path: Path) -> None:
        skipped = [make_record(f"affinity-v1/{name}/train/smoke/closed/fp32", outcome=Outcome.SKIPPED, reason="no ESM-2 here") for name in "ab"]
        page = render_leaderboard(skipped, Claims(), {}, tmp_path)
        assert [row["outcome"] for row in rows_of(page) if "outcome" in row] == ["skipped (1)", "skipped (1)"]
        assert page.count("no ESM-2 here") == 1

    def test_rows_link_to_records_that_are_there(self, make_record: Any, tmp_path: Path) -> None:
        store = RunStore.create(tmp_path / "runs", "first")
        path = store.append(make_record())
        (record,) = read_runs(tmp_path)
        page = render_leaderboard([record], Claims(), {"first": store.head() or ""}, tmp_path)
        assert rows_of(page)[0]["record"] == "[1]"
        (link,) = re.findall(r"^\[1\]: (.*)$", page, re.MULTILINE)
        assert tmp_path / link == path
        assert f"| first | {store.head()} |" in page

    def test_run_without_files_or_with_a_path_for_a_name_is_not_linked(self, make_record: Any, tmp_path: Path) -> None:
        (tmp_path / "evil").mkdir()
        page = render_leaderboard([make_record(), make_record(run="../../evil", minutes=1)], Claims(), {}, tmp_path)
        assert "](" not in page.replace("](CLAIMS.md)", "")
        assert not re.search(r"^\[\d", page, re.MULTILINE)


NASTY = "</td><script>alert(1)</script> | `x` [a](javascript:alert(1)) ![i](http://evil.example/p.png) https://evil.example www.evil.example @everyone $x$ \n# h\n\x1b[2J\u202e\u2066\x00 " + "A" * 5000


def test_hostile_record_shows_as_text(make_record: Any, tmp_path: Path) -> None:
    hostile = make_record(
        "affinity-v1/documented/train/smoke/closed/fp32".replace("documented", "<b>|`v`"),
        run=NASTY,
        outcome=Outcome.CRASH,
        reason=NASTY,
        conditions={"batch": NASTY},
        quality={"rmse": Quantity(1e308, NASTY, 1, -1e308, 1e308, NASTY)},
        measurements={"samples_per_s": Quantity(-1e300, NASTY), "mfu": Quantity.missing(NASTY, NASTY)},
    )
    twisted = hostile.model_copy(
        update={
            "dataset": hostile.dataset.model_copy(update={"name": NASTY}),
            "machine": hostile.machine.model_copy(update={"cpu": NASTY}),
            "case": hostile.case.model_copy(update={"workload": "<img src=x>"}),
        }
    )
    page = render_leaderboard([hostile, twisted], Claims(), {NASTY: NASTY}, tmp_path)
    assert len(page) < 10_000
    assert all(c == "\n" or c.isprintable() for c in page)
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert re.findall(r"<a [^>]*>", html) == ['<a href="CLAIMS.md">']
    assert set(re.findall(r"<(\w+)", html)) == {"h1", "h2", "p", "ul", "li", "strong", "code", "a", "table", "thead", "tbody", "tr", "th", "td"}
    assert re.findall(r"<h\d>(.*?)</h", html) == ["Leaderboard", "affinity", "other workloads", "Runs"]
    # GitHub links bare addresses and names of people beyond CommonMark
    assert not re.search(r"https?://|www\.\w|@", html)
    assert not re.search(r"(?<!\\)\$", page)
    # whatever the cells hold, every line of a table has as many cells as its header
    assert len(rows_of(page)) == 3


def test_ten_thousand_records_are_ranked_quickly(make_record: Any, tmp_path: Path, claims: Claims) -> None:
    one = make_record(quality={"rmse": Quantity(1.0, "pKd")})
    many = [one.model_copy(update={"ended": one.ended + timedelta(seconds=i), "sequence": i}) for i in range(10_000)]
    page = render_leaderboard(many, claims, {}, tmp_path)
    assert ranked(page) == {"affinity-v1/documented": "1"}
