"""Builds the comparability key of a case, in the launcher (to resume) and in the case's own process (for the record) alike, and compares by it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from assay.bench.case import Case, Preset
from assay.bench.profiles import Profile, load_profiles
from assay.bench.records.record import Comparability, Environment, Machine, Record
from assay.bench.registry import expand_cases, hash_declaration
from assay.datasets.card import DatasetIdentity

GIB = 1 << 30


def choose_threads(case: Case, pool: int) -> int:
    """Threads for a case, of those that torch's pool has by default. A smoke case takes one: its work is too small to share, and on a
    busy machine two threads that wait for each other are twenty times slower than one."""
    return 1 if case.preset is Preset.SMOKE else pool


def compare_key(
    case: Case, data: DatasetIdentity, machine: Machine, environment: Environment, *, profile: Profile, seed: int, parallel: int
) -> Comparability:
    """Everything that must be equal before two records of this case may be subtracted, but for what only an open session knows."""
    memory = machine.gpu_memory_bytes if machine.gpu else machine.memory_bytes
    return Comparability(
        case=case.id,
        declaration_sha256=hash_declaration(case, profile),
        dataset=data.name,
        dataset_sha256=data.sha256,
        environment=environment.image_digest or environment.packages_sha256,
        device=machine.gpu or machine.cpu,
        device_memory_gib=round((memory or 0) / GIB),
        ecc=machine.ecc,
        mig=machine.mig,
        power_limit_w=machine.power_limit_w,
        threads=machine.threads,
        parallel=parallel,
        seed=seed,
        batch=profile.choose_batch(case),
        torch=environment.torch,
        cuda=environment.cuda,
        driver=machine.driver,
    )


def name_attention(key: Comparability, conditions: Mapping[str, str | int | float]) -> Comparability:
    """The key with the attention kernel that the session settled on, of those that this machine can run."""
    attention = conditions.get("attention")
    return key if attention is None else key.model_copy(update={"attention": str(attention)})


def foresee(key: Comparability) -> str:
    """The key as it was before its session opened: what a launcher can compare a case by that it has not started."""
    return key.model_copy(update={"attention": None}).key


def is_older(record: Record) -> bool:
    """Whether a record was made from other source, or another recipe, than this checkout has; not known, and so False, of one without a key."""
    return record.comparability is not None and record.comparability.declaration_sha256 != hash_today(record.case.case, record.profile)


@cache
def hash_today(case: Case, profile: str) -> str | None:
    """What a record made now would be compared by; None for a case or a profile that is not declared any more."""
    known = load_profiles().get(profile)
    return hash_declaration(case, known) if known and case in _declared() else None


@cache
def _declared() -> frozenset[Case]:
    return frozenset(expand_cases())
