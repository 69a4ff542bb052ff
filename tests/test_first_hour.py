"""Mistakes that people make in their first hour, and what they are told."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.bench.cli.main import app
from tests.conftest import ROOT

SCHEMA = ROOT / "results" / "record.schema.json"


def say(*arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, as one line."""
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception  # never a traceback
    return done.exit_code, " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("lst", "No such command 'lst'. Did you mean 'list'?"),
        ("run affinity-v1", "'affinity-v1' is not an option; cases are chosen with --select, e.g. --select 'affinity-v1'"),
        ("run --select splise", "no case matches preset=smoke, division=any, select='splise'; `python -m bench list` shows all cases"),
        ("run --preset full", "'full' is not one of 'smoke', 'standard', 'documented', 'scale'."),
        ("run --profile a100", "unknown profile 'a100'; known: a100-80gb, a100-80gb-pcie, a40, cpu"),
        ("run --data nowhere", "--data nowhere: no such folder; `python -m bench data fetch --to nowhere` fills one"),
        ("run --resume --name last", "--resume --name last: there is no such run in"),
        ("board --results nowhere", "nowhere: no such folder; correct it, or make one with `python -m bench run --out nowhere`"),
        ("claims --results nowhere", "nowhere: no such folder; correct it"),
        ("check --runs --results nowhere", "nowhere: no such folder; correct it"),
        ("score --workload affinity --predictions x.csv", "unknown workload 'affinity'; known: affinity-v1, affinity-v2,"),
        ("score --workload affinity-v1 --predictions x.csv", "x.csv: cannot be read: No such file or directory; give a CSV with one row per sample"),
        ("data describe abagg", "abagg: no such dataset or file in the list of sources. Known datasets:"),
        ("export --to excel --out x", "'excel' is not one of 'csv', 'parquet', 'github-action-benchmark', 'mlflow', 'pytest-benchmark'."),
        (f"import {SCHEMA}", "benchmarks: Field required; give a file that `pytest --benchmark-json=FILE` wrote to its end"),
    ],
)
def test_wrong_use_is_told_with_what_to_do_and_exit_2(mistake: str, message: str) -> None:
    code, said = say(*mistake.split())
    assert code == 2
    assert message in said


def test_predictions_with_a_word_among_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("pKd,pred\n6.1,5.9\n>10,9.5\n")
    code, said = say("score", "--workload", "affinity-v1", "--predictions", str(tmp_path / "mine.csv"))
    assert code == 2
    assert "mine.csv, row 3: pKd holds '>10', not a finite number (1 such rows); correct or leave them out" in said


def test_predictions_under_column_names_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("affinity,guess\n6.1,5.9\n")
    code, said = say("score", "--workload", "affinity-v1", "--predictions", str(tmp_path / "mine.csv"))
    assert code == 2
    assert "the columns are affinity, guess; choose one with --true-column" in said


def test_a_file_where_the_results_should_go(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    code, said = say("run", "--select", "affinity-v1", "--out", str(tmp_path / "results"))
    assert code == 2
    assert "cannot be written: Not a directory; choose another with --out DIR or free it" in said


def test_a_gpu_profile_on_a_machine_without_that_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setattr("assay.bench.measure.load.WINDOW_SECONDS", 0.01)
    code, said = say("doctor", "--profile", "t4", "--json")
    assert code == 4
    assert '"name": "nvml", "ok": false, "message": "no GPU can be asked: NVML: NVML Shared Library Not Found (error 12).", "wanted": "an NVIDIA driver' in said


def test_a_record_that_was_edited_by_hand(checkout: Path, tmp_path: Path) -> None:
    record = next((checkout / "results" / "runs").glob("*/0000-*.json"))
    run = tmp_path / "runs" / record.parent.name
    run.mkdir(parents=True)
    (run / record.name).write_text(record.read_text().replace('"outcome": "ok"', '"outcome": "great"'))
    code, said = say("board", "--results", str(tmp_path))
    assert code == 2
    assert f"{record.name}: outcome: Input should be 'ok', 'oom'," in said
    assert said.endswith("restore it from version control or delete it, and run the case again")


COMPLETIONS = {  # how each shell is asked what the tab key would offer
    "bash": 'source <("$0" -m bench completion bash)\nfor COMP_WORDS in "$@"; do COMP_CWORD=$(($(wc -w <<< "$COMP_WORDS") - 1)); _complete_bench; printf "%s\n" "${COMPREPLY[@]}"; done',
    "zsh": 'source <("$0" -m bench completion zsh)\n_arguments() { print -r -- "$@" }\nfor line in "$@"; do words=(${(z)line}); CURRENT=$#words; _complete_bench; done',
    "fish": '$argv[1] -m bench completion fish | source\nfor line in $argv[2..]; complete --do-complete $line; end',
}


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completion(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    command = [shell, "-c", COMPLETIONS[shell], sys.executable, "bench exp", "bench run --preset s"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    offered = set(re.findall(r"\b(export|import|smoke|standard|scale|documented)\b", done.stdout))
    assert offered == {"export", "smoke", "standard", "scale"}  # what begins with exp, and with s
