"""Records in other tools' formats, each read back by the tool itself, and other tools' numbers as unverified rows."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from assay.bench.case import Case, Outcome, Quantity, UsageError
from assay.bench.claims.documented import Claims
from assay.bench.cli.main import app
from assay.bench.exchange.benchmark_action import write_action_json
from assay.bench.exchange.imports import MAX_BYTES, keep_import, read_imports
from assay.bench.exchange.pytest_json import read_pytest_json, write_pytest_json
from assay.bench.exchange.tables import write_csv, write_parquet
from assay.bench.exchange.tracking import log_records
from assay.bench.records.record import CaseFields, Dataset, Machine, Record
from assay.bench.records.store import RunStore
from assay.bench.report.leaderboard import render_leaderboard

BEGAN = datetime(2024, 1, 2, tzinfo=UTC)
STEPS = (0.010, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016)


def draft(case: str = "affinity-v1/documented/train/smoke/closed/fp32", sequence: int = 0, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "run": "first",
        "sequence": sequence,
        "case": CaseFields.of(Case.parse(case)),
        "outcome": Outcome.OK,
        "profile": "cpu",
        "started": BEGAN,
        "ended": BEGAN + timedelta(minutes=3),
        "machine": Machine(cpu="Xeon", cores=2, threads=2, memory_bytes=2**34, system="Linux"),
        "dataset": Dataset(name="abag-twin", sha256="0" * 64, synthetic=True, source="s", licence="MIT", rows={}),
        "conditions": {"batch": 128},
        "measurements": {"samples_per_s": Quantity(5000.0, "samples/s", 7, 4900.0, 5100.0, "median"), "step_ms": Quantity(13.0, "ms", 7, 10.0, 16.0, "median")},
        "quality": {"spearman": Quantity(0.5, "", 90, 0.4, 0.6)},
        "facts": {"parameters": 72_449},
    }
    return Record.model_validate(fields | changes)


@pytest.fixture
def records() -> list[Record]:
    return [
        draft(curves={"step_s": STEPS, "train_loss": (2.0, 1.5)}),
        draft("affinity-v1/documented/eval/smoke/closed/fp32", 1, measurements={"step_ms": Quantity(9.0, "ms", 10, 8.0, 11.0)}),
        draft("affinity-v2/documented/train/smoke/closed/fp32", 2, outcome=Outcome.OOM, reason="=cmd|' /C calc'!A0", measurements={}, quality={}),
        draft("affinity-v2/documented/eval/smoke/closed/fp32", 3, emulated=("gpu: fake NVML",)),
    ]


class TestTables:
    def test_csv_has_a_row_per_record_and_every_figure_with_its_interval(self, records: list[Record], tmp_path: Path) -> None:
        write_csv(records, tmp_path / "r.csv")
        rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
        assert [row["outcome"] for row in rows] == ["ok", "ok", "oom", "ok"]
        first = rows[0]
        assert (first["measurement.samples_per_s.value"], first["measurement.samples_per_s.low"], first["measurement.samples_per_s.unit"]) == ("5000.0", "4900.0", "samples/s")
        assert (first["quality.spearman.high"], first["fact.parameters"], first["synthetic"], first["case"]) == ("0.6", "72449.0", "True", records[0].case.case.id)
        assert rows[2]["measurement.samples_per_s.value"] == ""

    def test_a_formula_in_a_strangers_record_is_text_in_a_spreadsheet(self, records: list[Record], tmp_path: Path) -> None:
        write_csv([*records, draft(sequence=4, quality={"=1+1": Quantity(1.0, "@x")}, run="-2")], tmp_path / "r.csv")
        cells = [cell for row in csv.reader((tmp_path / "r.csv").read_text().splitlines()) for cell in row]
        assert "'=cmd|' /C calc'!A0" in cells
        assert [cell for cell in cells if cell.startswith(("=", "@", "+", "-"))] == []

    def test_parquet_holds_the_same_typed(self, records: list[Record], tmp_path: Path) -> None:
        write_parquet(records, tmp_path / "r.parquet")
        table = pd.read_parquet(tmp_path / "r.parquet")
        assert table["measurement.step_ms.value"].tolist()[:2] == [13.0, 9.0]
        assert table["measurement.step_ms.value"].dtype == "float64"
        assert table["outcome"].tolist() == ["ok", "ok", "oom", "ok"]


class TestAction:
    def test_one_entry_per_record_that_ended_in_order_on_real_hardware(self, records: list[Record], tmp_path: Path) -> None:
        assert write_action_json(records, "step_ms", tmp_path / "a.json") == (2, "customSmallerIsBetter")
        first, second = json.loads((tmp_path / "a.json").read_text())
        assert first["name"] == "affinity-v1/documented/train/smoke/closed/fp32 | CPU (Xeon) | abag-twin | batch None"
        assert (first["unit"], first["value"], first["range"]) == ("ms", 13.0, "10 to 16")
        assert second["value"] == 9.0
        assert {*first} == {"name", "unit", "value", "range", "extra"}

    @pytest.mark.parametrize(("metric", "tool"), [("samples_per_s", "customBiggerIsBetter"), ("spearman", "customBiggerIsBetter")])
    def test_direction_is_that_of_the_metric(self, records: list[Record], tmp_path: Path, metric: str, tool: str) -> None:
        assert write_action_json(records, metric, tmp_path / "a.json")[1] == tool

    @pytest.mark.parametrize(("metric", "fault"), [("happiness", "no record that ended in order has it"), ("mae", "not known whether more of it is better")])
    def test_other_metrics_are_refused(self, tmp_path: Path, metric: str, fault: str) -> None:
        with pytest.raises(UsageError, match=fault):
            write_action_json([draft(quality={"mae": Quantity(1.0, "pKd")})], metric, tmp_path / "a.json")


class TestMlflow:
    @pytest.fixture
    def client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())

    @pytest.mark.filterwarnings("ignore")  # of MLflow's own making
    def test_records_become_runs_of_a_real_store_once(self, records: list[Record], tmp_path: Path, client: Any) -> None:
        records[1] = draft("affinity-v1/documented/eval/smoke/closed/fp32", 1, quality={"../../a b<c>": Quantity(1.0, "")})
        assert log_records(records[:2], str(tmp_path / "mlruns")) == (2, 0)
        assert log_records(records, str(tmp_path / "mlruns")) == (2, 2)
        experiment = client.get_experiment_by_name("assay").experiment_id
        runs = {run.data.tags["assay.record"]: run for run in client.search_runs([experiment])}
        assert sorted(runs) == [f"first/{n:04d}" for n in range(4)]
        run = runs["first/0000"]
        assert run.data.params["workload"] == "affinity-v1"
        assert run.data.params["batch"] == "128"
        assert (run.data.metrics["quality.spearman"], run.data.metrics["quality.spearman.low"]) == (0.5, 0.4)
        assert [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "curve.train_loss")] == [(1, 2.0), (2, 1.5)]
        assert (run.info.status, run.info.end_time - run.info.start_time) == ("FINISHED", 180_000)
        assert (runs["first/0002"].info.status, runs["first/0002"].data.tags["assay.outcome"]) == ("FAILED", "oom")
        assert runs["first/0001"].data.metrics["quality..._.._a_b_c_"] == 1.0
        assert [path.name for path in tmp_path.iterdir()] == ["mlruns"]

    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize("interrupted", ["log_batch", "set_terminated", "set_tag"])
    def test_an_export_that_was_interrupted_is_repeated(self, records: list[Record], tmp_path: Path, client: Any, monkeypatch: pytest.MonkeyPatch, interrupted: str) -> None:
        def interrupt(*arguments: object, **options: object) -> None:
            raise KeyboardInterrupt

        store = str(tmp_path / "mlruns")
        with monkeypatch.context() as patch:
            patch.setattr(type(client), interrupted, interrupt)
            with pytest.raises(KeyboardInterrupt):
                log_records(records[:1], store)
        assert log_records(records[:1], store) == (1, 0)
        assert log_records(records[:1], store) == (0, 1)
        runs = client.search_runs([client.get_experiment_by_name("assay").experiment_id])
        (run,) = (run for run in runs if "assay.record" in run.data.tags)
        assert (len(runs), run.info.status, run.data.metrics["quality.spearman"]) == (2, "FINISHED", 0.5)

    def test_without_mlflow_the_message_says_how_to_get_it(self, records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "mlflow.exceptions", None)
        with pytest.raises(UsageError, match=r"MLflow is not installed: .*pip install mlflow-skinny"):
            log_records(records, str(tmp_path / "mlruns"))

    def test_a_store_it_cannot_use_is_wrong_use(self, records: list[Record]) -> None:
        with pytest.raises(UsageError, match="--out ftp://nowhere: MLflow cannot use it"):
            log_records(records, "ftp://nowhere")


class TestPytestBenchmark:
    def test_its_own_compare_command_reads_ours(self, records: list[Record], tmp_path: Path) -> None:
        path = tmp_path / "ours.json"
        assert write_pytest_json(records, path) == (2, 1)
        done = subprocess.run([sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median,iqr,rounds"], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "affinity-v1/documented/train/smoke/closed/fp32" in done.stdout
        assert "13.0000" in done.stdout
        with_rounds, alone = json.loads(path.read_text())["benchmarks"]
        assert with_rounds["stats"]["data"] == list(STEPS)
        assert (with_rounds["stats"]["min"], with_rounds["stats"]["rounds"]) == (0.010, 7)
        assert (alone["stats"]["data"], alone["stats"]["rounds"]) == ([0.009], 1)
        assert alone["extra_info"]["note"] == "one datum: the median of 10 rounds, which this record does not keep"

    def test_what_was_exported_comes_back_with_its_interval(self, records: list[Record], tmp_path: Path) -> None:
        write_pytest_json(records, tmp_path / "ours.json")
        imported = read_pytest_json(tmp_path / "ours.json")
        assert [row.seconds.value for row in imported.rows] == [0.009, 0.013]
        # seven values: the extreme ones bound the median with 98 %, the next ones only with 87 %
        assert (imported.rows[1].seconds.low, imported.rows[1].seconds.high) == (0.010, 0.016)
        assert (imported.machine, imported.rows[1].group) == ("Xeon", "affinity-v1")

    def test_a_file_that_pytest_wrote_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "test_it.py").write_text("def test_sum(benchmark):\n    benchmark.pedantic(sum, args=([1, 2],), rounds=8)\n")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--benchmark-json=it.json", "test_it.py"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
        (row,) = read_pytest_json(tmp_path / "it.json").rows
        assert (row.name, row.seconds.n) == ("test_it.py::test_sum", 8)
        assert row.seconds.low is not None
        assert row.seconds.low <= (row.seconds.value or 0) <= (row.seconds.high or 0)

    def test_nothing_to_export(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no record to export was timed in order"):
            write_pytest_json([draft(measurements={})], tmp_path / "x.json")


class TestImport:
    @pytest.fixture
    def file(self, records: list[Record], tmp_path: Path) -> Path:
        write_pytest_json(records, tmp_path / "theirs.json")
        return tmp_path / "theirs.json"

    def test_rows_stand_apart_unranked(self, file: Path, tmp_path: Path) -> None:
        imported = read_pytest_json(file)
        first, again = keep_import(imported, tmp_path), keep_import(imported, tmp_path)
        assert first == again
        assert read_imports(tmp_path) == [imported]
        page = render_leaderboard([draft()], Claims(), {}, tmp_path, imports=read_imports(tmp_path))
        section = page[page.index("## Imported, not verified") : page.index("## Runs")]
        header, _, *rows = [line for line in section.splitlines() if line.startswith("|")]
        assert [cell.strip() for cell in header.split("|")[1:-1]] == ["benchmark", "group", "seconds", "rounds", "machine", "measured", "file"]
        assert len(rows) == 2
        assert "0.013000 [0.010000, 0.016000]" in rows[1] or "0.0130 [0.0100, 0.0160]" in rows[1]
        assert page.count("affinity-v1/documented/train") == 1  # not among the ranked rows, where a workload stands without its phase

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda text: text[: len(text) // 2], "the file: Invalid JSON: EOF"),
            (lambda text: "", "the file: Invalid JSON: EOF"),
            (lambda text: "[" * 200_000, "the file: Invalid JSON: recursion limit"),
            (lambda text: "[]", "the file: Input should be an object"),
            (lambda text: text.replace('"benchmarks"', '"bookmarks"'), "benchmarks: Field required"),
            (lambda text: text.replace('"median": 0.009', '"median": NaN'), "benchmarks.1.stats.median: Input should be a finite number"),
            (lambda text: text.replace('"median": 0.009', '"median": -1'), "benchmarks.1.stats.median: Input should be greater than 0"),
            (lambda text: text.replace('"median": 0.009', '"median": 0.001'), "its median or number of rounds is not that of its own data; the file was changed"),
            (lambda text: text.replace('"fullname": "', '"fullname": "' + "x" * 2000), "benchmarks.0.fullname: String should have at most 1000 characters"),
            (lambda text: text.replace('"datetime": "2024', '"datetime": "yester'), "datetime: Input should be a valid datetime"),
        ],
    )
    def test_hostile_or_cut_files_are_refused_with_a_remedy(self, file: Path, change: Callable[[str], str], fault: str) -> None:
        text = file.read_text()
        file.write_text(change(text))
        assert file.read_text() != text
        with pytest.raises(UsageError) as caught:
            read_pytest_json(file)
        assert str(caught.value).startswith(f"{file}: ")
        assert fault in str(caught.value)

    def test_missing_and_huge_files(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"gone\.json: cannot be read: No such file"):
            read_pytest_json(tmp_path / "gone.json")
        with (tmp_path / "huge.json").open("wb") as stream:
            stream.truncate(MAX_BYTES + 1)
        with pytest.raises(UsageError, match=r"huge\.json: larger than 32 MiB"):
            read_pytest_json(tmp_path / "huge.json")

    def test_a_kept_file_that_was_tampered_with_names_itself(self, file: Path, tmp_path: Path) -> None:
        path = keep_import(read_pytest_json(file), tmp_path)
        path.write_text(path.read_text().replace('"rows"', '"verified"'))
        with pytest.raises(UsageError, match=f"{path.name}: .*delete it and import the original again"):
            read_imports(tmp_path)

    def test_markup_in_names_shows_as_text(self, file: Path, tmp_path: Path) -> None:
        file.write_text(file.read_text().replace("affinity-v1/documented", r"<script>alert(1)</script> | `x` \u202e"))
        page = render_leaderboard([], Claims(), {}, tmp_path, imports=[read_pytest_json(file)])
        assert "<script>" not in page
        assert "\u202e" not in page


class TestCommands:
    @pytest.fixture
    def results(self, records: list[Record], tmp_path: Path) -> Path:
        store = RunStore.create(tmp_path / "runs", "first")
        for record in records:
            store.append(record)
        return tmp_path

    def call(self, *arguments: str) -> Any:
        return CliRunner().invoke(app, arguments)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (("--to", "csv"), "4 records"),
            (("--to", "parquet", "--run", "first"), "4 records"),
            (("--to", "github-action-benchmark"), "1 entries, customBiggerIsBetter (the action's tool)"),
            (("--to", "pytest-benchmark"), "2 entries, 1 of them a median alone"),
        ],
    )
    def test_every_format_is_written(self, results: Path, arguments: tuple[str, ...], said: str) -> None:
        done = self.call("export", *arguments, "--out", str(results / "file"), "--results", str(results))
        assert done.exit_code == 0, done.output
        assert " ".join(done.output.split()) == f"wrote {results / 'file'}: {said}"
        assert (results / "file").stat().st_size > 100

    def test_import_then_board_shows_the_rows(self, results: Path) -> None:
        assert self.call("export", "--to", "pytest-benchmark", "--out", str(results / "b.json"), "--results", str(results)).exit_code == 0
        done = self.call("import", str(results / "b.json"), "--results", str(results), "--json")
        assert len(json.loads(done.output)["rows"]) == 2
        assert self.call("board", "--results", str(results)).exit_code == 0
        assert "## Imported, not verified" in (results / "LEADERBOARD.md").read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("export", "--to", "csv", "--out", "x.csv", "--run", "nowhere"), "--run nowhere: no such folder"),
            (("export", "--to", "csv", "--out", "no/such/folder/x.csv"), "--out no/such/folder/x.csv: cannot be written"),
            (("import", "gone.json"), "gone.json: cannot be read: No such file or directory; give a file that `pytest --benchmark-json=FILE` wrote"),
        ],
    )
    def test_wrong_use_is_one_line_and_exit_2(self, results: Path, arguments: tuple[str, ...], message: str) -> None:
        done = self.call(*arguments, "--results", str(results))
        assert done.exit_code == 2
        assert message in done.output
