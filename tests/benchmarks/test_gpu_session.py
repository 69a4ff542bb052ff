"""What only a GPU can show, in parts: each done once, none begun too late, all of it in one archive. No part of these tests needs a GPU."""

import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from assay.bench.case import Preset
from assay.bench.profiles import load_profile
from assay.bench.records.store import RunStore
from assay.bench.registry import select_cases
from assay.bench.running.archive import DOCUMENTS, take_in
from benchmarks import gpu_session
from benchmarks.gpu_session import BATCHES, CASES, LEAST, PEER, PEERS, TESTS, Done, Part, hold_session, list_measurements, list_parts, main
from tests.conftest import ROOT, heed_interrupts

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


def test_what_did_not_run_to_its_end_is_done_again(run: Path, tmp_path: Path) -> None:
    """pytest writes its list also where it could read no test at all."""
    kept = run / DOCUMENTS / "gpu-tests.xml"
    unread, failed = (f"open({str(kept)!r}, 'w').write('<testsuites/>'); raise SystemExit({code})" for code in (2, 1))
    endings = [hold_session([say("tests", code, kept)], run, tmp_path / "all.tar.gz", lambda: 100.0)[0].ending for code in (unread, failed, "")]
    assert endings == ["exit code 2", "exit code 1", "done before"]


def test_what_an_earlier_call_began_and_did_not_end_comes_last(run: Path, tmp_path: Path) -> None:
    (run / DOCUMENTS / "tests.txt").write_text("")
    (run / DOCUMENTS / "peer-attention-512.txt").write_text("attention, peer biased: 21 rounds of 2 lanes ...\n")
    (run / DOCUMENTS / "peer-dnabert.txt").write_text("dnabert\n")
    (run / DOCUMENTS / "peer-dnabert.json").write_text("{}")
    names = [part.name for part in list_parts(H100, run, None, tmp_path / "all.tar.gz", lambda: 100.0)]
    assert names[:2] == ["doctor", "peer attention-2048"]
    assert names[-4:] == [*(f"cases of {preset}" for preset in CASES), "tests", "peer attention-512"]
    assert len(set(names)) == len(names) == len(PEERS) + 4


def test_no_peer_takes_the_time_of_those_behind_it(run: Path, tmp_path: Path) -> None:
    assert {part.most for part in list_measurements("cuda", run / DOCUMENTS)} == {1.5 * TESTS, PEER}


def test_the_tests_of_a_gpu_are_read_without_those_that_need_more_than_a_kit_holds(run: Path) -> None:
    command = next(iter(list_measurements("cuda", run / DOCUMENTS))).command
    named = {word for word in command if word.startswith("tests/")}
    assert named == {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text() and path != Path(__file__)}
    imports = {word for path in named for word in re.findall(r"^(?:import|from) (\w+)", (ROOT / path).read_text(), re.MULTILINE)}
    assert imports <= {*sys.stdlib_module_names, "assay", "numpy", "psutil", "pytest", "tests", "torch"}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_session_that_is_stopped_ends_its_part_first_and_keeps_the_archive(number: signal.Signals, code: int, tmp_path: Path) -> None:
    """The part, as `bench run` does, has something to write when it is told to end."""
    part = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(open('ended', 'w').close())); print('begun', flush=True); time.sleep(600)"
    lines = (
        "import sys",
        "from benchmarks import gpu_session",
        f"gpu_session.ROOT = gpu_session.Path({str(tmp_path)!r})",
        f"gpu_session.list_parts = lambda *_: [gpu_session.Part('waits', (sys.executable, '-c', {part!r}))]",
        "sys.exit(gpu_session.main(['--budget', '5m', '--profile', 'h100', '--archive', 'all.tar.gz', '--results', 'results']))",
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(lines)]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as session:
        assert session.stdout is not None
        while session.stdout.readline() != "begun\n":
            assert session.poll() is None
        session.send_signal(number)
        _, err = session.communicate(timeout=60)
    assert (session.returncode, "the same command goes on" in err, "Traceback" in err) == (code, True, False), err
    assert (tmp_path / "ended").exists()
    with tarfile.open(tmp_path / "all.tar.gz") as archive:
        assert archive.getnames() == ["gpu-session-h100/documents/waits.txt"]
