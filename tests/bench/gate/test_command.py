"""`bench gate` on the command line, with the measuring left out: what it refuses first, what it prints when, and how it ends."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from assay.bench.cli import gate as cli_gate
from assay.bench.cli.main import app
from assay.bench.gate.history import History
from assay.bench.gate.verdict import GateReport, GateVerdict
from tests.bench.gate.test_history import FIRST, SECOND, make_report


class Command:
    """The command; `names`: the sides that it compared."""

    def __init__(self, results: Path) -> None:
        self.results: Path = results
        self.found: GateReport | Exception = make_report(FIRST, SECOND)
        self.names: list[tuple[str, str]] = []

    def compare(self, names, *_, **__):
        self.names.append(names)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def __call__(self, *arguments, found=None):
        self.found = found or make_report(FIRST, SECOND)
        return CliRunner().invoke(app, ["gate", "--profile", "cpu", "--results", str(self.results), *arguments])


@pytest.fixture
def gate(tmp_path, monkeypatch) -> Command:
    command = Command(tmp_path)
    monkeypatch.setattr(cli_gate, "_compare", command.compare)
    return command


def test_the_pinned_reference_is_what_was_accepted(gate, tmp_path) -> None:
    nothing = gate("--reference", "pinned")
    assert nothing.exit_code == 2
    assert "no reference is pinned" in nothing.output
    History(tmp_path / "gate").accept(FIRST, "release 1.0")
    done = gate("--reference", "pinned", "--candidate", "HEAD", "--json")
    assert done.exit_code == 0, done.output
    assert gate.names == [(FIRST, "HEAD")]
    assert [entry.kind for entry in History(tmp_path / "gate").read()] == ["accept", "run"]
    assert gate("--candidate", "HEAD").exit_code == 0
    assert gate.names[-1] == (FIRST, "HEAD"), "it is the default, too"


def test_a_damaged_history_is_refused_before_anything_is_measured(gate, tmp_path) -> None:
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "history.jsonl").write_text("{}\n")
    done = gate("--reference", "HEAD")
    assert done.exit_code == 2
    assert "history.jsonl, line 1" in done.output
    assert gate.names == []


def test_the_verdict_is_out_before_it_is_stored(gate, monkeypatch) -> None:
    def fail(history, report):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(History, "append", fail)
    done = gate("--reference", "HEAD", "--json", found=make_report(FIRST, SECOND, 1.2))
    assert GateReport.model_validate(json.loads(done.stdout)).exit_code == 1
    assert done.exit_code == 70, "the gate's own failure is no verdict"


def test_a_file_that_cannot_be_written_is_wrong_use(gate, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = gate("--reference", "HEAD", "--junit", str(tmp_path / "file" / "junit.xml"))
    assert done.exit_code == 2
    assert "--junit" in done.output
    assert "cannot be written" in done.output


def test_an_error_of_the_gate_is_no_verdict(gate) -> None:
    done = gate("--reference", "HEAD", found=ZeroDivisionError("division by zero"))
    assert done.exit_code == 70
    assert "the gate itself failed (ZeroDivisionError: division by zero); this says nothing about the candidate" in " ".join(done.output.split())
    assert "Traceback" in done.output


@pytest.mark.parametrize(("option", "value", "words"), [("--silence", "1", "10"), ("--seeds", "3", "fewer than 7 trainings can never decide"), ("--rounds", "2", "3")])
def test_what_cannot_work_is_refused(gate, option, value, words) -> None:
    done = gate("--reference", "HEAD", option, value)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert gate.names == []


def test_notes_and_findings_are_shown(gate) -> None:
    done = gate("--reference", "HEAD", found=make_report(FIRST, FIRST, 1.2, notes=("other work takes 60 % of 2 cores",)))
    assert done.exit_code == 1
    assert "note: other work takes 60 % of 2 cores" in done.output
    assert str(GateVerdict.REGRESSED) in done.output


def test_help_shows_defaults_and_examples() -> None:
    text = " ".join(CliRunner().invoke(app, ["gate", "--help"], env={"COLUMNS": "200"}).output.split())
    for default in ("pinned", "(this folder)", "(all)", "smoke", "(found out)", "(synthetic twins)", "(no limit)", "8", "10", "42", "120", "(results)"):
        assert f"[default: {default}]" in text, default
    assert "python -m bench gate --reference main --select 'affinity and train'" in text
    assert "python -m bench gate accept --reason" in text


def test_a_comparison_with_itself_says_so(tmp_path, monkeypatch) -> None:
    root = cli_gate.REPOSITORY
    monkeypatch.setattr("assay.bench.gate.session.GateSession.run", lambda session: make_report(FIRST, SECOND))
    done = CliRunner().invoke(app, ["gate", "--profile", "cpu", "--results", str(tmp_path), "--reference", str(root), "--candidate", str(root), "--json"])
    assert done.exit_code == 0, done.output
    assert "every difference will be chance" in done.stderr
