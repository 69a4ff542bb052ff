"""The index beside a store: it spares work and never changes what comes out."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import assay.bench.records.index
from assay.bench.case import Case, Outcome, Quantity
from assay.bench.claims.documented import Claim, Claims
from assay.bench.claims.judgement import judge
from assay.bench.records.index import INDEX_FILE, Ledger, read_ledger, select_lasting
from assay.bench.records.record import CaseFields, Comparability, Dataset, Environment, Machine, Record
from assay.bench.records.store import RecordError, RunStore, read_runs
from assay.bench.report.leaderboard import render_leaderboard

HASH = "0" * 64
BEGAN = datetime(2024, 1, 2, tzinfo=UTC)
MACHINE = Machine(cpu="Xeon", cores=2, threads=2, memory_bytes=2**34, system="Linux")
CASE = "affinity-v1/documented/train/standard/closed/fp32"
DATA = Dataset(name="abag", sha256=HASH, synthetic=False, source="s", licence="MIT", rows={})


def draft(case: str = CASE, minutes: int = 0, rmse: float | None = 1.0, *, batch: int = 128, known: bool = True, **changes: Any) -> Record:
    key = Comparability(case=case, declaration_sha256=HASH, dataset="abag", dataset_sha256=HASH, environment="e", device="Xeon", device_memory_gib=16, threads=2, seed=1, batch=batch, torch="2")
    quality = {"spearman": Quantity.missing("", "one value") if rmse is None else Quantity(rmse, "", 9, rmse - 0.1, rmse + 0.1)}
    fields: dict[str, Any] = {"run": "r", "sequence": 0, "case": CaseFields.of(Case.parse(case)), "outcome": Outcome.OK, "profile": "cpu", "machine": MACHINE, "dataset": DATA}
    fields |= {"started": BEGAN, "ended": BEGAN + timedelta(minutes=minutes), "comparability": key if known else None, "quality": quality, "conditions": {"batch": batch}}
    return Record.model_validate(fields | changes)


def fill(results: Path, run: str, drafts: Sequence[Record]) -> RunStore:
    store = RunStore.create(results / "runs", run)
    for one in drafts:
        store.append(one)
    return store


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as settled at once: no test waits two seconds."""
    monkeypatch.setattr(assay.bench.records.index, "SETTLED_NS", -(10**12))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two runs; the second replaces the first row of the first."""
    fill(tmp_path, "first", [draft(minutes=1, rmse=0.5), draft(CASE.replace("v1", "v2"), minutes=2)])
    fill(tmp_path, "second", [draft(minutes=3, rmse=0.7)])
    return tmp_path


def names(ledger: Ledger) -> list[tuple[str, int]]:
    return sorted((record.run, record.sequence) for record in ledger.records)


class TestReading:
    def test_only_the_latest_of_equal_rows_last(self, results: Path) -> None:
        ledger = read_ledger(results)
        assert names(ledger) == [("first", 1), ("second", 0)]
        assert (ledger.files, ledger.read_again, ledger.faults) == (3, 3, {})
        assert ledger.heads == {name: RunStore(results / "runs" / name).head() for name in ("first", "second")}

    def test_what_did_not_change_is_not_checked_again(self, results: Path) -> None:
        first = read_ledger(results)
        again = read_ledger(results)
        assert (again.files, again.read_again) == (3, 0)
        assert again.records == first.records

    def test_a_new_record_costs_its_own_run_only(self, results: Path) -> None:
        read_ledger(results)
        RunStore(results / "runs" / "second").append(draft(minutes=4, rmse=0.9))
        ledger = read_ledger(results)
        assert (ledger.files, ledger.read_again) == (4, 2)
        assert names(ledger) == [("first", 1), ("second", 1)]
        assert read_ledger(results).read_again == 0

    def test_a_new_run_costs_itself_only(self, results: Path) -> None:
        read_ledger(results)
        fill(results, "third", [draft(minutes=5, rmse=None)])
        ledger = read_ledger(results)
        assert (ledger.files, ledger.read_again) == (4, 1)
        # a run without a value does not hide one with a value: claims prefer the latter
        assert names(ledger) == [("first", 1), ("second", 0), ("third", 0)]

    def test_what_older_source_made_lasts_beside_what_today_s_made(self, results: Path) -> None:
        old = draft(minutes=4)
        assert old.comparability
        fill(results, "third", [old.model_copy(update={"comparability": old.comparability.model_copy(update={"declaration_sha256": "1" * 64})})])
        assert names(read_ledger(results)) == [("first", 1), ("second", 0), ("third", 0)]

    def test_two_processes_find_the_same(self, results: Path) -> None:
        alone = read_ledger(results, processes=1)
        (results / INDEX_FILE).unlink()
        both = read_ledger(results, processes=2)
        assert names(both) == names(alone)
        assert both.heads == alone.heads

    def test_no_runs(self, tmp_path: Path) -> None:
        assert read_ledger(tmp_path) == Ledger([], {}, {}, 0, 0)


class TestDistrust:
    """Whatever happens to files or index, what comes out is what a first reading of the files gives."""

    def unlike(self, results: Path, scratch: Path) -> bool:
        shutil.copytree(results / "runs", scratch / "runs")
        plain, ours = read_ledger(scratch), read_ledger(results)
        return (names(ours), ours.heads, set(ours.faults)) != (names(plain), plain.heads, set(plain.faults))

    def test_a_run_that_went_brings_back_what_it_had_replaced(self, results: Path) -> None:
        read_ledger(results)
        shutil.rmtree(results / "runs" / "second")
        assert names(read_ledger(results)) == [("first", 0), ("first", 1)]

    def test_so_does_one_that_was_found_broken_or_was_too_young_to_watch(self, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assay.bench.records.index, "SETTLED_NS", 10**12)
        read_ledger(results)
        assert not (results / INDEX_FILE).exists()
        monkeypatch.setattr(assay.bench.records.index, "SETTLED_NS", -(10**12))
        (path,) = RunStore(results / "runs" / "second").paths()
        path.write_text(path.read_text().replace('"second"', '"copied"'))
        assert set(read_ledger(results).faults) == {"second"}
        path.unlink()
        assert names(read_ledger(results)) == [("first", 0), ("first", 1)]

    def test_an_edited_value_shows(self, results: Path) -> None:
        read_ledger(results)
        path = RunStore(results / "runs" / "first").paths()[1]
        path.write_text(json.dumps(json.loads(path.read_text()) | {"facts": {"parameters": 7}}))
        (record,) = [record for record in read_ledger(results).records if record.run == "first"]
        assert record.facts == {"parameters": 7}

    def test_an_edit_in_the_middle_is_reported_until_it_is_undone(self, results: Path) -> None:
        read_ledger(results)
        path = RunStore(results / "runs" / "first").paths()[0]
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        for _ in range(2):
            assert "does not follow from the record before it" in read_ledger(results).faults["first"][0]
        path.write_bytes(before)
        assert read_ledger(results).faults == {}

    def test_a_removed_record_is_missed(self, results: Path) -> None:
        read_ledger(results)
        RunStore(results / "runs" / "first").paths()[0].unlink()
        assert "a record is missing" in read_ledger(results).faults["first"][0]

    @pytest.mark.parametrize("processes", [1, 2])
    def test_what_is_no_record_is_named(self, results: Path, processes: int) -> None:
        read_ledger(results)
        path = RunStore(results / "runs" / "first").paths()[0]
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(RecordError, match=f"^{path}: the file: Invalid JSON"):
            read_ledger(results, processes=processes)

    @pytest.mark.parametrize(
        "damage",
        [
            lambda index: "",
            lambda index: index[:-20],
            lambda index: "[" * 100_000,
            lambda index: index.replace('"version":"', '"version":"0'),
            lambda index: index.replace('"count":2', '"count":1'),
            lambda index: index.replace('"count":2', '"count":3'),
            lambda index: index.replace('"kept":["0001', '"kept":["../second/0000'),
            lambda index: index.replace('"stamp":"', '"stamp":"00'),
            lambda index: index.replace('"second"', '"gone"'),
        ],
    )
    def test_a_damaged_or_forged_index_is_made_anew(self, results: Path, tmp_path_factory: pytest.TempPathFactory, damage: Callable[[str], str]) -> None:
        read_ledger(results)
        index = results / INDEX_FILE
        good = index.read_text()
        index.write_text(damage(good))
        assert index.read_text() != good
        assert not self.unlike(results, tmp_path_factory.mktemp("plain"))
        assert index.read_text() == good

    def test_a_folder_that_cannot_hold_an_index_is_read_all_the_same(self, results: Path) -> None:
        (results / INDEX_FILE).mkdir()
        (results / INDEX_FILE / "full").touch()
        assert names(read_ledger(results)) == [("first", 1), ("second", 0)]
        assert [path.name for path in results.iterdir() if path.name.endswith(".tmp")] == []


def test_board_and_claims_say_of_the_lasting_records_what_they_say_of_all(tmp_path: Path) -> None:
    chance = random.Random(7)
    where = {"variant": "documented", "dataset": "abag", "batch": 128}
    claims = Claims(
        claim=tuple(
            Claim(id=f"c{i}", workload=name, metric=metric, value=Decimal("0.5"), direction="higher", kind=kind, where=where, source="s")
            for i, (name, metric, kind) in enumerate([("affinity-v1", "spearman", "measured"), ("affinity-v2", "spearman", "estimate"), ("affinity-v1", "parameters", "fact"), ("gone", "x", "measured")])
        )
    )

    def dice(minutes: int) -> Record:
        case = CASE.replace("v1", chance.choice(("v1", "v2"))).replace("train", chance.choice(("train", "eval")))
        outcome = chance.choice((Outcome.OK, Outcome.OK, Outcome.OOM, Outcome.CRASH))
        return draft(
            case,
            minutes,
            chance.choice((None, 0.1, 0.5, 0.9)),
            batch=chance.choice((64, 128)),
            known=outcome is Outcome.OK or chance.random() < 0.5,
            outcome=outcome,
            reason=None if outcome is Outcome.OK else "so it was",
            emulated=chance.choice(((), (), ("gpu: fake NVML",))),
            facts=chance.choice(({}, {"parameters": 1.0})),
            environment=chance.choice((None, *(Environment(python="3.11", torch="2", numpy="1", triton=triton, packages_sha256=HASH) for triton in (None, "2.1.0", "3.4.0")))),
            dataset=chance.choice((DATA, DATA.model_copy(update={"synthetic": True, "name": "abag-twin", "sha256": "1" * 64}), None)),
        )

    for run in range(6):
        fill(tmp_path, f"run{run}", [dice(chance.randrange(1000)) for _ in range(25)])
    every = read_runs(tmp_path)
    lasting = read_ledger(tmp_path).records
    assert len(lasting) < len(every) == 150
    assert render_leaderboard(lasting, claims, {}, tmp_path) == render_leaderboard(every, claims, {}, tmp_path)
    assert judge(claims, lasting) == judge(claims, every)
    assert {id(record) for record in select_lasting(lasting)} == {id(record) for record in lasting}
