"""The hash of the source that can change a case's numbers: of the modules that its roots import, directly or through others.

Every import of assay.bench, assay.datasets and assay.models is followed, inside functions too, and so is every text that is the dotted name of one of their
modules (a backend loaded by name, a process started with -m). NOT_FOLLOWED names what is left out, and why. Of each module the syntax tree is
hashed, without comments, docstrings and formatting. The file's place and name are not part of it: where a tree names another module, the hash
takes that module's own tree.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from assay.bench.case import UsageError
from assay.bench.checkout import ROOT

PACKAGES = ("bench", "datasets", "models")  # of which assay is made
OURS = tuple(f"assay.{package}." for package in PACKAGES)  # how the names of our modules begin
NOT_FOLLOWED: Mapping[str, str] = {
    "assay.bench.checkout": "says where the project's files lie",
    "assay.bench.records.comparability": "makes the key; the threads that it chooses stand in it",
    "assay.bench.measure.machine": "says where a case runs: its answers are in the record, and in the key where they matter",
    "assay.bench.running.neighbours": "names the other runs under way, for the record",
    "assay.bench.records.record": "the form of what is kept, with a schema of its own",
    "assay.bench.registry": "finds a case; the source of its workload is followed from roots of its own",
    "assay.bench.records.store": "keeps what was measured",
    "assay.models.dnabert.attention.proof": "asks a compiler in another process; the one case that rests on it has it in the hash of its data",
}
_NAME = re.compile("\0([^\0]*)\0")  # a module's name within a tree's text; Python source holds no NUL
_DOTTED = re.compile(r"[a-z]\w*(\.\w+)+")
_SPECIAL = {ast.Name, ast.Constant, ast.Expr, ast.Import, ast.ImportFrom, ast.If, ast.Call, ast.JoinedStr}
_NOT_HASHED = {"ctx", "kind", "type_comment", "type_ignores"}  # follow from the rest of the tree, or are comments
_KINDS = [kind for kind in vars(ast).values() if isinstance(kind, type) and issubclass(kind, ast.AST)]
_FIELDS = {kind: tuple(name for name in kind._fields if name not in _NOT_HASHED) for kind in _KINDS}
_LOADERS = {"import_module", "__import__"}
_STEM = re.compile(rf"assay\.({'|'.join(PACKAGES)})(\.\w+)*\.\w*")


@dataclass(frozen=True, slots=True)
class Tree:
    """A module's syntax tree as text, the modules of ours that it names, and its hash without their names."""

    text: str
    names: frozenset[str]
    own: str


class Trees(dict[str, Tree]):
    """The modules of our packages below a folder by their dotted names, each read when it is first asked for.

    Raises UsageError for a module that does not exist, that Python cannot read, or that puts names of others together.
    """

    def __init__(self, root: Path = ROOT) -> None:
        super().__init__()
        self.root = root
        self.locate = cache(self._find_file)

    def __missing__(self, name: str) -> Tree:
        path = self.locate(name)
        if path is None:
            raise UsageError(f"there is no module {name} in {self.root}; correct what names it")
        try:
            module = ast.parse(path.read_bytes(), path)
        except (SyntaxError, ValueError) as error:
            raise UsageError(f"{path}: Python cannot read it ({error}); mend it") from None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        text = "\n".join(_Writer(self, path, package).write(module))
        self[name] = Tree(text, frozenset(_NAME.findall(text)), hashlib.sha256(_NAME.sub("\0", text).encode()).hexdigest())
        return self[name]

    def _find_file(self, name: str) -> Path | None:
        if not name.startswith(OURS):
            return None
        path = self.root.joinpath(*name.split(".")[1:])
        return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def find_closure(trees: Mapping[str, Tree], roots: Iterable[str]) -> frozenset[str]:
    """Dotted names of the roots and of all modules of ours that they import. Raises UsageError as Trees does."""
    found: set[str] = set()
    ahead = set(roots)
    while ahead:
        found |= ahead
        ahead = {name for parent in ahead for name in trees[parent].names} - found - NOT_FOLLOWED.keys()
    return frozenset(found)


def hash_closure(trees: Mapping[str, Tree], roots: Iterable[str]) -> str:
    """sha256 over the trees of the closure, in an order that does not depend on names. Raises UsageError as Trees does."""

    def replace(name: re.Match[str]) -> str:
        return name[1].removeprefix("assay.") if name[1] in NOT_FOLLOWED else trees[name[1]].own  # the package's own name does not count

    whole = sorted(hashlib.sha256(_NAME.sub(replace, trees[name].text).encode()).hexdigest() for name in find_closure(trees, roots))
    return hashlib.sha256("\n".join(whole).encode()).hexdigest()


class _Writer:
    """Spells a syntax tree so that every version of Python that we run on gives the same text."""

    def __init__(self, trees: Trees, path: Path, package: str) -> None:
        self._trees, self._path, self._package = trees, path, package

    def write(self, module: ast.Module) -> Iterator[str]:
        """The module's imports in an order that their style does not change, then all other statements."""
        imports = [line for node in module.body if isinstance(node, ast.Import | ast.ImportFrom) for line in self._spell_import(node)]
        yield from sorted(imports, key=lambda line: (_NAME.sub("\0", line), line))
        yield self._spell([node for node in module.body if not isinstance(node, ast.Import | ast.ImportFrom)])

    def _spell(self, node: Any) -> str:
        """A node, a list of them or a plain value as text; empty for what does not count."""
        kind = type(node)
        if (fields := _FIELDS.get(kind)) is None:
            return (f"[{' '.join(filter(None, map(self._spell, node)))}]" if node else "") if kind is list else ascii(node)
        if kind in _SPECIAL and (special := self._spell_special(node)) is not None:
            return special
        # a field that only a later Python has is None or an empty list where its syntax is not used
        named = [f"{name}={text}" for name in fields if (value := getattr(node, name, None)) is not None and (text := self._spell(value))]
        return f"{kind.__name__}({' '.join(named)})"

    def _spell_special(self, node: ast.AST) -> str | None:
        """What is not spelled field by field; None where it is."""
        match node:
            case ast.Name():
                return node.id
            case ast.Constant():
                text = node.value
                return f"\0{text}\0" if isinstance(text, str) and _DOTTED.fullmatch(text) and self._trees.locate(text) else ascii(text)
            case ast.Expr(value=ast.Constant(value=str())):
                return ""  # a docstring
            case ast.Import() | ast.ImportFrom():
                return " ".join(self._spell_import(node))
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return self._spell(node.orelse)  # the rest is never executed
            case ast.Call() | ast.JoinedStr() if _is_put_together(node):
                remedy = "write the names of the modules out in full, so that the source hash can follow them"
                raise UsageError(f"{self._path}, line {node.lineno}: a module's name is put together; {remedy}")
        return None

    def _spell_import(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        for alias in node.names:
            if isinstance(node, ast.Import):
                yield f"import {self._mark(alias.name)} as {alias.asname}"
                continue
            parent = resolve_name("." * node.level + (node.module or ""), self._package) if node.level else node.module or ""
            if self._trees.locate(module := f"{parent}.{alias.name}"):
                yield f"import {self._mark(module)} as {alias.asname or alias.name}"
            else:
                yield f"from {self._mark(parent)} import {alias.name} as {alias.asname or alias.name}"

    def _mark(self, name: str) -> str:
        return f"\0{name}\0" if self._trees.locate(name) else name


def _is_put_together(node: ast.Call | ast.JoinedStr) -> bool:
    """Whether it begins a module's name, or loads a module, with a text whose rest nobody knows before it runs."""
    match node:
        case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
            return _STEM.fullmatch(start) is not None
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=[ast.JoinedStr() | ast.BinOp() | ast.Call(), *_]):
            return name in _LOADERS
    return False
