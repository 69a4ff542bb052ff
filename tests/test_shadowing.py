"""Our top-level `datasets` has the name of Hugging Face's package. These tests hold each side apart from the other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(code, *, path=(), cwd=ROOT):
    """Standard output of a fresh interpreter, started like `python -m bench`: the working folder comes first on the path."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(map(str, path))}, capture_output=True, text=True, check=False
    )
    return done.stdout.split() or done.stderr.splitlines()[-1:]


LOADED = "print(*sorted(name for name in sys.modules if name.split('.')[0] == 'datasets'))"


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


@pytest.mark.parametrize("installed", [False, True])
def test_through_the_door_transformers_leaves_ours_alone(foreign, installed):
    code = f"""
import sys
from assay.datasets.hub import import_transformers
transformers = import_transformers()
from transformers import AutoTokenizer, EsmModel, Trainer
from transformers.models.rag import retrieval_rag
import transformers.modelcard
print(transformers.utils.is_datasets_available(), hasattr(sys.modules[Trainer.__module__], "datasets"), hasattr(retrieval_rag, "load_dataset"))
{LOADED}
"""
    assert run(code, path=[foreign] if installed else []) == ["False", "False", "False", "datasets", "assay.datasets.hub"]


def test_other_packages_are_still_found():
    code = """
from assay.datasets.hub import import_transformers
utils = import_transformers().utils
print(utils.is_torch_available(), utils.is_tokenizers_available(), utils.is_datasets_available())
"""
    assert run(code) == ["True", "True", "False"]


def test_an_answer_given_before_the_door_is_corrected():
    code = """
from transformers.utils import is_datasets_available
before = is_datasets_available()
from assay.datasets.hub import import_transformers
import_transformers()
print(before, is_datasets_available())
"""
    assert run(code) == ["True", "False"]


def test_from_the_checkout_ours_comes_before_an_installed_one(foreign):
    assert run("import assay.datasets.card; print(datasets.__file__)", path=[foreign]) == [str(ROOT / "datasets/__init__.py")]


def test_an_installed_one_before_the_checkout_fails_at_once(foreign, tmp_path):
    # started elsewhere, with the foreign package first: nothing runs half on theirs; `bench check` names the distribution
    assert run("import assay.bench.store", path=[foreign, ROOT], cwd=tmp_path) == ["ModuleNotFoundError: No module named 'assay.datasets.card'"]


def test_transformers_is_imported_through_the_door_only():
    door = ROOT / "datasets/hub.py"
    offenders = []
    for path in [p for room in ("bench", "models", "datasets", "benchmarks") for p in (ROOT / room).rglob("*.py") if p != door]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                offenders += [f"{path.relative_to(ROOT)}:{node.lineno}" for name in names if name.split(".")[0] == "transformers"]
    assert offenders == []
