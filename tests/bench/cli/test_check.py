"""What `bench check` finds without running anything."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import assay.bench.cli.check
from assay.bench.case import Case, Outcome, Phase, Preset, UsageError
from assay.bench.claims.documented import Claims
from assay.bench.cli.check import Problem, check_current, check_project, check_runs
from assay.bench.cli.main import app
from assay.bench.records.comparability import hash_today
from assay.bench.records.record import CaseFields, Comparability, Record, export_schema
from assay.bench.records.store import RunStore
from assay.bench.registry import select_cases
from assay.bench.report.leaderboard import render_leaderboard
from assay.datasets.card import DataError
from assay.models.workload import Target, Variant
from tests.conftest import ROOT

CLAIM = '[[claim]]\nid = "a"\nworkload = "line"\nmetric = "parameters"\nvalue = 2\ndirection = "equal"\nkind = "fact"\nwhere = { variant = "documented" }\nsource = "s"\n'


def declare(**changes: Any) -> Any:
    """A workload without fault, but for the changes."""
    variant = Variant(name="documented", summary="", phases=(Phase.TRAIN,), presets=(Preset.SMOKE,))
    fields = {"name": "line", "variants": {"documented": variant}, "target": Target(metric="rmse", higher_is_better=False)}
    return SimpleNamespace(**fields | {"facts": lambda variant: {"parameters": 2.0}, "recipe": lambda case: {"epochs": 1}} | changes)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines" / "documented.toml").write_text(CLAIM)
    (tmp_path / "record.schema.json").write_text(export_schema())
    return tmp_path


@pytest.fixture
def found(results: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Problem]]:
    monkeypatch.setattr(assay.bench.cli.check, "load_profiles", dict)

    def check(*workloads: Any) -> list[Problem]:
        monkeypatch.setattr(assay.bench.cli.check, "load_workloads", lambda: MappingProxyType({workload.name: workload for workload in workloads}))
        return check_project(results)

    return check


def test_the_checkout_is_in_order() -> None:
    assert check_project(ROOT / "results") == []


def test_a_folder_without_its_own_claims_and_schema_is_checked_with_the_checkouts(tmp_path: Path) -> None:
    assert check_project(tmp_path) == []


class TestDeclarations:
    def test_a_good_one_is_no_problem(self, found: Callable[..., list[Problem]]) -> None:
        assert found(declare()) == []

    @pytest.mark.parametrize(
        ("changes", "where", "what"),
        [
            ({"target": Target(metric="", higher_is_better=True)}, "workload line", "has no target metric; name the one that ranks it"),
            ({"facts": lambda variant: {"parameters": float("nan")}}, "workload line/documented", "fact parameters is nan; it must be a finite number"),
            ({"recipe": lambda case: {"path": Path("x")}}, "case line/documented/train/smoke/closed/fp32", "its recipe is not JSON: Object of type"),
            ({"recipe": lambda case: {"rate": float("inf")}}, "case line/documented/train/smoke/closed/fp32", "its recipe is not JSON: Out of range float"),
        ],
    )
    def test_faults_are_named(self, found: Callable[..., list[Problem]], changes: dict[str, Any], where: str, what: str) -> None:
        (problem,) = found(declare(**changes))
        assert problem.where == where
        assert problem.what.startswith(what)

    def test_variant_under_another_name(self, found: Callable[..., list[Problem]]) -> None:
        variants = {"documented": Variant(name="other", summary="", presets=())}
        assert found(declare(variants=variants)) == [Problem("workload line/documented", "calls itself 'other'; give both the same name")]

    def test_workload_without_variants(self, found: Callable[..., list[Problem]]) -> None:
        assert Problem("workload line", "has no variant; declare one at least") in found(declare(variants={}))

    @pytest.mark.parametrize("error", [UsageError("two workloads are named 'x'"), ImportError("cannot import name 'y'")])
    def test_family_that_does_not_load(self, results: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr(assay.bench.cli.check, "load_workloads", fail)
        assert check_project(results) == [Problem("models", f"a family cannot be loaded: {type(error).__name__}: {error}")]


class TestClaims:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            (CLAIM.replace('"line"', '"lien"'), "claim a: unknown workload 'lien'; correct it, or list it in `planned`"),
            ('planned = ["line"]\n' + CLAIM, "workload line is there now; take it out of `planned`"),
            (CLAIM.replace('variant = "documented"', 'variant = "large"'), "claim a: workload line has no variant 'large'; it has documented"),
            (CLAIM.replace('metric = "parameters"', 'metric = "weights"'), "claim a: line/documented computes no 'weights'; its facts are parameters"),
            (CLAIM + '[[fits]]\nworkload = "curve"\ngpus = { A40 = "fast" }\n', "fits: unknown workload 'curve'; correct it, or list it in `planned`"),
            (CLAIM + '[[fits]]\nworkload = "line"\nvariants = ["documented", "huge"]\ngpus = { A40 = "fast" }\n', "fits line: it has no variant 'huge'; it has documented"),
        ],
    )
    def test_claims_that_nothing_can_answer(self, found: Callable[..., list[Problem]], results: Path, text: str, what: str) -> None:
        path = results / "baselines" / "documented.toml"
        path.write_text(text)
        assert found(declare()) == [Problem(str(path), what)]

    def test_planned_workloads_may_be_missing(self, found: Callable[..., list[Problem]], results: Path) -> None:
        (results / "baselines" / "documented.toml").write_text('planned = ["curve"]\n' + CLAIM.replace('"line"', '"curve"'))
        assert found(declare()) == []

    def test_fact_that_does_not_say_whose_it_is(self, found: Callable[..., list[Problem]], results: Path) -> None:
        (results / "baselines" / "documented.toml").write_text(CLAIM.replace('where = { variant = "documented" }\n', ""))
        assert found(declare()) == []
        two = {name: Variant(name=name, summary="", presets=()) for name in ("small", "large")}
        (problem,) = found(declare(variants=two))
        assert problem.what == "claim a: a fact of a workload with several variants must name one in `where`"

    def test_file_that_does_not_load(self, found: Callable[..., list[Problem]], results: Path) -> None:
        path = results / "baselines" / "documented.toml"
        path.write_text(CLAIM.replace('"equal"', '"same"'))
        (problem,) = found(declare())
        assert "claim 'a': direction: Input should be" in problem.what


class TestSurroundings:
    def test_schema_that_fell_behind(self, found: Callable[..., list[Problem]], results: Path) -> None:
        (results / "record.schema.json").write_text("{}")
        (problem,) = found(declare())
        assert problem.where == str(results / "record.schema.json")
        assert "refresh it with: python -c" in problem.what

    def test_profiles(self, found: Callable[..., list[Problem]], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assay.bench.cli.check, "load_profiles", lambda: {"a40": SimpleNamespace(name="a40", batch={"line": 8, "curve": 4})})
        assert found(declare()) == [Problem("profile a40", "gives a batch size for the unknown workload 'curve'; known: line")]

        def fail() -> None:
            raise UsageError("a40.toml: memory_gib: Input should be greater than 0; mend the file")

        monkeypatch.setattr(assay.bench.cli.check, "load_profiles", fail)
        assert found(declare()) == [Problem("bench/profiles", "a40.toml: memory_gib: Input should be greater than 0; mend the file")]

    def test_data_sources(self, found: Callable[..., list[Problem]], monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise DataError("sources.toml", "file.0.sha256: too short", "Correct this entry.")

        monkeypatch.setattr(assay.bench.cli.check, "load_sources", fail)
        assert found(declare()) == [Problem("datasets/sources.toml", "sources.toml: file.0.sha256: too short. Correct this entry.")]


class TestRuns:
    @pytest.fixture
    def store(self, results: Path) -> RunStore:
        store = RunStore.create(results / "runs", "first")
        case = CaseFields.of(Case.parse("affinity-v1/documented/train/smoke/closed/fp32"))
        moment = datetime(2024, 1, 2, tzinfo=UTC)
        for _ in range(3):
            store.append(Record(run="first", sequence=0, case=case, outcome=Outcome.OK, started=moment, ended=moment, profile="cpu"))
        return store

    @staticmethod
    def publish(store: RunStore, results: Path) -> None:
        (results / "LEADERBOARD.md").write_text(render_leaderboard(store.read(), Claims(), {"first": store.head() or ""}, results))

    @staticmethod
    def forge(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"profile": "h200"}))

    def test_untouched_runs_are_no_problem(self, store: RunStore, results: Path) -> None:
        assert check_runs(results) == []
        self.publish(store, results)
        assert check_runs(results) == []

    def test_a_forged_record_in_the_middle_breaks_the_chain(self, store: RunStore, results: Path) -> None:
        self.forge(store.paths()[1])
        (problem,) = check_runs(results)
        assert problem.where == "run first"
        assert str(store.paths()[2]) in problem.what

    def test_a_forged_last_record_is_betrayed_by_the_leaderboard(self, store: RunStore, results: Path) -> None:
        self.publish(store, results)
        self.forge(store.paths()[2])
        (problem,) = check_runs(results)
        assert "the last record that" in problem.what
        assert "is not there as it was written" in problem.what

    def test_a_run_that_was_removed_is_missed(self, store: RunStore, results: Path) -> None:
        self.publish(store, results)
        for path in store.paths():
            path.unlink()
        assert [problem.where for problem in check_runs(results)] == ["run first"]

    def test_a_run_may_grow_after_it_was_published(self, store: RunStore, results: Path) -> None:
        self.publish(store, results)
        store.append(store.read()[0])
        assert check_runs(results) == []

    class TestCurrent:
        """A release check: what older source made, no record of today's has replaced, and could be made again."""

        CASE = Case.parse("affinity-v1/documented/train/smoke/closed/fp32")

        def add(self, results: Path, case: Case, declaration: str | None) -> None:
            key = Comparability(case=case.id, declaration_sha256=declaration or "1" * 64, dataset="d", dataset_sha256="2" * 64, environment="e", device="Xeon",
                                device_memory_gib=16, threads=1, seed=42, torch="2")  # fmt: skip
            moment = datetime(2024, 1, 2, tzinfo=UTC)
            RunStore.create(results / "runs", "first").append(
                Record(run="", sequence=0, case=CaseFields.of(case), outcome=Outcome.OK, started=moment, ended=moment, profile="cpu", comparability=key)
            )

        def test_names_older_records_until_they_are_made_again(self, results: Path) -> None:
            self.add(results, self.CASE, None)
            (problem,) = check_current(results)
            assert problem.where == "run first, 0000-affinity-v1.documented.train.smoke.closed.fp32.json"
            command = shlex.split(problem.what.split("`")[1])
            assert command[:4] == ["python", "-m", "bench", "run"]
            chosen = select_cases(Preset(command[command.index("--preset") + 1]), None, command[-1])
            assert [case.id for case in chosen] == [self.CASE.id, self.CASE.id.replace("train", "eval")]
            self.add(results, self.CASE, hash_today(self.CASE, "cpu"))
            assert check_current(results) == []
            assert len(list((results / "runs" / "first").glob("*.json"))) == 2  # the older one stays

        def test_a_case_that_is_gone_cannot_be_made_again(self, results: Path) -> None:
            self.add(results, replace(self.CASE, variant="retired"), None)
            assert check_current(results) == []

        def test_the_command_ends_with_1_and_with_2_where_a_chain_is_broken_too(self, tmp_path: Path) -> None:
            results = tmp_path / "own"  # judged by the checkout's claims

            def run(*words: str) -> Result:
                return CliRunner().invoke(app, ["check", *words, "--results", str(results)])

            self.add(results, self.CASE, None)
            said = run("--runs", "--current", "--json")
            assert (said.exit_code, [problem["where"] for problem in json.loads(said.stdout)]) == (1, ["run first, 0000-affinity-v1.documented.train.smoke.closed.fp32.json"])
            self.add(results, self.CASE, None)
            TestRuns.forge(results / "runs" / "first" / "0000-affinity-v1.documented.train.smoke.closed.fp32.json")
            said = run("--runs", "--current")
            assert (said.exit_code, said.output.count("is of older source"), said.output.count("does not follow")) == (2, 2, 1)  # forged, it is another row
            assert "give both" in run("--current").stderr

    def test_no_runs_at_all(self, results: Path) -> None:
        assert check_runs(results) == []
