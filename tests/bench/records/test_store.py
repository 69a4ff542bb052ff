"""The store: what it refuses to read, and how tampering, crowding and bad disks show."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from assay.bench.case import Outcome, Phase, Quantity, UsageError
from assay.bench.records.store import MAX_RECORD_BYTES, RecordError, RunStore, read_record, read_runs
from tests.bench.records.test_record import draft
from tests.conftest import ROOT


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "runs", "first")


def altered(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


class TestReading:
    def test_a_record_survives_the_disk_unchanged(self, store: RunStore) -> None:
        written = draft(
            recipe={"learning_rate": 1e-4, "schedule": {"kind": "cosine"}}, conditions={"dataset": "abag", "n_train": 3}, facts={"parameters": 251_777}, curves={"train_loss": [2.0, 1.5]}
        )
        (read,) = [read_record(store.append(written))]
        assert read == written.model_copy(update={"run": "first"})
        assert read.measurements["samples_per_s"] == Quantity(100.0, "pairs/s", 10, 95.0, 105.0, "median of rounds")
        assert read.case.case.id == "affinity-v2/documented/train/smoke/closed/fp32"

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match=r"gone\.json: cannot be read: No such file"):
            read_record(tmp_path / "gone.json")

    def test_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(RecordError, match="cannot be read: Is a directory"):
            read_record(tmp_path)

    def test_oversized_file_is_refused_unread(self, tmp_path: Path) -> None:
        path = tmp_path / "0000-big.json"
        with path.open("wb") as stream:
            stream.truncate(MAX_RECORD_BYTES + 1)
        with pytest.raises(RecordError, match=r"0000-big\.json: larger than 4194304 bytes"):
            read_record(path)

    def test_half_written_json_names_the_file(self, store: RunStore) -> None:
        path = store.append(draft())
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(RecordError, match=r"0000-affinity.*: the file: Invalid JSON: EOF"):
            read_record(path)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda c: c.update(surprise=1), "surprise: Extra inputs are not permitted"),
            (lambda c: c["case"].update(phase="dance"), "case.phase: Input should be 'train', 'eval' or 'attention'"),
            (lambda c: c["case"].update(workload="w" * 101), "case.workload: String should have at most 100 characters"),
            (lambda c: c["measurements"]["samples_per_s"].update(value=None), "measurements.samples_per_s: Value error, a quantity has a value or a reason"),
            (lambda c: c["measurements"]["samples_per_s"].update(low=200.0), "measurements.samples_per_s: Value error, the interval of a quantity runs from low to high"),
            (lambda c: c["measurements"]["samples_per_s"].update(html="<b>"), "measurements.samples_per_s.html: Unexpected keyword argument"),
            (lambda c: c["measurements"]["samples_per_s"].update(value=float("nan")), "measurements.samples_per_s.value: Input should be a finite number"),
            (lambda c: c["facts"].update(parameters=10**400), "facts.parameters: Input should be a finite number"),
            (lambda c: c.update(weights_sha256="abc"), "weights_sha256: String should match pattern"),
            (lambda c: c.update(sequence=-1), "sequence: Input should be greater than or equal to 0"),
            (lambda c: c.update(schema_version="2"), "schema_version: Input should be '1'"),
            (lambda c: c.update({"\x1b[2J\u202e": 1}), r"\x1b[2J\u202e: Extra inputs are not permitted"),
        ],
    )
    def test_first_fault_is_named_with_the_remedy(self, store: RunStore, change: Callable[[dict[str, Any]], None], fault: str) -> None:
        path = store.append(draft())
        altered(path, change)
        with pytest.raises(RecordError) as caught:
            read_record(path)
        assert str(caught.value).startswith(f"{path}: {fault}")
        assert str(caught.value).endswith("restore it from version control or delete it, and run the case again")

    def test_nesting_bomb_is_refused(self, store: RunStore) -> None:
        path = store.append(draft())
        path.write_text(path.read_text().replace('"recipe": {}', '"recipe": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}"))
        with pytest.raises(RecordError, match="recursion limit"):
            read_record(path)

    def test_hostile_strings_come_back_as_data(self, store: RunStore) -> None:
        nasty = "</script><img src=x onerror=alert(1)> | `code` \n\x00\u202e $(rm -rf ~) ../../etc/passwd"
        assert read_record(store.append(draft(outcome=Outcome.CRASH, reason=nasty))).reason == nasty

    def test_runs_are_read_oldest_first_and_stray_files_ignored(self, tmp_path: Path) -> None:
        for name in ("2024-b", "2023-a"):
            RunStore.create(tmp_path / "runs", name).append(draft())
        (tmp_path / "runs" / "README.md").write_text("not a run")
        (tmp_path / "runs" / "2023-a" / "notes.json").write_text("not a record")
        assert [record.run for record in read_runs(tmp_path)] == ["2023-a", "2024-b"]

    def test_no_runs_are_no_records(self, tmp_path: Path) -> None:
        assert read_runs(tmp_path) == []


class TestStore:
    def test_records_are_numbered_and_chained(self, store: RunStore) -> None:
        for phase in (Phase.TRAIN, Phase.EVAL):
            store.append(draft(case=draft().case.model_copy(update={"phase": phase})))
        assert [path.name for path in store.paths()] == ["0000-affinity-v2.documented.train.smoke.closed.fp32.json", "0001-affinity-v2.documented.eval.smoke.closed.fp32.json"]
        first, second = store.read()
        assert (first.sequence, first.previous_sha256, second.sequence) == (0, None, 1)
        assert second.previous_sha256 is not None
        assert store.verify_chain() == []

    def test_head_changes_with_every_record(self, store: RunStore) -> None:
        assert store.head() is None
        store.append(draft())
        one = store.head()
        store.append(draft())
        assert one is not None
        assert store.head() not in (None, one)

    def test_a_full_disk_leaves_nothing_behind(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        store.append(draft())

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(UsageError, match=r"0001-.*cannot be written: No space left on device; free space or choose another folder"):
            store.append(draft())
        monkeypatch.undo()
        assert [path.name for path in store.folder.iterdir() if path.name != ".lock"] == [store.paths()[0].name]
        store.append(draft())
        assert store.verify_chain() == []

    def test_results_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "results").write_text("")
        with pytest.raises(UsageError, match=r"results/run cannot be written: .*; choose another with --out DIR"):
            RunStore.create(tmp_path / "results", "run")

    def test_a_run_ends_where_its_numbers_do(self, store: RunStore) -> None:
        path = store.append(draft())
        path.rename(path.with_name("9999-" + path.name[5:]))
        with pytest.raises(UsageError, match="is full with 10000 records; start another with --name"):
            store.append(draft())

    def test_processes_append_at_the_same_time(self, store: RunStore) -> None:
        script = f"from pathlib import Path; from assay.bench.records.store import *; d = read_record(Path({str(store.append(draft()))!r})); s = RunStore(Path({str(store.folder)!r}))"
        command = [sys.executable, "-c", f"{script}; [s.append(d) for _ in range(13)]"]
        writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
        assert [writer.wait(timeout=60) for writer in writers] == [0] * 3
        assert [record.sequence for record in store.read()] == list(range(40))
        assert store.verify_chain() == []


class TestChain:
    @pytest.fixture
    def chain(self, store: RunStore) -> RunStore:
        for _ in range(4):
            store.append(draft())
        return store

    def test_edited_record(self, chain: RunStore) -> None:
        altered(chain.paths()[1], lambda c: c["measurements"]["samples_per_s"].update(value=100.5))
        (fault,) = chain.verify_chain()
        assert fault.startswith(f"{chain.paths()[2]}: does not follow from the record before it")

    def test_reformatted_record_shows_although_its_numbers_are_equal(self, chain: RunStore) -> None:
        altered(chain.paths()[0], lambda c: None)
        assert len(chain.verify_chain()) == 1

    def test_removed_record(self, chain: RunStore) -> None:
        chain.paths()[1].unlink()
        faults = chain.verify_chain()
        assert len(faults) == 2
        assert "is number 2 of its run but stands at 1: a record is missing or was renamed" in faults[0]

    def test_swapped_records(self, chain: RunStore) -> None:
        one, two = chain.paths()[1:3]
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
        assert len(chain.verify_chain()) == 3

    def test_record_of_another_run(self, chain: RunStore, tmp_path: Path) -> None:
        shutil.copytree(chain.folder, tmp_path / "runs" / "copy")
        faults = RunStore(tmp_path / "runs" / "copy").verify_chain()
        assert len(faults) == 4
        assert "belongs to another run: it was copied here, or the folder was renamed" in faults[0]

    def test_unreadable_record_is_one_fault_and_the_rest_is_still_checked(self, chain: RunStore) -> None:
        bad, last = chain.paths()[1], chain.paths()[3]
        bad.unlink()
        bad.mkdir()
        altered(last, lambda c: c.update(surprise=True))
        faults = chain.verify_chain()
        assert [fault.split(": ")[1] for fault in faults] == ["cannot be read", "does not follow from the record before it", "surprise"]
        assert str(bad) in faults[0]

    def test_rewriting_the_end_changes_only_the_head(self, chain: RunStore) -> None:
        head = chain.head()
        altered(chain.paths()[-1], lambda c: c.update(profile="h200"))
        assert chain.verify_chain() == []
        assert chain.head() != head
