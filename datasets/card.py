"""Who a dataset is (name, hash, real or synthetic) and what is wrong with it when it cannot be used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path


class DataError(Exception):
    """Data that cannot be used. The message names file, row and remedy; the command exits with 2."""

    def __init__(self, path: Path | str, problem: str, remedy: str, row: int | None = None) -> None:
        where = f"{path}, row {row}" if row is not None else str(path)
        super().__init__(f"{where}: {problem}. {remedy}")


class MissingData(DataError):
    """The data of a preset that has no twin is not there: the case is skipped, with this message as its reason."""


@dataclass(frozen=True, slots=True)
class DatasetIdentity:
    """Name and hash of the data behind a number.

    For files, sha256 is taken over their bytes. For a synthetic twin it is taken over the generator's parameters:
    the generator's code is part of the workload's source hash.
    """

    name: str
    sha256: str
    synthetic: bool


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """What a session really read: identity, origin, rows per split, rows left out and why."""

    identity: DatasetIdentity
    source: str
    licence: str
    rows: Mapping[str, int]
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def join_identity(identity: DatasetIdentity, sha256: str | None) -> DatasetIdentity:
    """Data together with what results depend on as much, e.g. the weights that a training starts from: one hash over both; None: the data alone."""
    if sha256 is None:
        return identity
    return replace(identity, sha256=hashlib.sha256(f"{identity.sha256} {sha256}".encode()).hexdigest())


def hash_files(paths: Iterable[Path]) -> str:
    """sha256 over the bytes of files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def identify_twin(name: str, **parameters: object) -> DatasetIdentity:
    """Identity of a synthetic twin from its generator's parameters."""
    text = json.dumps({"twin": name, **parameters}, sort_keys=True, default=str)
    return DatasetIdentity(name, hashlib.sha256(text.encode()).hexdigest(), synthetic=True)
