"""Collects what models/ declares and turns it into cases."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from types import FunctionType, MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any

from assay import models
from assay.bench.case import Case, Division, Phase, Preset, UsageError
from assay.bench.selection import compile_selection
from assay.bench.source import OURS, Trees, hash_closure

if TYPE_CHECKING:
    from assay.bench.profiles import Profile
    from assay.models.workload import Variant, Workload  # which imports torch: what lists commands should not wait for it


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
    package = importlib.import_module(f"assay.models.{family}")
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
def hash_source(workload: str, phase: Phase) -> str:
    """sha256 over the source that can change the numbers of a workload's cases of a phase: two cases with different hashes are not comparable."""
    return hash_closure(_trees(), find_roots(get_workload(workload), phase))


@cache
def _trees() -> Trees:
    return Trees()


def find_roots(workload: Workload, phase: Phase) -> set[str]:
    """The modules of this project from which the source of a case is followed: the test that runs it and the plugin that plans its rounds,
    and those that define what the workload holds, e.g. its own class, and the networks and tasks that its recipes name."""
    return {"assay.bench.cases.conftest", f"assay.bench.cases.test_{phase}", *(name for name in _find_definitions(workload) if name.startswith(OURS))}


def _find_definitions(workload: object) -> Iterator[str]:
    ahead: list[object] = [workload]
    seen: dict[int, object] = {}  # kept: the number of one that is gone may be another's
    while ahead:
        held: Any = ahead.pop()
        if id(held) in seen:
            continue
        seen[id(held)] = held
        if (kind := type(held)).__module__.startswith(OURS):  # also a container with code of its own
            yield kind.__module__
        if isinstance(held, Mapping):
            ahead += [*held.keys(), *held.values()]
        elif isinstance(held, list | tuple | set | frozenset):
            ahead += held
        elif isinstance(held, partial):
            ahead += [held.func, *held.args, *held.keywords.values()]
        elif hasattr(held, "__wrapped__") and not isinstance(held, type):  # as functools.cache leaves it
            ahead.append(held.__wrapped__)
            yield held.__module__
        elif isinstance(held, MethodType):
            ahead += [held.__func__, held.__self__]
        elif isinstance(held, FunctionType):
            yield held.__module__
            ahead += [cell.cell_contents for cell in held.__closure__ or ()]
        elif isinstance(held, type):
            yield held.__module__
        elif kind.__module__.startswith(OURS):  # into objects of others nobody needs to look
            ahead += getattr(held, "__dict__", {}).values()
            ahead += [getattr(held, name, None) for base in kind.__mro__ for name in getattr(base, "__slots__", ())]


def hash_declaration(case: Case, profile: Profile) -> str:
    """sha256 over the case's source, its resolved recipe, and the peaks of the profile that its MFU and roofline are counted against."""
    workload, peak = get_workload(case.workload), profile.peak_flops.get(case.precision)
    declared = {
        "source": hash_source(case.workload, case.phase),
        "recipe": dict(workload.recipe(case)),
        "peak": peak and peak.value,
        "bandwidth": profile.bandwidth and profile.bandwidth.value,
    }
    return hashlib.sha256(json.dumps(declared, sort_keys=True, default=str).encode()).hexdigest()
