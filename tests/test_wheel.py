"""The wheel, installed beside Hugging Face's `datasets` and used from an empty folder, far from the checkout."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

import assay
from assay.bench.case import Outcome
from assay.bench.records.store import read_runs
from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CASE = "affinity-v1/documented/train"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where a fresh environment keeps its packages: ours from the wheel, and a `datasets` as Hugging Face's; what else they need is this environment's."""
    if importlib.util.find_spec("hatchling") is None or importlib.util.find_spec("pip") is None:
        pytest.skip("hatchling or pip is not installed here; `make .venv/ready` brings both")
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheel", ROOT], check=True)
    (wheel,) = (folder / "wheel").glob("assay_suite-*.whl")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv").glob("lib/python3.*/site-packages")
    (site / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    install = [*pip, "--python", folder / "venv" / "bin" / "python", "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, env=environment())
    (site / "datasets").mkdir()
    (site / "datasets" / "__init__.py").write_text("class Dataset: ...\n")
    return site


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def run(site, tmp_path):
    """run(program, ...) -> standard output of a program of the environment, started in an empty folder."""

    def start(program, *arguments, cwd=tmp_path, code=0):
        done = subprocess.run([site.parents[2] / "bin" / program, *arguments], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=240)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    return start


def test_the_command_from_list_to_board(run, site, tmp_path):
    before = stamp(site)
    assert run("assay", "--version") == f"assay {assay.__version__}\n"
    assert f"{CASE}/smoke/closed/fp32" in {case["id"] for case in json.loads(run("assay", "list", "--json"))}
    assert "pages: results/LEADERBOARD.md" in run("assay", "run", "--preset", "smoke", "--select", CASE)
    assert "wrote results/LEADERBOARD.md, results/CLAIMS.md, results/index.html" in run("assay", "board")
    (record,) = read_runs(tmp_path / "results")
    assert record.outcome is Outcome.OK
    assert record.environment is not None
    assert record.environment.command == ("assay", "run", "--preset", "smoke", "--select", CASE)
    assert record.environment.unavailable["git_sha"] == f"assay {assay.__version__} was installed without its checkout"
    assert run("assay", "check", "--runs").startswith("all well")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert stamp(site) == before, "nothing is written into the package"


def stamp(folder: Path):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_what_it_says_names_commands_that_are_there(run):
    assert "Example: assay doctor" in " ".join(run("assay", "doctor", "--help").split())
    assert "`assay list` shows all cases" in run("assay", "list", "--select", "no-such-case", code=2)
    assert "complete -o default -F _complete_assay assay" in run("assay", "completion")


@pytest.mark.parametrize("place", ["an empty folder", "the checkout"])
def test_both_packages_named_datasets_are_imported(run, site, tmp_path, place):
    code = "import assay.datasets.card, datasets; print(datasets.__file__)"
    assert run("python", "-c", code, cwd=ROOT if place == "the checkout" else tmp_path).strip() == str(site / "datasets" / "__init__.py")


def test_the_version_is_said_twice_and_is_the_same():
    assert PROJECT["project"]["version"] == assay.__version__
