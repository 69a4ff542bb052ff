"""What only a GPU can show, in parts: each done once, none begun too late, all of it in one archive. No part of these tests needs a GPU."""

import sys
import time
from pathlib import Path

import pytest

from assay.bench.case import Preset
from assay.bench.profiles import load_profile
from assay.bench.records.store import RunStore
from assay.bench.registry import select_cases
from assay.bench.running.archive import DOCUMENTS, take_in
from benchmarks import gpu_session
from benchmarks.gpu_session import BATCHES, CASES, LEAST, Done, Part, hold_session, list_parts, main
from tests.conftest import ROOT

H100 = load_profile("h100")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunStore.create(tmp_path / "results" / "runs", "gpu-session-h100").folder
    (folder / DOCUMENTS).mkdir()
    return folder


def say(name: str, code: str, kept: Path | None = None, most: float = 1e9) -> Part:
    return Part(name, (sys.executable, "-c", code), kept, most)


def test_every_part_is_done_once_and_its_words_are_kept(run: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    kept = run / DOCUMENTS / "peer-a.json"
    parts = [say("peer a", f"print('faster'); open({str(kept)!r}, 'w').write('{{}}')", kept), say("doctor", "print('well'); raise SystemExit(4)")]
    first = hold_session(parts, run, tmp_path / "all.tar.gz", lambda: 100.0)
    assert [(each.name, each.ending, each.code) for each in first] == [("peer a", "ok", 0), ("doctor", "exit code 4", 4)]
    again = hold_session(parts, run, tmp_path / "all.tar.gz", lambda: 100.0)
    assert again[0] == Done("peer a", 0.0, "done before")
    assert again[1].ending == "exit code 4"
    out = capfdbinary.readouterr().out
    assert out.count(b"faster\n") == 1
    take_in(tmp_path / "all.tar.gz", tmp_path)
    kept_there = {path.name: path.read_text() for path in (tmp_path / "runs" / run.name / DOCUMENTS).iterdir()}
    assert kept_there == {"peer-a.json": "{}", "peer-a.txt": "faster\n", "doctor.txt": "well\n"}


def test_nothing_begins_that_could_not_end(run: Path, tmp_path: Path) -> None:
    left = iter([LEAST + 1, LEAST - 1])
    done = hold_session([say("one", ""), say("two", "")], run, tmp_path / "all.tar.gz", lambda: next(left))
    assert [each.ending for each in done] == ["ok", "left for the next call"]


def test_a_part_that_hangs_is_ended_with_all_that_it_started(run: Path, tmp_path: Path) -> None:
    hangs = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); print('begun', flush=True); time.sleep(600)"
    began = time.monotonic()
    (done,) = hold_session([say("hangs", hangs, run / DOCUMENTS / "never.json", most=3.0)], run, tmp_path / "all.tar.gz", lambda: 1000.0)
    assert (done.ending, done.code) == ("ended: out of time", None)
    assert time.monotonic() - began < 120
    assert (run / DOCUMENTS / "hangs.txt").read_text() == "begun\n"


def test_the_parts_in_their_order_and_what_each_asks_for(run: Path, tmp_path: Path) -> None:
    parts = list(list_parts(H100, run, tmp_path / "data", tmp_path / "all.tar.gz", lambda: 320.4))
    names = [part.name for part in parts]
    assert names[:4] == ["doctor", "tests", "peer attention-512", "peer attention-2048"]
    assert [name for name in names if "tissuebert" in name] == [f"peer tissuebert-{batch}" for batch in BATCHES]
    assert names[-2:] == [f"cases of {preset}" for preset in CASES]
    assert "--budget 300s" in " ".join(parts[-1].command)
    assert f"--name {run.name}" in " ".join(parts[-1].command)
    assert all((ROOT / part.command[1]).is_file() for part in parts if part.name.startswith("peer"))
    assert all(select_cases(preset) for preset in CASES)


@pytest.mark.parametrize("part", [part for part in list_parts(H100, Path("results/runs/x"), None, Path("x.tar.gz"), lambda: 100.0) if part.name.startswith("peer")], ids=lambda part: part.name)
def test_every_peer_takes_its_options(part: Part, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Up to the GPU, which is not here."""
    module = __import__(f"benchmarks.{Path(part.command[1]).stem}", fromlist=["main"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        module.main(list(part.command[2:]))
    assert ended.value.code == 2
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_a_session_goes_on_from_its_archive_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def parts(profile, run, data, archive, left):
        kept = run / DOCUMENTS / "peer-a.json"
        yield say("peer a", f"open({str(kept)!r}, 'w').write('{{}}')", kept)

    monkeypatch.setattr(gpu_session, "list_parts", parts)
    archive = str(tmp_path / "all.tar.gz")
    for machine, ending in (("first", "ok"), ("second", "done before")):
        (tmp_path / machine).mkdir()
        assert main(["--budget", "5m", "--profile", "h100", "--archive", archive, "--results", str(tmp_path / machine)]) == 0
        assert f"{ending}\n" in capfd.readouterr().out
    assert (tmp_path / "second" / "runs" / "gpu-session-h100" / DOCUMENTS / "peer-a.json").exists()


@pytest.mark.parametrize("wrong", [("--budget", "soon"), ("--profile", "h1000")])
def test_wrong_use(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(wrong))
    assert ended.value.code == 2
    assert wrong[1] in capsys.readouterr().err


def test_standard_and_scale_have_what_is_promised() -> None:
    phases = {case.phase for preset in (Preset.SCALE, Preset.STANDARD) for case in select_cases(preset)}
    assert phases == {"train", "eval", "attention"}
