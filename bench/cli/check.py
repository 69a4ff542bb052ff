"""Whether declarations, claims, profiles, data sources and records agree, found out without running anything."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay.bench.case import UsageError
from assay.bench.checkout import PUBLISHED
from assay.bench.claims.documented import Claim, ClaimKind, find_claims, load_claims
from assay.bench.formatting.markdown import escape_text
from assay.bench.profiles import load_profiles
from assay.bench.records.comparability import is_older
from assay.bench.records.record import Record, export_schema
from assay.bench.records.store import RunStore
from assay.bench.registry import expand_cases, find_roots, load_workloads
from assay.bench.report.leaderboard import select_latest
from assay.bench.report.ranking import find_replaced
from assay.bench.source import Trees, find_closure
from assay.datasets.card import DataError, hash_files
from assay.datasets.sources import load_sources
from assay.models.workload import Workload

SCHEMA_FILE = "record.schema.json"
REFRESH_SCHEMA = "python -c 'from assay.bench.records.record import export_schema as e; print(e(), end=\"\")' > results/record.schema.json"
_PUBLISHED_HEAD = re.compile(r"^\| (.+?) *\| ([0-9a-f]{64}) *\|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, where it is, and what to do about it."""

    where: str
    what: str


def check_project(results: Path) -> list[Problem]:
    """Everything that is wrong with the checkout and the results folder, the records aside; empty when all is well."""
    try:
        workloads = load_workloads()
    except (UsageError, ImportError, SyntaxError) as error:
        return [Problem("models", f"a family cannot be loaded: {type(error).__name__}: {error}")]
    trees = Trees()
    problems = [problem for workload in workloads.values() for problem in _check_workload(workload, trees)]
    problems += _check_claims(find_claims(results), workloads)
    problems += _check_profiles(workloads)
    problems += _check_sources()
    problems += _check_schema(results)
    return problems


def check_runs(results: Path) -> list[Problem]:
    """Every record that is not as it was written, and every run whose published last record is gone."""
    stores = [RunStore(folder) for folder in sorted((results / "runs").glob("*")) if folder.is_dir()]
    problems = [Problem(f"run {store.folder.name}", fault) for store in stores for fault in store.verify_chain()]
    return [*problems, *_check_published(results / "LEADERBOARD.md", {escape_text(store.folder.name): store for store in stores})]


def check_current(results: Path) -> list[Problem]:
    """Every record on the board that this checkout's source did not make and could make again."""
    stores = [RunStore(folder) for folder in sorted((results / "runs").glob("*")) if folder.is_dir()]
    shown = select_latest(inspected.record for store in stores for inspected in store.inspect() if inspected.record)
    declared, replaced = {*expand_cases()}, find_replaced(shown)
    older = [record for record in shown if is_older(record) and record.case.case in declared and (record.run, record.sequence) not in replaced]
    return [Problem(f"run {record.run}, {record.file_name}", f"is of older source; renew it with {_spell_run(record)}") for record in older]


def _spell_run(record: Record) -> str:
    case = record.case.case  # of all phases: evaluation takes the weights of its run's training
    chosen = f"'{case.workload}/{case.variant}/ and {case.preset}/{case.division}/{case.precision}'"
    return f"`python -m bench run --profile {record.profile} --preset {case.preset} --select {chosen}`, with --data where it had some"


def _check_published(board: Path, stores: Mapping[str, RunStore]) -> Iterator[Problem]:
    """A run may grow after the leaderboard was made, but the record that was its last one then must still be there, unchanged."""
    text = board.read_text(encoding="utf-8") if board.is_file() else ""
    for run, head in _PUBLISHED_HEAD.findall(text):
        store = stores.get(run)
        if store is None or head not in {hash_files([path]) for path in store.paths() if path.is_file()}:
            remedy = "restore it from version control, or make the page again if the run was meant to go"
            yield Problem(f"run {run}", f"the last record that {board} publishes (sha256 {head[:12]}...) is not there as it was written; {remedy}")


def _check_workload(workload: Workload, trees: Trees) -> Iterator[Problem]:
    where = f"workload {workload.name}"
    if not workload.variants:
        yield Problem(where, "has no variant; declare one at least")
    if not workload.target.metric:
        yield Problem(where, "has no target metric; name the one that ranks it")
    for phase in {phase for variant in workload.variants.values() for phase in variant.phases}:
        try:
            find_closure(trees, find_roots(workload, phase))
        except UsageError as error:
            yield Problem(where, f"its source cannot be followed: {error}")
    for name, variant in workload.variants.items():
        if variant.name != name:
            yield Problem(f"{where}/{name}", f"calls itself {variant.name!r}; give both the same name")
        yield from _check_facts(workload, name)
    yield from _check_recipes(workload)


def _check_facts(workload: Workload, variant: str) -> Iterator[Problem]:
    for name, value in workload.facts(variant).items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            yield Problem(f"workload {workload.name}/{variant}", f"fact {name} is {value!r}; it must be a finite number")


def _check_recipes(workload: Workload) -> Iterator[Problem]:
    for case in expand_cases([workload]):
        try:
            json.dumps(dict(workload.recipe(case)), allow_nan=False)
        except (TypeError, ValueError) as error:
            yield Problem(f"case {case.id}", f"its recipe is not JSON: {error}; resolve it to plain values")


def _check_claims(path: Path, workloads: Mapping[str, Workload]) -> Iterator[Problem]:
    try:
        claims = load_claims(path)
    except UsageError as error:
        yield Problem(str(path), str(error).removeprefix(f"{path}: "))
        return
    for name in sorted({*claims.planned} & workloads.keys()):
        yield Problem(str(path), f"workload {name} is there now; take it out of `planned`")
    known = {*claims.planned, *workloads}
    for owner, name in [(f"claim {c.id}", c.workload) for c in claims.claim] + [("fits", f.workload) for f in claims.fits]:
        if name not in known:
            yield Problem(str(path), f"{owner}: unknown workload {name!r}; correct it, or list it in `planned`")
    for fit in claims.fits:
        known_variants = workloads[fit.workload].variants if fit.workload in workloads else fit.variants
        for variant in (name for name in fit.variants if name not in known_variants):
            yield Problem(str(path), f"fits {fit.workload}: it has no variant {variant!r}; it has {', '.join(known_variants)}")
    for claim in claims.claim:
        if claim.workload in workloads:
            yield from _check_claim(path, claim, workloads[claim.workload])


def _check_claim(path: Path, claim: Claim, workload: Workload) -> Iterator[Problem]:
    if claim.variant is not None and claim.variant not in workload.variants:
        yield Problem(str(path), f"claim {claim.id}: workload {workload.name} has no variant {claim.variant!r}; it has {', '.join(workload.variants)}")
        return
    if claim.kind is ClaimKind.FACT:
        if claim.variant is None and len(workload.variants) > 1:
            yield Problem(str(path), f"claim {claim.id}: a fact of a workload with several variants must name one in `where`")
        for variant in [claim.variant] if claim.variant else workload.variants:
            facts = workload.facts(variant)
            if claim.metric not in facts:
                yield Problem(str(path), f"claim {claim.id}: {workload.name}/{variant} computes no {claim.metric!r}; its facts are {', '.join(facts)}")


def _check_profiles(workloads: Mapping[str, Workload]) -> Iterator[Problem]:
    try:
        profiles = load_profiles()
    except UsageError as error:
        yield Problem("bench/profiles", str(error))
        return
    for profile in profiles.values():
        for name in sorted(profile.batch.keys() - workloads.keys()):
            yield Problem(f"profile {profile.name}", f"gives a batch size for the unknown workload {name!r}; known: {', '.join(workloads)}")


def _check_sources() -> Iterator[Problem]:
    try:
        load_sources()
    except DataError as error:
        yield Problem("datasets/sources.toml", str(error))


def _check_schema(results: Path) -> Iterator[Problem]:
    own = results / SCHEMA_FILE
    path = own if own.exists() else PUBLISHED / SCHEMA_FILE
    if not path.is_file() or path.read_text(encoding="utf-8") != export_schema():
        yield Problem(str(path), f"is not the schema of bench/records/record.py; refresh it with: {REFRESH_SCHEMA}")
