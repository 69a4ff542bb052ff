"""Our folder `datasets` has the name of Hugging Face's package. Both are used side by side, and no module of ours has two names."""

import ast
import os
import subprocess
import sys

import pytest

from assay.bench.gate.harness import open_sides
from assay.bench.gate.pair import B
from tests.conftest import ROOT

FOLDERS = ("bench", "models", "datasets")


def run(code, *, path=(), cwd=ROOT):
    """Standard output of a fresh interpreter, started like `python -m bench`: the working folder comes first on the path."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, path))}, capture_output=True, text=True, check=False
    )
    return done.stdout.split() or done.stderr.splitlines()[-1:]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """An installed distribution of the same name, as `pip install datasets` leaves it."""
    site = tmp_path_factory.mktemp("site")
    (site / "datasets").mkdir()
    (site / "datasets/__init__.py").write_text("class Dataset: ...\nclass IterableDataset: ...\n")
    (site / "datasets-3.0.0.dist-info").mkdir()
    (site / "datasets-3.0.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: datasets\nVersion: 3.0.0\n")
    return site


def test_transformers_takes_ours_for_hugging_faces_when_imported_directly():
    # while this holds, assay.datasets.hub is needed; should it fail, transformers has learnt to look closer and hub.py can go
    assert run("from transformers.utils import is_datasets_available; print(is_datasets_available())") == ["True"]


TRAINER = """
import sys
from assay.datasets.hub import import_transformers
transformers = import_transformers()
from transformers import AutoTokenizer, EsmModel, Trainer
print(transformers.utils.is_datasets_available(), hasattr(sys.modules[Trainer.__module__], "datasets"))
print(transformers.utils.is_torch_available(), transformers.utils.is_tokenizers_available())
"""


def test_through_the_door_transformers_leaves_ours_alone():
    assert run(TRAINER) == ["False", "False", "True", "True"]


def test_through_the_door_transformers_finds_hugging_faces(foreign):
    assert run(TRAINER, path=[foreign]) == ["True", "True", "True", "True"]


@pytest.mark.parametrize("order", ["import datasets, assay.datasets.card", "import assay.datasets.card, datasets"])
def test_from_the_checkout_s_root_both_are_imported(foreign, order):
    assert run(f"{order}; print(datasets.__file__, assay.datasets.card.__file__)", path=[foreign]) == [
        str(foreign / "datasets/__init__.py"), str(ROOT / "assay/datasets/card.py")
    ]  # fmt: skip


def test_transformers_is_imported_through_the_door_only():
    door = ROOT / "datasets/hub.py"
    offenders = []
    for path in [p for room in (*FOLDERS, "benchmarks") for p in (ROOT / room).rglob("*.py") if p != door]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                offenders += [f"{path.relative_to(ROOT)}:{node.lineno}" for name in names if name.split(".")[0] == "transformers"]
    assert offenders == []


SPY = """
import os, sys
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("assay", "bench", "models", "datasets"):
            with open(os.path.join(os.environ["IMPORTS_SEEN"], str(os.getpid())), "a") as seen:
                seen.write(name + "\\n")
sys.meta_path.insert(0, Spy())
"""


def find_twins(imported):
    """Modules that one process has under both of their names."""
    return {name for name in imported if "." in name and name.partition(".")[0] in FOLDERS and f"assay.{name}" in imported}


@pytest.mark.parametrize(
    ("command", "module"),
    [
        (("-m", "bench", "run", "--select", "affinity-v1/documented/train", "--profile", "cpu", "--out", "{folder}"), "assay.models.affinity"),
        (("-m", "bench", "list"), "assay.models.tissuebert"),
        (("-m", "assay", "list"), "assay.models.tissuebert"),
        (("-m", "pytest", "bench/cases", "-q", "--assay-case=affinity-v1/documented/train/smoke/closed/fp32", "--assay-run={folder}/run"), "assay.models.affinity"),
        (("-m", "assay.bench.measure.sampler", "0", "", "0.02", "0"), "assay.bench.measure.sampler"),
    ],
)
def test_no_process_has_a_module_under_two_names(tmp_path, command, module):
    (tmp_path / "sitecustomize.py").write_text(SPY)
    (seen := tmp_path / "seen").mkdir()
    command = [sys.executable, *(word.format(folder=tmp_path) for word in command)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "IMPORTS_SEEN": str(seen)}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    processes = [set(file.read_text().split()) for file in seen.iterdir()]
    assert any(module in imported for imported in processes)
    assert [find_twins(imported) for imported in processes] == [set()] * len(processes)
    if "run" in command:
        assert len(processes) >= 2, "the launcher and its case"


def test_a_worker_of_the_gate_has_no_module_under_two_names(tmp_path, monkeypatch):
    code = "import sys, assay.bench.gate.worker; from assay.bench.registry import load_workloads; load_workloads(); print(*sys.modules, flush=True)"
    monkeypatch.setattr("assay.bench.gate.reference.WORKER", ("-c", code))
    with open_sides(str(ROOT), str(ROOT), ROOT, gpu=False) as sides:
        pipe = sides.sources[B].start(tmp_path / "log", None)
        said = b""
        while piece := pipe.read(120):
            said += piece
        pipe.close()
    imported = {name for name in said.decode().split() if name.partition(".")[0] in ("assay", *FOLDERS)}
    assert "assay.models.affinity" in imported
    assert {name for name in imported if not name.startswith("assay")} == set()
