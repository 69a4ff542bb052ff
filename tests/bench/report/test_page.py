"""The HTML page as a file: size, policy, determinism, what it holds. What a browser makes of it: test_page_browser.py."""

import base64
import hashlib
import json
import random
import re
import shlex
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assay.bench.case import Case, Outcome, Preset, Quantity, UsageError
from assay.bench.checkout import PUBLISHED
from assay.bench.claims.documented import Claims, find_claims, load_claims
from assay.bench.cli.main import app
from assay.bench.formatting.numbers import format_interval
from assay.bench.gate.verdict import Finding, FindingKind, GateReport, GateVerdict, Side
from assay.bench.records.record import Dataset, Environment, Machine, Record
from assay.bench.records.store import RunStore, read_runs
from assay.bench.registry import select_cases
from assay.bench.report import write_pages
from assay.bench.report.page import PAGE_BYTES, read_history, render_page
from assay.bench.report.page.payload import ELEMENT, fill_blocks, pack, round_quantity, spread, thin_curve
from assay.bench.report.page.reproduction import write_commands

MakeRecord = Callable[..., Record]


def unpack(packed: str) -> Any:
    return json.loads(zlib.decompress(base64.b64decode(packed), 31))


def read_core(page: str) -> Any:
    found = re.search(r'id="data-core">([^<]*)<', page)
    assert found
    return unpack(found[1])


@pytest.fixture(scope="module")
def real() -> list[Record]:
    """The records of the project itself."""
    return read_runs(PUBLISHED)


def vary(record: Record, number: int, luck: random.Random) -> Record:
    """Another run of the same case: every measured number, curve, time and hash differs; every fiftieth run is on another machine."""

    def shake(quantity: Quantity) -> Quantity:
        if quantity.value is None:
            return quantity
        factor = luck.lognormvariate(0, 0.1)
        ends = sorted(end * factor for end in (quantity.low, quantity.high) if end is not None)
        low, high = ends if len(ends) == 2 else (None, None)
        return replace(quantity, value=quantity.value * factor, low=low, high=high)

    machine = record.machine and record.machine.model_copy(update={"cpu": f"{record.machine.cpu} {number // 50 % 40}"})
    changes = {
        "run": f"20260101T{number // 40:06d}Z-cpu-standard",
        "sequence": number % 40,
        "ended": record.ended + timedelta(seconds=37 * number + luck.random()),
        "machine": machine,
        "comparability": record.comparability and record.comparability.model_copy(update={"device": f"{record.comparability.device} {number // 50 % 40}"}),
        "measurements": {name: shake(quantity) for name, quantity in record.measurements.items()},
        "quality": {name: shake(quantity) for name, quantity in record.quality.items()},
        "curves": {name: [value * luck.lognormvariate(0, 0.1) for value in curve[:60]] for name, curve in record.curves.items()},
        "weights_sha256": hashlib.sha256(str(number).encode()).hexdigest(),
    }
    return record.model_copy(update=changes)


@pytest.mark.usefixtures("checkout")
def test_ten_thousand_records_fit(real: list[Record]) -> None:
    luck = random.Random(1)
    records = [vary(real[number % len(real)], number, luck) for number in range(10_000)]
    page = render_page(records, Claims())
    assert len(page.encode()) <= PAGE_BYTES
    core = read_core(page)
    assert core["count"] == 10_000
    assert core["detailed"] >= 2000
    assert core["curved"] >= 400
    assert page.count('class="data-details"') == -(-core["detailed"] // core["block"])
    shown = {(core["pool"][run], sequence) for run, sequence in zip(core["columns"]["run"], core["columns"]["sequence"], strict=True)}
    assert len(shown) == 10_000


def test_few_records_are_shown_whole(real: list[Record]) -> None:
    core = read_core(render_page(real, Claims()))
    assert core["detailed"] == core["curved"] == core["count"] == len(real)


def test_the_order_of_records_does_not_matter(records: list[Record], claims: Claims) -> None:
    assert render_page(random.Random(1).sample(records, len(records)), claims) == render_page(records, claims)


def test_the_policy_names_every_script_and_nothing_else(records: list[Record], claims: Claims) -> None:
    page = render_page(records, claims)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    plots = re.search(r'id="data-plots">([^<]*)<', page)
    assert policy
    assert style
    assert plots
    assert len(scripts) == 1

    def digest(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    said = policy[1].replace("&#39;", "'")
    library = zlib.decompress(base64.b64decode(plots[1]), 31).decode()
    assert said == (
        f"default-src 'none'; script-src '{digest(scripts[0])}' '{digest(library)}'; style-src '{digest(style[1])}'; "
        "style-src-attr 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )


def test_nothing_is_loaded_from_anywhere(records: list[Record], claims: Claims) -> None:
    page = render_page(records, claims)
    assert re.findall(r"""(?:src|srcset|action|data)\s*=|@import|url\(""", re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)) == []
    assert all(link.startswith(("#", "LEADERBOARD.md")) for link in re.findall(r'href="([^"]*)"', page))


@pytest.mark.parametrize("active", ["<script>alert(1)</script>", "\u202e", "</script>", "\x1b[31m", '" onmouseover="x'])
def test_a_hostile_record_adds_no_markup(make_record: MakeRecord, claims: Claims, active: str) -> None:
    def build(text: str) -> str:
        data = Dataset(name=text, sha256="0" * 64, synthetic=True, source=text, licence=text, rows={})
        failed = make_record("splice-validated/x/train/smoke/closed/fp32", run="b", outcome=Outcome.CRASH, reason=text)
        return re.sub(r'>[A-Za-z0-9+/=]{40,}<', "><", render_page([make_record(dataset=data, recipe={text: text}), failed], claims))

    hostile, tame = build(active), build("tame")
    assert re.findall(r"<[^>]*>", hostile) == re.findall(r"<[^>]*>", tame)
    assert "\u202e" not in hostile
    assert "\x1b" not in hostile


@pytest.mark.usefixtures("workloads")
def test_rows_call_their_data_and_what_was_tested_as_the_leaderboard_does(make_record: MakeRecord, claims: Claims) -> None:
    def score(name: str, sha256: str, minutes: int, **changes: Any) -> Record:
        data = Dataset(name="abag", sha256=sha256 * 64, synthetic=False, source="s", licence="l", rows={})
        quality = {"rmse": Quantity(1.48, "pKd", 100, 1.47, 1.49)}
        conditions = {"dataset": "abag", "n_train": 231_532, "split": "random", "n_test": 115}
        record = make_record(f"affinity-v1/{name}/train/standard/closed/fp32", dataset=data, minutes=minutes, sequence=minutes, quality=quality, conditions=conditions, **changes)
        assert record.comparability
        return record.model_copy(update={"comparability": record.comparability.model_copy(update={"dataset_sha256": sha256 * 64})})

    def tell(column: str, *records: Record) -> list[str]:
        core = read_core(render_page(records, claims))
        return [core["pool"][cell] for cell in core["columns"][column]]

    environment = Environment(python="3", torch="2", numpy="2", packages_sha256="0" * 64, image_digest="sha256:" + "3f" * 32)
    newest, earlier, other = score("documented", "a", 3, environment=environment), score("documented", "a", 1), score("by-complex", "b", 2)
    assert tell("data", newest) == tell("data", newest, earlier)[:1] == ["abag"]
    assert tell("data", newest, earlier, other) == ["abag aaaaaa", "abag bbbbbb", "abag aaaaaa"]
    assert tell("problem", newest) == ["split random, n_test 115"]
    before = score("documented", "a", 4, older=True)
    core = read_core(render_page([newest, before], claims))
    assert [core["columns"][column] for column in ("older_source", "latest", "rank")] == [[0, 1], [1, 0], [core["pool"].index("1"), core["pool"].index("")]]
    assert tell("image", newest, other) == ["3f3f3f3f3f3f", ""]
    assert tell("documented", newest, earlier) == ["1.4761, reproduced", ""]


def test_no_records_make_a_page_too(claims: Claims) -> None:
    page = render_page([], claims)
    assert read_core(page)["count"] == 0
    assert "affinity-v1-rmse" in page


class TestCommands:
    def test_they_select_the_very_case_and_what_it_needs(self, real: list[Record]) -> None:
        for record in real:
            *_, command = write_commands(record)
            words = shlex.split(command)
            said = dict(zip(words[4::2], words[5::2], strict=True))
            chosen = select_cases(Preset(said["--preset"]), record.case.division, said["--select"])
            needed = Case.parse(record.case.case.id.replace("/eval/", "/train/"))
            assert set(chosen) == {record.case.case, needed}
            assert said.get("--seed") == ("42" if record.comparability else None)  # what could not start has no seed to tell

    def test_data_is_asked_for_only_where_it_is_real(self, make_record: MakeRecord) -> None:
        data = Dataset(name="abag", sha256="0" * 64, synthetic=False, source="s", licence="l", rows={})
        *_, hint, command = write_commands(make_record(dataset=data))
        assert hint.startswith("# abag belongs in data/")
        assert " --data data " in command
        assert "--data" not in write_commands(make_record())[-1]
        ours = data.model_copy(update={"name": "published-kernel-call"})  # comes with the source
        assert not any("data" in line for line in write_commands(make_record(dataset=ours)))

    @pytest.mark.usefixtures("checkout")  # its records are in no image
    def test_every_real_data_set_of_the_project_is_asked_for(self, real: list[Record]) -> None:
        asked = {record.dataset.name for record in real if record.dataset and " --data data " in write_commands(record)[-1]}
        read = {record.dataset.name for record in real if record.dataset and not record.dataset.synthetic}
        assert asked == read - {"published-kernel-call"}  # which comes with the source
        assert asked >= {"abag-skempi", "gue-prom-core-tata", "impc-abr-union", "mapsy", "methylbert-reads", "vex-seq"}

    @pytest.mark.parametrize(("cuda", "triton", "kind"), [(None, None, "cpu"), ("13.0", "3.4.0", "cuda"), ("12.1", "2.1.0", "triton2")])
    def test_a_run_in_an_image_is_repeated_in_one(self, make_record: MakeRecord, cuda: str | None, triton: str | None, kind: str) -> None:
        environment = Environment(python="3", torch="2", numpy="2", packages_sha256="0" * 64, cuda=cuda, triton=triton, image_digest="sha256:d")
        assert f" --engine docker --image {kind} " in write_commands(make_record(environment=environment))[-1]
        assert "--engine" not in write_commands(make_record(environment=environment.model_copy(update={"image_digest": None})))[-1]

    def test_what_was_pretended_is_pretended_again(self, make_record: MakeRecord) -> None:
        words = shlex.split(write_commands(make_record(emulated=("gpu: fake NVML", "x; rm -rf /")))[-1])
        assert [words[i + 1] for i, word in enumerate(words) if word == "--emulated"] == ["gpu: fake NVML", "x; rm -rf /"]

    def test_what_no_command_brings_back_is_said(self, make_record: MakeRecord) -> None:
        environment = Environment(python="3", torch="2", numpy="2", packages_sha256="0" * 64, git_sha="b" * 40, git_dirty_sha256="c" * 64, image_digest="sha256:d")
        lines = write_commands(make_record(environment=environment))
        assert lines[0] == "git checkout " + "b" * 40
        assert any("had changes that no commit holds" in line for line in lines)
        assert "# in the image sha256:d" in lines
        assert write_commands(make_record(environment=environment.model_copy(update={"git_sha": "--force"})))[0] == "# the commit is not recorded"


class TestPayload:
    @pytest.mark.parametrize(
        ("quantity", "expected"),
        [
            (Quantity(0.39123, "r", 10, 0.38512, 0.39789), (0.391, 0.385, 0.398)),
            (Quantity(63092.5, "1/s", 10, 43521.6, 71206.4), (63000, 44000, 71000)),
            (Quantity(9.956207, "s"), (9.956, None, None)),
            (Quantity(3_011_843.0, ""), (3_011_843, None, None)),
            (Quantity(1e300, "", 1, -1e300, 1e300), (1e300, -1e300, 1e300)),
            (Quantity.missing("s", "why"), (None, None, None)),
        ],
    )
    def test_numbers_keep_the_digits_that_tables_show(self, quantity: Quantity, expected: tuple[float | None, ...]) -> None:
        assert round_quantity(quantity) == expected

    def test_numbers_are_those_of_the_leaderboard(self) -> None:
        luck = random.Random(2)
        for _ in range(500):
            value = luck.lognormvariate(0, 3)
            quantity = Quantity(value, "", 9, value * 0.97, value * (1 + luck.random()))
            shown = [float(number.replace(",", "")) for number in re.findall(r"[\d.,]*\d(?:e[+-]\d+)?", format_interval(quantity))]
            assert shown == list(round_quantity(quantity))

    def test_curves_keep_both_ends(self) -> None:
        assert spread(5, 9) == [0, 1, 2, 3, 4]
        assert spread(1000, 4) == [0, 333, 666, 999]
        assert thin_curve([1.23456, 2, 3, 4, 5.55555], 2) == [1.235, 5.556]

    def test_blocks_stop_at_the_budget(self) -> None:
        block = len(pack(list(range(10))))
        blocks, held = fill_blocks(list(range(10)) * 3, list, 10, 2 * (block + ELEMENT) + 1)
        assert (len(blocks), held) == (2, 20)
        assert unpack(blocks[1]) == list(range(10))

    def test_the_same_value_packs_to_the_same_text(self) -> None:
        assert pack({"a": [1, "\u00e9"]}) == pack({"a": [1, "\u00e9"]})


class TestHistory:
    def write(self, results: Path, day: int, *kinds: FindingKind) -> Path:
        ratio = Quantity(1.05, "candidate / reference", 10, 1.02, 1.08)
        findings = tuple(Finding(case_id="a/b", kind=kind, verdict=GateVerdict.REGRESSED, reason="slower", estimate=ratio) for kind in kinds)
        sides = {name: Side(name=name, identity=name) for name in ("reference", "candidate")}
        ended = datetime(2026, 1, day, tzinfo=UTC)
        machine = Machine(cpu="Xeon", cores=4, threads=4, memory_bytes=2**34, system="Linux")
        report = GateReport(**sides, machine=machine, seed=1, started=ended, ended=ended, findings=findings)
        path = results / "gate" / "reports" / f"{9 - day}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report.model_dump_json())
        return path

    def test_there_may_be_none(self, tmp_path: Path) -> None:
        assert read_history(tmp_path) == []

    def test_speed_findings_come_oldest_first(self, tmp_path: Path) -> None:
        self.write(tmp_path, 2, FindingKind.SPEED, FindingKind.MEMORY)
        self.write(tmp_path, 1, FindingKind.SPEED)
        passages = read_history(tmp_path)
        assert [passage.when.day for passage in passages] == [1, 2]
        page = render_page([], Claims(), passages)
        assert read_core(page)["history"][1] == ["2026-01-02T00:00:00+00:00", "a/b", "candidate", "regressed", 1.05, 1.02, 1.08]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        path = self.write(tmp_path, 1)
        path.write_text("{}")
        with pytest.raises(UsageError, match=re.escape(str(path))):
            read_history(tmp_path)


class TestWritePages:
    def test_the_page_lies_beside_the_others_or_where_it_is_told(self, tmp_path: Path) -> None:
        assert [path.name for path in write_pages(tmp_path)] == ["LEADERBOARD.md", "CLAIMS.md", "index.html"]
        write_pages(tmp_path, page=tmp_path / "other.html")
        assert (tmp_path / "other.html").read_bytes() == (tmp_path / "index.html").read_bytes()

    def test_a_place_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"missing/index\.html cannot be written: No such file or directory; choose"):
            write_pages(tmp_path, page=tmp_path / "missing" / "index.html")

    def test_an_interruption_leaves_the_page_as_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_pages(tmp_path)
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

        def write_half(path: Path, text: str, encoding: str) -> int:
            with path.open("w", encoding=encoding) as stream:
                stream.write(text[:10])
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "write_text", write_half)
        with pytest.raises(KeyboardInterrupt):
            write_pages(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def test_json_holds_the_records_of_the_pages_without_reading_the_store_again(self, tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
        store = RunStore.create(tmp_path / "runs", "first")
        for minutes in (1, 2):
            store.append(make_record(minutes=minutes))
        monkeypatch.setattr("assay.bench.records.store.read_runs", None)
        told = CliRunner().invoke(app, ["board", "--json", "--results", str(tmp_path)])
        assert [record["sequence"] for record in json.loads(told.stdout)] == [1]

    def test_the_command_takes_the_place_as_an_option(self, tmp_path: Path) -> None:
        told = CliRunner().invoke(app, ["board", "--results", str(tmp_path), "--page", str(tmp_path / "mine.html")])
        assert told.exit_code == 0
        assert (tmp_path / "mine.html").read_text().startswith("<!doctype html>")
        refused = CliRunner().invoke(app, ["board", "--results", str(tmp_path), "--page", str(tmp_path / "no" / "mine.html")])
        assert refused.exit_code == 2
        assert "cannot be written" in refused.output

    def test_the_projects_own_claims_all_stand_on_it(self) -> None:
        claims = load_claims(find_claims(PUBLISHED))
        page = render_page([], claims)
        assert all(f'id="claim-{claim.id}"' in page for claim in claims.claim)
