"""Collects what models/ declares and turns it into cases."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import models
from bench.case import Case, Division, Phase, Preset, UsageError
from bench.selection import compile_selection

if TYPE_CHECKING:
    from models.workload import Variant, Workload  # which imports torch: what lists commands should not wait for it


@cache
def load_workloads() -> Mapping[str, Workload]:
    """Every workload by name, in the order of its family's folder and declaration. A family is a package in models/ with a tuple `WORKLOADS`."""
    found: dict[str, Workload] = {}
    for family in _list_families():
        for workload in _load_family(family):
            if workload.name in found:
                raise UsageError(f"two workloads are named {workload.name!r}; rename one in models/{family}")
            found[workload.name] = workload
    return MappingProxyType(found)


def get_workload(name: str) -> Workload:
    """The workload of that name. Raises UsageError that lists the known ones."""
    # a case has a process of its own, and other families' imports would take a fifth of its start
    for family in _list_families():
        if family in name:
            for workload in _load_family(family):
                if workload.name == name:
                    return workload
    try:
        return load_workloads()[name]
    except KeyError:
        raise UsageError(f"unknown workload {name!r}; known: {', '.join(load_workloads())}") from None


def _list_families() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(models.__path__) if module.ispkg)


@cache
def _load_family(family: str) -> tuple[Workload, ...]:
    package = importlib.import_module(f"models.{family}")
    if not hasattr(package, "WORKLOADS"):
        raise UsageError(f"models/{family}/__init__.py declares no WORKLOADS; CONTRIBUTING.md says how a family is added")
    return tuple(package.WORKLOADS)


def get_variant(workload: Workload, name: str) -> Variant:
    """The workload's variant of that name. Raises UsageError that lists the known ones."""
    try:
        return workload.variants[name]
    except KeyError:
        raise UsageError(f"workload {workload.name} has no variant {name!r}; known: {', '.join(workload.variants)}") from None


def expand_cases(workloads: Iterable[Workload] | None = None) -> list[Case]:
    """Every case that the declarations allow, train before eval, so that eval finds trained weights."""
    return [
        Case(workload.name, variant.name, phase, preset, division, precision)
        for workload in (load_workloads().values() if workloads is None else workloads)
        for variant in workload.variants.values()
        for preset in variant.presets
        for division, precisions in variant.precisions.items()
        for precision in precisions
        for phase in sorted(variant.phases, key=list(Phase).index)
    ]


def select_cases(preset: Preset | None = None, division: Division | None = None, expression: str = "") -> list[Case]:
    """Cases of a preset and division whose id matches an expression in the language of `pytest -k`.

    Raises UsageError for a malformed expression and for one that matches nothing.
    """
    cases = [case for case in expand_cases() if preset in (None, case.preset) and division in (None, case.division)]
    selects = compile_selection(expression)
    cases = [case for case in cases if selects(case.id)]
    if not cases:
        asked = f"preset={preset or 'any'}, division={division or 'any'}, select={expression!r}"
        raise UsageError(f"no case matches {asked}; `python -m bench list` shows all cases")
    return cases


@cache
def hash_source(workload: str) -> str:
    """sha256 over the source of a workload's modules and of the frame that trains it: two cases with different hashes are not comparable."""
    declared = get_workload(workload)
    digest = hashlib.sha256()
    for name in sorted({*declared.modules, "models.training", "models.schedule", "models.metrics", "models.workload"}):
        digest.update(name.encode())
        spec = importlib.util.find_spec(name)  # read, not imported: a source hash should not cost an import of scikit-learn
        if spec is None or spec.origin is None:
            raise UsageError(f"workload {workload} names the module {name!r} in `modules`, which does not exist")
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()


def hash_declaration(case: Case) -> str:
    """sha256 over the workload's source and the case's resolved recipe."""
    recipe = json.dumps(dict(get_workload(case.workload).recipe(case)), sort_keys=True, default=str)
    return hashlib.sha256((hash_source(case.workload) + recipe).encode()).hexdigest()
