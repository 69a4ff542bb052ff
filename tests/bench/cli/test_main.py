"""The command line as a user meets it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from assay.bench.records.store import RunStore
from tests.conftest import ROOT


def bench(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=cwd, capture_output=True, text=True, timeout=240)


def test_the_command_line_starts_without_torch():
    done = subprocess.run([sys.executable, "-c", "import sys, assay.bench.cli.main; print('torch' in sys.modules)"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("command", [(), ("list",), ("check",), ("doctor",), ("run",), ("board",), ("claims",), ("score",), ("export",), ("import",), ("data",), ("data", "fetch"), ("data", "splice-targets")])
def test_every_command_explains_itself_with_an_example(command: tuple[str, ...]) -> None:
    done = bench(*command, "--help")
    assert done.returncode == 0
    if command not in ((), ("data",)):
        assert "python -m bench " + " ".join(command) in " ".join(done.stdout.split())


def test_list_as_json_names_every_case() -> None:
    done = bench("list", "--preset", "smoke", "--select", "affinity-v1", "--json")
    cases = json.loads(done.stdout)
    assert "affinity-v1/documented/train/smoke/closed/fp32" in {case["id"] for case in cases}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--select", "no-such-model"), "no case matches"),
        (("run", "--profile", "gtx9999", "--select", "affinity-v1"), "gtx9999"),
        (("run", "--data", "no/such/folder"), "no such folder"),
        (("score", "--workload", "affinity-v9", "--predictions", "x.csv"), "unknown workload"),
        (("doctor", "--profile", "gtx9999"), "gtx9999"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_2(arguments: tuple[str, ...], message: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")


def test_check_finds_the_project_in_order() -> None:
    done = bench("check", "--runs")
    assert done.returncode == 0, done.stdout + done.stderr


def test_same_case_and_seed_give_identical_metrics_and_weights(tmp_path: Path) -> None:
    select = "affinity-v1/documented/train or splice-validated/hidden128-layers6/train"
    for name in ("first", "second"):
        done = bench("run", "--profile", "cpu", "--division", "closed", "--select", select, "--out", str(tmp_path), "--name", name)
        assert done.returncode == 0, done.stdout + done.stderr
    first, second = (RunStore(tmp_path / "runs" / name).read() for name in ("first", "second"))
    assert {record.case.workload for record in first} == {"affinity-v1", "splice-validated"}
    for one, other in zip(first, second, strict=True):
        assert one.quality == other.quality
        assert one.curves["train_loss"] == other.curves["train_loss"]
        assert one.weights_sha256 == other.weights_sha256 is not None
        assert one.comparability == other.comparability


def test_plain_pytest_runs_a_case_and_writes_the_standard_benchmark_json(tmp_path: Path) -> None:
    report = tmp_path / "benchmark.json"
    arguments = ["--assay-case=affinity-v1/documented/train/smoke/closed/fp32", f"--assay-run={tmp_path / 'run'}", f"--benchmark-json={report}"]
    done = subprocess.run([sys.executable, "-m", "pytest", "bench/cases", "-q", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())["benchmarks"][0]["stats"]["rounds"] == 10
    assert [record.outcome for record in RunStore(tmp_path / "run").read()] == ["ok"]


def test_plain_pytest_without_the_profile_s_gpu_ends_as_the_doctor_does_and_records_nothing(tmp_path: Path) -> None:
    arguments = ["--assay-case=affinity-v1/documented/train/smoke/closed/fp32", f"--assay-run={tmp_path / 'run'}", "--assay-profile=a40"]
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-m", "pytest", "bench/cases", "-q", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240, env=hidden)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "profile a40: not fit to measure on" in done.stdout + done.stderr
    assert not (tmp_path / "run").exists()


def test_bad_data_are_one_clear_line_and_exit_2_and_lose_no_record(tmp_path: Path, real_data: Path) -> None:
    table = tmp_path / "data" / "abag_mini" / "abag_skempi_real.csv"
    table.parent.mkdir(parents=True)
    lines = (real_data / "abag_mini" / table.name).read_text().splitlines()
    header = lines[0].split(",")
    row = lines[7].split(",")
    row[header.index("pKd")] = "inf"
    table.write_text("\n".join([*lines[:7], ",".join(row), *lines[8:]]))
    done = bench("run", "--select", "affinity-v1/documented", "--profile", "cpu", "--data", str(table.parents[1]), "--out", str(tmp_path), "--name", "bad")
    assert done.returncode == 2, done.stdout + done.stderr
    text = " ".join((done.stdout + done.stderr).split())
    assert f"{table.name}, row 8" in text
    assert "Traceback" not in text
    records = RunStore(tmp_path / "runs" / "bad").read()
    assert [record.outcome for record in records] == ["skipped", "skipped"]
    assert all("bad input" in (record.reason or "") and "pKd" in (record.reason or "") for record in records)
