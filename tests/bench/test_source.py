"""What the source hash covers, and what it does not notice: every module of every workload's closure, edited in a copy of the packages."""

import ast
import shutil
from collections import ChainMap
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from assay.bench.case import Phase, UsageError
from assay.bench.checkout import ROOT
from assay.bench.registry import find_roots, get_workload, load_workloads
from assay.bench.source import NOT_FOLLOWED, PACKAGES, Tree, Trees, find_closure, hash_closure

SAMPLE = '''"""A module."""

from __future__ import annotations

import math
from assay.bench.other import half as cut
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.bench.words import Word

RATE: float = 1e-3  # a comment
"""Of learning."""


@property
def spell(x, /, *rest, scale=2.0, **more) -> str | None:
    """What it does."""
    def inner(): ...
    if (n := len(rest)) > 1 and not x:
        return f"{x!r:>{scale}.2f} of {n=} and {{}}" "é"
    match x:
        case {"a": [1, *_], **others} | Word(other=-1j):
            return None
    return [i async for i in x if i][1:-1, ...] or cut(lambda y=b"\\x00": {**more, y: 1_000})


class Layer(list[int], metaclass=type):
    from assay.datasets.deep import table
    with open("assay.bench.other") as a, a: pass
    try: x = 1 if RATE else 0x10
    except* ValueError as e: raise e from None
'''
SAME = '''from typing import TYPE_CHECKING
import math
from assay.bench.other import (
    half as cut,
)
from __future__ import annotations


RATE: float = (0.001)


@property
def spell( x, /, * rest, scale = 2.0, ** more ) -> str | None:
    # rewritten by hand
    def inner():
        ...
    if (n := len(rest)) > 1 and (not x):
        return (f'{x!r:>{scale}.2f} of {n=} and {{}}'
                'é')
    match x:
        case ({'a': [1, *_], **others} | Word(other=-1j)):
            return None
    return [i async for i in x if i][1:-1, ...] or cut(lambda y=b'\\0': {**more, y: 1000})
class Layer(list[int], metaclass = type):
    """A layer."""
    from assay.datasets.deep import table
    with open('assay.bench.other') as a, a:
        pass
    try:
        x = 1 if RATE else 16
    except* ValueError as e:
        raise e from None
'''
GOLDEN = "d345ba997a682038330c53931ee121dc644dff12418ca7540be087d9a3f53588"


def lay(root: Path, modules: Mapping[str, str]) -> Trees:
    for name, text in modules.items():
        path = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Trees(root)


def hash_sample(root: Path, **changes: str) -> str:
    modules = {"assay.bench.sample": SAMPLE, "assay.bench.other": "half = 0.5\n", "assay.datasets.deep": "table = {1: 2}\n"}
    return hash_closure(lay(root, modules | {f"assay.{name.replace('__', '.')}": text for name, text in changes.items()}), ["assay.bench.sample"])


class TestTrees:
    def test_every_python_gives_the_same_hash(self, tmp_path: Path) -> None:
        """The number was the same on Python 3.11, 3.12 and 3.13."""
        assert hash_sample(tmp_path) == GOLDEN

    def test_comments_docstrings_and_formatting_do_not_count(self, tmp_path: Path) -> None:
        assert hash_sample(tmp_path, bench__sample=SAME) == GOLDEN

    @pytest.mark.parametrize(
        ("mine", "theirs"),
        [("1e-3", "2e-3"), ("> 1", ">= 1"), (" and not x", " or not x"), ("scale=2.0", "scale=2"), ("half as cut", "third as cut"), ("import math", "import cmath"), (":>", ":<"), ("é", "è")],
    )
    def test_an_operator_a_constant_and_an_import_count(self, tmp_path: Path, mine: str, theirs: str) -> None:
        assert hash_sample(tmp_path, bench__sample=SAMPLE.replace(mine, theirs, 1)) != GOLDEN

    def test_a_module_may_move(self, tmp_path: Path) -> None:
        moved = lay(tmp_path, {"assay.models.home": SAMPLE.replace("assay.bench.other", "assay.models.cut"), "assay.models.cut": "half = 0.5\n", "assay.datasets.deep": "table = {1: 2}\n"})
        assert hash_closure(moved, ["assay.models.home"]) == GOLDEN

    def test_which_module_is_imported_counts_even_where_both_are_there(self, tmp_path: Path) -> None:
        texts = {"assay.bench.one": "rate = 1\n", "assay.bench.two": "rate = 2\n"}
        ours = "from assay.bench.{} import rate as a\nfrom assay.bench.{} import rate as b\nNAMES = ['assay.bench.{}', 'assay.bench.{}']\n"
        hashes = {hash_closure(lay(tmp_path, texts | {"assay.bench.sample": ours.format(*order)}), ["assay.bench.sample"]) for order in (("one", "two", "one", "two"), ("two", "one", "one", "two"), ("one", "two", "two", "one"))}
        assert len(hashes) == 3

    def test_imports_are_followed_wherever_they_stand(self, tmp_path: Path) -> None:
        ways = {
            "inside": "def f():\n    from assay.bench import inside\n",
            "plain": "import assay.bench.plain as other\n",
            "relative": "from . import relative\n",
            "relative_name": "from .relative_name import x\n",
            "named": "load('assay.bench.named')\n",
        }  # fmt: skip
        trees = lay(tmp_path, {f"assay.bench.{name}": "x = 1\n" for name in ways} | {"assay.bench.sample": "".join(ways.values())})
        assert find_closure(trees, ["assay.bench.sample"]) == {"assay.bench.sample", *(f"assay.bench.{name}" for name in ways)}

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("import_module(f'{package}.{kind}')", "line 1: a module's name is put together; write the names"),
            ("importlib.import_module('assay.bench.' + kind)", "put together"),
            ("NAMES = [f'assay.bench.measure.{kind}' for kind in kinds]", "put together"),
            ("x =", "Python cannot read it"),
        ],
    )
    def test_what_nobody_could_follow_is_refused(self, tmp_path: Path, text: str, what: str) -> None:
        with pytest.raises(UsageError, match=what):
            find_closure(lay(tmp_path, {"assay.bench.sample": text}), ["assay.bench.sample"])

    def test_a_root_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"there is no module assay\.bench\.sample in"):
            find_closure(Trees(tmp_path), ["assay.bench.sample"])


class _Edit(ast.NodeTransformer):
    """Changes one number or operator, the first that there is."""

    done = False

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if self.done or not isinstance(node.value, int | float):
            return node
        self.done = True
        return ast.Constant(node.value + 1)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        if self.done:
            return node
        self.done = True
        return ast.BinOp(node.left, ast.Pow() if not isinstance(node.op, ast.Pow) else ast.Add(), node.right)


def change(text: str) -> str:
    edit = _Edit()
    tree = edit.visit(ast.parse(text))
    return ast.unparse(ast.fix_missing_locations(tree)) if edit.done else text + "\nADDED = 1\n"


def polish(text: str) -> str:
    """Other comments, docstrings and layout."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Expr(ast.Constant("Said in other words."))
    return f"# a comment\n{ast.unparse(ast.fix_missing_locations(tree))}\n"


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=lambda where, names: [name for name in names if Path(name).suffix not in (".py", "") or name == "__pycache__"])
    return folder


@pytest.fixture(scope="module")
def trees(copy: Path) -> Trees:
    return Trees(copy)


Rewrite = Callable[[str, Callable[[str], str]], Tree]


@pytest.fixture(scope="module")
def rewrite(copy: Path, trees: Trees) -> Rewrite:
    """The tree of a module whose text is edited."""

    @cache
    def apply(name: str, edit: Callable[[str], str]) -> Tree:
        path = trees.locate(name)
        assert path is not None
        text = path.read_text()
        path.write_text(edit(text))
        try:
            return Trees(copy)[name]
        finally:
            path.write_text(text)

    return apply


MEASURING = {f"assay.bench.measure.{name}" for name in ("board", "clock", "device", "energy", "flops", "memory", "meter", "nvml", "sampler", "traffic")} | {"assay.bench.running.execution", "assay.bench.running.plugin", "assay.models.metrics"}
BESIDE = ("assay.bench.report", "assay.bench.cli.main", "assay.bench.gate.session", "assay.bench.running.local", "assay.bench.exchange.tables", "assay.bench.records.index", "assay.bench.claims.judgement", "assay.bench.source", "assay.datasets.sources")
PROOFS = {f"assay.models.dnabert.attention.{name}" for name in ("proof", "aot", "interpreted", "triton2")}


@pytest.mark.parametrize("workload", load_workloads())
class TestWorkloads:
    def test_a_change_in_any_module_of_the_closure_changes_the_hash_and_polish_does_not(self, workload: str, trees: Trees, rewrite: Rewrite) -> None:
        roots = find_roots(get_workload(workload), Phase.TRAIN)
        before = hash_closure(trees, roots)
        closure = find_closure(trees, roots)
        for name in closure:
            assert hash_closure(ChainMap({name: rewrite(name, change)}, trees), roots) != before, name
        assert hash_closure(ChainMap({name: rewrite(name, polish) for name in closure}, trees), roots) == before

    def test_a_change_in_what_only_others_import_does_not(self, workload: str, trees: Trees, rewrite: Rewrite) -> None:
        roots = find_roots(get_workload(workload), Phase.TRAIN)
        others = frozenset().union(*(find_closure(trees, find_roots(other, Phase.TRAIN)) for other in load_workloads().values()))
        changed = ChainMap({name: rewrite(name, change) for name in others - find_closure(trees, roots)}, trees)
        assert hash_closure(changed, roots) == hash_closure(trees, roots)

    def test_what_measures_is_in_it_and_what_shows_and_proves_is_not(self, workload: str, trees: Trees) -> None:
        closure = find_closure(trees, find_roots(get_workload(workload), Phase.TRAIN))
        assert closure >= MEASURING
        assert not closure & {*BESIDE, *PROOFS, *NOT_FOLLOWED}
        assert not any(name.startswith(("assay.bench.report", "assay.bench.cli", "assay.bench.gate", "assay.bench.exchange")) for name in closure)
        assert {name for name in closure if name.startswith("assay.bench.running")} == {"assay.bench.running.execution", "assay.bench.running.plugin"}


def test_changes_in_what_shows_keeps_and_proves_change_no_hash(trees: Trees, copy: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(copy, tmp_path / "changed")
    for name in {*BESIDE, *PROOFS, *NOT_FOLLOWED}:
        path = changed / (trees.locate(name) or copy).relative_to(copy)
        path.write_text(change(path.read_text()))
    again = Trees(changed)
    for workload in load_workloads().values():
        roots = find_roots(workload, Phase.TRAIN)
        assert hash_closure(again, roots) == hash_closure(trees, roots), workload.name


def test_a_workload_has_the_modules_that_its_recipes_name_and_no_other_family_s(trees: Trees) -> None:
    closures = {name: find_closure(trees, find_roots(workload, Phase.TRAIN)) for name, workload in load_workloads().items()}
    attention = {f"assay.models.dnabert.attention.{name}" for name in ("eager", "sdpa", "flex", "flash", "fused", "kernels")}
    assert closures["dnabert-s"] >= attention
    assert "assay.models.splice.networks" in closures["splice-validated"] - closures["splice-simple-cnn"]
    assert "assay.models.hyenadna.network" in closures["splice-hyenadna-ensemble"] - closures["splice-ensemble"]
    assert "assay.datasets.text" in closures["tissuebert-file"]
    assert not any(name.startswith(("assay.models.splice", "assay.models.dnabert", "assay.datasets.splice")) for name in closures["affinity-v2"])


def test_what_is_not_followed_is_there_and_has_a_reason(trees: Trees) -> None:
    assert all(trees.locate(name) and reason for name, reason in NOT_FOLLOWED.items())


def test_packages_run_nothing_when_they_are_imported() -> None:
    """A module's packages run before it without being in its closure, so they may only import, name and define."""
    quiet = ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.ClassDef
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")):
        loud = [node.lineno for node in ast.parse(path.read_text()).body if not (isinstance(node, quiet) or is_docstring(node) or is_for_types(node))]
        assert not loud, f"{path}, lines {loud}: move them into a module that is imported where they count"


def is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
