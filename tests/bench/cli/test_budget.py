"""`python -m bench run` with --budget, --dry-run and --archive, as a user meets them; the cases themselves are pretended."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from assay.bench.case import Case
from assay.bench.cli.main import app
from assay.bench.profiles import load_profile
from assay.bench.records.comparability import compare_key
from assay.bench.records.record import Environment, Machine
from assay.bench.records.store import RunStore
from assay.bench.registry import get_workload
from assay.bench.running import budget, stations
from assay.bench.running.archive import take_in
from assay.bench.running.local import Contact, Ending, Limits
from tests.bench.running.past import ENVIRONMENT, machine, past

CHEAP, DEAR = "affinity-v1/documented/train/standard/closed/fp32", "affinity-v1/by-complex/train/standard/closed/fp32"
EVALS = [case.replace("train", "eval") for case in (CHEAP, DEAR)]
TAKES = {CHEAP: 60.0, DEAR: 500.0, EVALS[0]: 2.0, EVALS[1]: 2.0}
SELECT = ("--profile", "cpu", "--preset", "standard", "--select", "affinity-v1 and (documented or by-complex)", "--division", "closed")
Call = Callable[..., Result]


@dataclass
class Pretended:
    """A launcher whose cases end at once with a record that says how long they took."""

    run: Path
    data: Path | None
    command: tuple[str, ...]
    folders: Sequence[str] = ()

    def identify(self, device: torch.device) -> tuple[Machine, Environment]:
        return machine(), ENVIRONMENT

    def launch(self, case: Case, options: Sequence[str], limits: Limits, log: Path, contact: Contact) -> Ending:
        identity = get_workload(case.workload).identify(case, self.data)
        key = compare_key(case, identity, machine(), ENVIRONMENT, profile=load_profile("cpu"), seed=42, parallel=1)
        RunStore(self.run).append(past(case.id, TAKES[case.id], data=identity, comparability=key))
        return Ending(None, None, log)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results with an earlier run of every case but the dear evaluation, on this machine."""
    store = RunStore.create(tmp_path / "results" / "runs", "earlier")
    for case in (CHEAP, EVALS[0], DEAR):
        store.append(past(case, TAKES[case]))
    return tmp_path / "results"


@pytest.fixture
def call(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr(stations, "LocalLauncher", Pretended)
    monkeypatch.setattr(budget, "PUBLISHED", tmp_path / "no-checkout")
    monkeypatch.setattr(budget, "identify_machine", lambda device: machine())
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str) -> Result:
        typed = ["run", *SELECT, "--out", str(results), *arguments]
        monkeypatch.setattr(sys, "argv", ["bench", *typed])
        return CliRunner().invoke(app, typed)

    return invoke


def runs(results: Path) -> dict[str, list[str]]:
    folders = sorted(path for path in (results / "runs").iterdir() if path.name != "earlier")
    return {folder.name: [record.case.case.id for record in RunStore(folder).read()] for folder in folders}


def test_the_same_command_goes_on_until_nothing_is_left(call: Call, results: Path) -> None:
    first = call("--budget", "8m")
    assert first.exit_code == 0, first.output
    ((name, recorded),) = runs(results).items()
    assert recorded == [CHEAP, EVALS[0]]
    command = f"python -m bench run {' '.join(SELECT[:5])} '{SELECT[5]}' --division closed --out {results} --budget"
    assert f"cases left out: 2, about 8 min. Go on with: {command} 8m --name {name} --resume" in " ".join(first.stderr.split())

    again = call("--budget", "8m")
    assert again.exit_code == 0, again.output
    assert runs(results) == {name: recorded}
    assert again.stderr.count("recorded    affinity-v1/documented/") == 2

    last = call("--budget", "9m")
    assert last.exit_code == 0, last.output
    assert runs(results) == {name: [CHEAP, EVALS[0], DEAR, EVALS[1]]}
    assert "no case was left out" in last.stderr
    plan = json.loads(call("--budget", "9m", "--dry-run", "--json").stdout)
    assert plan["run"] is None


def test_nothing_that_fits_is_nothing_run(call: Call, results: Path) -> None:
    assert call("--budget", "5s").exit_code == 3
    assert list(runs(results).values()) == [[]]


def test_a_plan_is_printed_and_nothing_written(call: Call, results: Path) -> None:
    before = sorted(results.rglob("*"))
    done = call("--budget", "8m", "--dry-run")
    assert done.exit_code == 0, done.output
    assert sorted(results.rglob("*")) == before
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    text = " ".join(done.stdout.split())
    assert lines[0] == "preset standard on Any CPU, a new run"
    assert "starts, in this order" in text
    assert text.index("is left out") > text.index("60 s")
    assert lines[-1] == "cases: 2, 1 at a time: about 62 s of 8 min; left out: 2, about 8 min"


def test_a_plan_as_json_has_every_number(call: Call) -> None:
    plan = json.loads(call("--budget", "8m", "--dry-run", "--json").stdout)
    rows = [(row["id"], row["worth"], row["seconds"], row["set_aside_s"], row["source"], row["in_time"]) for row in plan.pop("cases")]
    assert rows == [
        (CHEAP, "new", 60.0, 60.0, "record here", True),
        (EVALS[0], "new", 2.0, 2.0, "record here", True),
        (DEAR, "new", 500.0, 500.0, "record here", False),
        (EVALS[1], "new", 2.0, 2.0, "like documented, record here", False),
    ]
    assert plan == {"profile": "cpu", "run": None, "budget_s": 480.0, "jobs": 1, "ends_s": 62.0, "left_out": 2, "left_out_s": 502.0}


def test_without_a_budget_the_plan_is_everything_in_the_order_declared(call: Call) -> None:
    done = call("--dry-run")
    lines = done.stdout.splitlines()
    assert lines[-1] == "cases: 4, 1 at a time: about 9 min"
    assert "is left out" not in done.stdout


def test_a_plan_for_a_card_needs_none(call: Call) -> None:
    plan = json.loads(call("--profile", "h100", "--budget", "25m", "--dry-run", "--json").stdout)
    assert [row["source"] for row in plan["cases"]] == ["as on Xeon", "as on Xeon", "as on Xeon", "like documented, as on Xeon"]


def test_a_plan_says_what_is_finished(call: Call, results: Path) -> None:
    call("--budget", "8m")
    (name,) = runs(results)
    plan = json.loads(call("--budget", "9m", "--dry-run", "--json").stdout)
    assert plan["run"] == name
    assert [(row["worth"], row["seconds"]) for row in plan["cases"]] == [("finished", 0.0), ("finished", 0.0), ("new", 500.0), ("new", 2.0)]


def test_an_archive_is_what_another_machine_takes_in(call: Call, results: Path, tmp_path: Path) -> None:
    file = tmp_path / "pod.tar.gz"
    assert call("--budget", "8m", "--archive", str(file)).exit_code == 0
    (tmp_path / "home").mkdir()
    ((name, recorded),) = runs(results).items()
    (taken,) = take_in(file, tmp_path / "home")
    assert (taken.run, taken.new) == (name, 2)
    assert runs(tmp_path / "home") == {name: recorded}
    file.unlink()
    assert call("--budget", "8m", "--archive", str(file)).exit_code == 0
    assert take_in(file, tmp_path / "home")[0].new == 0


def test_an_archive_of_another_name_is_refused_before_anything_is_made(call: Call, results: Path, tmp_path: Path) -> None:
    done = call("--budget", "8m", "--archive", str(tmp_path / "pod.zip"))
    assert done.exit_code == 2
    assert runs(results) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "8"), "--budget '8': no duration above 0; write 90s, 8m or 1.5h"),
        (("--budget", "8m", "--engine", "docker", "--image", "cpu", "--image", "cuda"), "--budget plans for one image; run the command once for each --image"),
        (("--dry-run", "--profile", "gtx9999"), "unknown profile 'gtx9999'"),
    ],
)
def test_wrong_use_is_one_line(call: Call, arguments: tuple[str, ...], message: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: {message}")
