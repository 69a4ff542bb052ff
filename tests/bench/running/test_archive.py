"""One file with all records of a run: written whole, cut where it is too large, and taken in only when everything in it is in order."""

import errno
import gzip
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.bench.case import UsageError
from assay.bench.cli.main import app
from assay.bench.records.store import MAX_RECORD_BYTES, RunStore
from assay.bench.running import archive
from assay.bench.running.archive import DOCUMENTS, MAX_BYTES, TakenIn, check_archive, take_in, write_archive
from assay.bench.running.neighbours import own_run
from tests.bench.records.test_record import draft
from tests.conftest import ROOT

CASE = "affinity-v2.documented.train.smoke.closed.fp32"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run of two records and a log on the machine that is taken away."""
    store = RunStore.create(tmp_path / "pod" / "runs", "one")
    for _ in range(2):
        store.append(draft())
    (store.folder / "logs").mkdir()
    (store.folder / "logs" / f"{CASE}.log").write_text("1 passed in 2 s\n")
    return store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pod.tar.gz"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")}


class TestWriting:
    def test_records_and_logs_come_back_as_they_were(self, store: RunStore, file: Path, home: Path) -> None:
        assert write_archive(file, [store.folder]) is None
        assert take_in(file, home) == [TakenIn("one", new=2, known=0)]
        assert contents(home / "runs" / "one") == contents(store.folder)
        assert RunStore(home / "runs" / "one").verify_chain() == []
        assert [path.name for path in home.iterdir()] == ["runs"]

    def test_documents_of_a_run_come_along_before_and_after_its_first_record(self, tmp_path: Path, file: Path, home: Path) -> None:
        store = RunStore.create(tmp_path / "pod" / "runs", "session")
        (store.folder / DOCUMENTS).mkdir()
        (store.folder / DOCUMENTS / "doctor.txt").write_text("ok\n")
        write_archive(file, [store.folder])
        assert take_in(file, home) == [TakenIn("session", new=0, known=0, documents=1)]
        assert contents(home / "runs" / "session") == {"documents/doctor.txt": b"ok\n"}
        (store.folder / DOCUMENTS / "peer-attention.json").write_text("{}\n")
        store.append(draft())
        write_archive(file, [store.folder])
        assert take_in(file, home) == [TakenIn("session", new=1, known=0, documents=1)]
        assert contents(home / "runs" / "session") == contents(store.folder)

    def test_what_an_import_would_refuse_is_not_written(self, store: RunStore, file: Path, home: Path) -> None:
        """An editor's copy or a folder among the documents."""
        (store.folder / DOCUMENTS / "notes.txt").mkdir(parents=True)
        (store.folder / DOCUMENTS / "doctor.txt~").write_text("")
        (store.folder / DOCUMENTS / "doctor.txt").write_text("ok\n")
        write_archive(file, [store.folder])
        assert take_in(file, home) == [TakenIn("one", new=2, known=0, documents=1)]
        assert sorted(path.name for path in (home / "runs" / "one" / DOCUMENTS).iterdir()) == ["doctor.txt"]

    def test_a_full_disk_at_home_is_no_fault_of_the_archive(self, store: RunStore, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def write_bytes(path: Path, _: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        write_archive(file, [store.folder])
        monkeypatch.setattr(Path, "write_bytes", write_bytes)
        with pytest.raises(UsageError, match=rf"cannot be unpacked to {home}: No space left on device; free space there"):
            take_in(file, home)
        assert [*home.iterdir()] == []

    def test_the_same_records_give_the_same_bytes(self, store: RunStore, file: Path) -> None:
        write_archive(file, [store.folder])
        before = file.read_bytes()
        write_archive(file, [store.folder])
        assert file.read_bytes() == before

    def test_several_runs_share_an_archive(self, store: RunStore, file: Path, home: Path) -> None:
        other = RunStore.create(store.folder.parent, "two")
        other.append(draft())
        write_archive(file, [store.folder, other.folder])
        assert take_in(file, home) == [TakenIn("one", new=2, known=0), TakenIn("two", new=1, known=0)]

    def test_the_largest_logs_are_cut_to_their_ends_and_say_so(self, store: RunStore, file: Path, home: Path) -> None:
        noise = random.Random(1)
        large = noise.randbytes(20_000_000)
        (store.folder / "logs" / "large.log").write_bytes(large)
        small = noise.randbytes(3_000_000)
        (store.folder / "logs" / "small.log").write_bytes(small)
        assert write_archive(file, [store.folder]) == f"{file}: logs are cut to their last 8,000,000 bytes"
        assert file.stat().st_size <= MAX_BYTES
        take_in(file, home)
        logs = home / "runs" / "one" / "logs"
        assert (logs / "large.log").read_bytes() == b"[cut: 12,000,000 bytes before this are left out]\n" + large[-8_000_000:]
        assert (logs / "small.log").read_bytes() == small

    def test_records_are_never_left_out(self, store: RunStore, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "MAX_BYTES", 100)
        told = write_archive(file, [store.folder])
        assert told is not None
        assert told.startswith(f"{file} has 0.0 MB, more than 0.0001 MB: its records alone take that, and none is left out")
        monkeypatch.undo()
        assert take_in(file, home) == [TakenIn("one", new=2, known=0)]

    def test_a_full_disk_leaves_the_archive_before(self, store: RunStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_archive(file, [store.folder])
        before = file.read_bytes()

        def fail(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(UsageError, match=r"--archive .*pod\.tar\.gz: cannot be written: No space left on device; free space or choose another file"):
            write_archive(file, [store.folder])
        assert file.read_bytes() == before
        assert sorted(path.name for path in file.parent.iterdir()) == ["pod", "pod.tar.gz"]

    def test_a_killed_writer_leaves_the_archive_before(self, store: RunStore, file: Path, home: Path) -> None:
        script = (
            "import os, sys, time; from pathlib import Path; from assay.bench.running.archive import write_archive\n"
            "os.fsync = lambda _: (print('written beside', flush=True), time.sleep(600))\n"
            "write_archive(Path(sys.argv[1]), [Path(sys.argv[2])])"
        )
        write_archive(file, [store.folder])
        before = file.read_bytes()
        store.append(draft())
        with subprocess.Popen([sys.executable, "-c", script, str(file), str(store.folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "written beside\n"
            writer.send_signal(signal.SIGKILL)
        assert file.read_bytes() == before
        assert take_in(file, home) == [TakenIn("one", new=2, known=0)]


class TestBeforeARun:
    def test_a_name_that_import_would_not_know(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"name it NAME\.tar\.gz"):
            check_archive(tmp_path / "pod.zip", tmp_path, ["one"])
        with pytest.raises(UsageError, match=r"--name 'my run': a run with --archive has a name of ASCII letters"):
            check_archive(tmp_path / "pod.tar.gz", tmp_path, ["my run"])

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"there is no folder .*gone; make it"):
            check_archive(tmp_path / "gone" / "pod.tar.gz", tmp_path, ["one"])

    def test_records_that_are_nowhere_else_are_not_overwritten(self, store: RunStore, file: Path, home: Path) -> None:
        check_archive(file, home, ["one"])
        write_archive(file, [store.folder])
        check_archive(file, store.folder.parents[1], ["one"])
        with pytest.raises(UsageError, match=rf"holds records of run one that are not in {home}; take them in with `python -m bench import {file} --results {home}`"):
            check_archive(file, home, ["two"])
        take_in(file, home)
        check_archive(file, home, ["two"])


class TestTakingIn:
    def test_twice_changes_nothing(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        take_in(file, home)
        before = contents(home)
        assert take_in(file, home) == [TakenIn("one", new=0, known=2)]
        assert contents(home) == before

    def test_a_run_that_is_there_in_part_is_gone_on_with(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        take_in(file, home)
        there = home / "runs" / "one"
        (there / "logs" / "elsewhere.log").write_text("kept")
        store.append(draft())
        (store.folder / "logs" / f"{CASE}.log").write_text("1 passed in 3 s\n")
        (store.folder / "logs" / "elsewhere.log").write_text("of no new record")
        write_archive(file, [store.folder])
        assert take_in(file, home) == [TakenIn("one", new=1, known=2)]
        assert [path.read_bytes() for path in RunStore(there).paths()] == [path.read_bytes() for path in store.paths()]
        assert RunStore(there).verify_chain() == []
        assert (there / "logs" / f"{CASE}.log").read_text() == "1 passed in 3 s\n"
        assert (there / "logs" / "elsewhere.log").read_text() == "kept"

    def test_an_older_archive_takes_nothing_away(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        shutil.copytree(store.folder, home / "runs" / "one")
        RunStore(home / "runs" / "one").append(draft())
        before = contents(home)
        assert take_in(file, home) == [TakenIn("one", new=0, known=2)]
        assert contents(home) == before

    def test_a_run_of_that_name_with_other_records_is_refused(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        RunStore.create(home / "runs", "one").append(draft(profile="h200"))
        before = contents(home)
        with pytest.raises(UsageError, match=rf"run one is in {home / 'runs'} with other records, from 0000-{CASE}\.json on; choose another --results DIR"):
            take_in(file, home)
        assert contents(home) == before

    def test_a_run_under_way_is_not_written_to(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        take_in(file, home)
        store.append(draft())
        write_archive(file, [store.folder])
        with own_run(home / "runs" / "one"), pytest.raises(UsageError, match="run one is under way"):
            take_in(file, home)

    @pytest.mark.parametrize(
        ("change", "fault"),
        [
            (lambda paths: paths[0].write_bytes(paths[0].read_bytes() + b" "), r"one/0001-.* does not follow from the record before it"),
            (lambda paths: paths[0].unlink(), r"one/0001-.* is number 1 of its run but stands at 0"),
            (lambda paths: paths[0].write_text("{}"), r"one/0000-.* Field required"),
        ],
    )
    def test_a_broken_chain_and_what_is_no_record_are_refused_and_no_run_is_written(
        self, store: RunStore, file: Path, home: Path, change: Callable[[list[Path]], object], fault: str
    ) -> None:
        sound = RunStore.create(store.folder.parent, "a-sound-one")
        sound.append(draft())
        change(store.paths())
        write_archive(file, [sound.folder, store.folder])
        with pytest.raises(UsageError, match=rf"{file}: {fault}.*; nothing was taken in; copy it once more"):
            take_in(file, home)
        assert list(home.iterdir()) == []

    def test_a_run_that_was_renamed_is_refused(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder.rename(store.folder.with_name("two"))])
        with pytest.raises(UsageError, match=r"two/0000-.* belongs to another run"):
            take_in(file, home)

    @pytest.mark.parametrize("keep", [0, 10, 200])
    def test_a_file_that_was_cut_off(self, store: RunStore, file: Path, home: Path, keep: int) -> None:
        write_archive(file, [store.folder])
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(UsageError, match=r"pod\.tar\.gz: (cut off, or no archive|holds no record)"):
            take_in(file, home)

    def test_a_damaged_checksum(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        whole = bytearray(file.read_bytes())
        whole[-8] ^= 1
        file.write_bytes(whole)
        with pytest.raises(UsageError, match="CRC check failed"):
            take_in(file, home)
        assert list(home.iterdir()) == []


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 2, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def pack(file: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(file, "w:gz") as packed:
        for info in members:
            packed.addfile(info, io.BytesIO(b"x" * info.size) if info.isreg() else None)
    return file


RECORD = f"one/0000-{CASE}.json"


class TestHostileArchives:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            *((name, tarfile.REGTYPE) for name in ("/etc/passwd", "../one/0000-a.json", "one/../two/0000-a.json", "one/logs/../0000-a.json", "./one/0000-a.json")),
            *((name, tarfile.REGTYPE) for name in ("one/weights/a.safetensors", "one/.owner", ".one/0000-a.json", "one/logs/.a.log", "0000-a.json", "one/0000-a.json\n", "\u00fc/0000-a.json")),
            *((RECORD, kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)),
        ],
    )
    def test_nothing_but_files_of_a_run_is_taken(self, file: Path, home: Path, name: str, kind: bytes) -> None:
        pack(file, member(name, kind, 2 if kind == tarfile.REGTYPE else 0, "/etc/passwd"))
        with pytest.raises(UsageError, match=r"pod\.tar\.gz: member .* not an archive of this suite"):
            take_in(file, home)
        assert list(home.iterdir()) == []

    def test_a_member_that_is_too_large(self, file: Path, home: Path) -> None:
        with pytest.raises(UsageError, match=f"has {MAX_RECORD_BYTES + 1:,} bytes, more than {MAX_RECORD_BYTES:,}"):
            take_in(pack(file, member(RECORD, size=MAX_RECORD_BYTES + 1)), home)

    def test_a_member_that_is_there_twice(self, file: Path, home: Path) -> None:
        with pytest.raises(UsageError, match="is there twice"):
            take_in(pack(file, member(RECORD), member(RECORD)), home)

    def test_a_bomb(self, file: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(archive, "MAX_UNPACKED", 1 << 20)
        with gzip.open(file, "wb") as stream:
            stream.write(bytes(2 << 20))
        with pytest.raises(UsageError, match="unpacks to more than 1 MiB"):
            take_in(file, home)

    def test_another_file_of_that_name(self, file: Path, home: Path) -> None:
        file.write_text("{}")
        with pytest.raises(UsageError, match=r"cannot be read: Not a gzipped file"):
            take_in(file, home)


class TestCommand:
    def call(self, file: Path, home: Path, *more: str) -> str:
        done = CliRunner().invoke(app, ["import", str(file), "--results", str(home), *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    def test_what_was_taken_in_is_told_and_the_second_time_that_there_was_nothing(self, store: RunStore, file: Path, home: Path) -> None:
        write_archive(file, [store.folder])
        assert self.call(file, home) == "run one: 2 records taken in, 0 were there\n"
        assert self.call(file, home) == "run one: nothing to take in, all 2 records were there\n"
        assert '"known": 2' in self.call(file, home, "--json")

    def test_a_missing_file_is_one_line(self, file: Path, home: Path) -> None:
        done = CliRunner().invoke(app, ["import", str(file), "--results", str(home)])
        assert done.exit_code == 2
        assert done.stderr == f"error: {file}: cannot be read: No such file or directory; copy it once more from the machine that wrote it\n"
