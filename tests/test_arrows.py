"""The rooms and their arrows: an import runs from a room to itself or to one that stands below it, never back."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

ROOMS = (  # from what uses to what is used
    "assay.bench.cli",
    "assay.bench.report",
    "assay.bench.exchange",
    "assay.bench.gate",
    "assay.bench.cases",
    "assay.bench.running",
    "assay.bench.claims",
    "assay.bench.measure",
    "assay.bench.records",
    "assay.bench.registry",
    "assay.bench.selection",
    "assay.bench.source",
    "assay.bench.profiles",
    "assay.bench.formatting",
    "assay.models",
    "assay.datasets",
    "assay.bench.checkout",
    "assay.bench.case",
    "assay",
)
STARTS = {"assay.__main__", "assay.bench.__main__"}  # the entries stand above all rooms


def list_modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in [*ROOT.glob("assay/*.py"), *(path for room in ("bench", "models", "datasets") for path in (ROOT / "assay" / room).rglob("*.py"))]:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


MODULES = list_modules()


def find_room(module: str) -> str:
    return next(room for room in ROOMS if module == room or module.startswith(f"{room}."))


def read_imports(module: str) -> Iterator[tuple[int, str]]:
    """Line and module of ours, imports inside functions and for types included."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("assay"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assay"):
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                yield node.lineno, longer if longer in MODULES or (ROOT / longer.replace(".", "/")).is_dir() else str(node.module)


@pytest.mark.parametrize("room", [room for room in ROOMS if any(find_room(module) == room for module in MODULES.keys() - STARTS)])
def test_no_arrow_runs_back(room: str) -> None:
    back = [
        f"{MODULES[module].relative_to(ROOT / 'assay')}:{line} imports {imported}"
        for module in MODULES.keys() - STARTS
        if find_room(module) == room
        for line, imported in read_imports(module)
        if ROOMS.index(find_room(imported)) < ROOMS.index(room)
    ]
    assert not back, "\n".join(back)


def test_every_room_of_the_tests_is_a_room() -> None:
    """Tests mirror the rooms."""
    for folder in ("bench", "models", "datasets"):
        rooms = {path.name for path in (ROOT / folder).iterdir() if path.is_dir()}
        tested = {path.name for path in (ROOT / "tests" / folder).iterdir() if path.is_dir() and path.name != "__pycache__"}
        assert tested <= rooms, tested - rooms
