"""What a case leaves behind: the schema, and the append-only store that keeps records chained by hash."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.case import Case, Division, Outcome, Phase, Precision, Preset, Quantity, UsageError
from bench.documents import describe_fault
from datasets.card import hash_files

SCHEMA_VERSION = "1"
MAX_SEQUENCE = 9999  # the number in a record's file name has four digits
MAX_RECORD_BYTES = 4 << 20  # records may come from strangers; a real one is some ten kilobytes

Scalar = str | int | float | bool | None
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CaseFields(_Strict):
    """The six words of a case."""

    workload: str = Field(max_length=100)
    variant: str = Field(max_length=100)
    phase: Phase
    preset: Preset
    division: Division
    precision: Precision

    @classmethod
    def of(cls, case: Case) -> Self:
        return cls.model_validate(asdict(case))

    @property
    def case(self) -> Case:
        return Case(self.workload, self.variant, self.phase, self.preset, self.division, self.precision)


class Dataset(_Strict):
    """What the session read. Numbers of a synthetic data set are never compared with documented quality."""

    name: str
    sha256: Sha256
    synthetic: bool
    source: str
    licence: str
    rows: Mapping[str, int]
    dropped: Mapping[str, int] = {}
    notes: tuple[str, ...] = ()


class Machine(_Strict):
    """Where the case ran. A figure that the machine does not give is None with a reason in `unavailable`."""

    cpu: str
    cores: int
    threads: int  # of torch's intra-op pool
    memory_bytes: int
    system: str
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    gpu_uuid_sha256: str | None = None  # hashed: a serial number is nobody's business
    compute_capability: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None
    ecc: bool | None = None
    mig: bool | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    event_reasons: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = {}


class Environment(_Strict):
    """What the case ran with."""

    python: str
    torch: str
    numpy: str
    cuda: str | None = None
    cudnn: str | None = None
    triton: str | None = None
    packages_sha256: Sha256  # over the sorted names and versions of every installed distribution
    lock_sha256: Sha256 | None = None
    image_digest: str | None = None
    git_sha: str | None = None
    git_dirty_sha256: Sha256 | None = None  # over the diff against git_sha; None when clean
    command: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = {}


class Comparability(_Strict):
    """Everything that must be equal before two records may be subtracted."""

    case: str
    declaration_sha256: Sha256
    dataset: str
    dataset_sha256: Sha256
    environment: str  # image digest, or the hash of the installed packages
    device: str  # GPU model, or the CPU's for a case on the CPU
    device_memory_gib: int
    ecc: bool | None = None
    mig: bool | None = None
    power_limit_w: float | None = None
    threads: int
    parallel: int = 1  # cases that ran beside each other
    seed: int
    batch: int | None = None
    attention: str | None = None
    torch: str
    cuda: str | None = None
    driver: str | None = None

    @property
    def key(self) -> str:
        """16 hex digits; equal keys mean comparable records."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def differences(self, other: Comparability) -> list[str]:
        """`field: ours -> theirs` for every field that differs."""
        return [f"{name}: {mine} -> {theirs}" for name in type(self).model_fields if (mine := getattr(self, name)) != (theirs := getattr(other, name))]


class Record(_Strict):
    """One case's outcome, measurements, metrics and provenance. Written once, never changed."""

    schema_version: Literal["1"] = "1"
    run: str
    sequence: int = Field(ge=0)
    previous_sha256: Sha256 | None = None  # of the record before it in the run; None for the first
    case: CaseFields
    outcome: Outcome
    reason: str | None = None
    started: AwareDatetime
    ended: AwareDatetime
    profile: str
    emulated: tuple[str, ...] = ()  # what was pretended, e.g. "gpu: fake NVML"; such a record is never compared
    comparability: Comparability | None = None
    conditions: Mapping[str, str | int | float] = {}
    dataset: Dataset | None = None
    recipe: Mapping[str, object] = {}
    facts: Mapping[str, float] = {}
    measurements: Mapping[str, Quantity] = {}
    quality: Mapping[str, Quantity] = {}
    curves: Mapping[str, Sequence[float]] = {}
    seeds: Mapping[str, int] = {}
    weights_sha256: Sha256 | None = None
    machine: Machine | None = None
    environment: Environment | None = None
    fitness: tuple[str, ...] = ()  # what was wrong with the machine, finding by finding

    @field_validator("recipe")
    @classmethod
    def _hold_only_json(cls, recipe: Mapping[str, object]) -> Mapping[str, object]:
        json.dumps(recipe, allow_nan=False)  # the one field whose values pydantic does not look into
        return recipe

    @model_validator(mode="after")
    def _explain_every_failure(self) -> Self:
        if (self.outcome is Outcome.OK) != (self.reason is None):
            raise ValueError(f"outcome {self.outcome} and reason {self.reason!r} do not fit: every outcome but ok carries a reason")
        return self

    @property
    def file_name(self) -> str:
        """Name of the record's file in its run's folder."""
        return f"{self.sequence:04d}-{self.case.case.id.replace('/', '.')}.json"

    @property
    def synthetic(self) -> bool:
        return self.dataset is not None and self.dataset.synthetic


class RecordError(UsageError):
    """A record, or the chain of a run, that cannot be trusted."""


def read_record(path: Path) -> Record:
    """A record from disk, validated. Raises RecordError that names the file and the first fault."""
    return _parse_record(path, _read_bytes(path))


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size > MAX_RECORD_BYTES:
                raise RecordError(f"{path}: larger than {MAX_RECORD_BYTES} bytes; not a record of this suite")
            return stream.readall()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror}") from None


def _parse_record(path: Path, content: bytes) -> Record:
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        raise RecordError(f"{path}: {describe_fault(error)}; restore it from version control or delete it, and run the case again") from None


def export_schema() -> str:
    """The JSON Schema of a record, as kept in results/record.schema.json."""
    return json.dumps(Record.model_json_schema(mode="validation"), indent=2, sort_keys=True) + "\n"


class Inspected(NamedTuple):
    """A file of a run, the record in it if there is a valid one, and what is wrong."""

    path: Path
    record: Record | None
    fault: str | None


def _find_fault(record: Record, path: Path, run: str, expected: int, previous: str | None) -> str | None:
    if record.run != run:
        return f"{path}: belongs to another run: it was copied here, or the folder was renamed"
    if record.sequence != expected:
        return f"{path}: is number {record.sequence} of its run but stands at {expected}: a record is missing or was renamed"
    if record.file_name != path.name:
        return f"{path}: holds the record {record.file_name}: it was renamed"
    if record.previous_sha256 != previous:
        return f"{path}: does not follow from the record before it: that one was changed, removed or replaced after it was written"
    return None


class RunStore:
    """The records of one run: a folder, appended to by whichever process has a record to add."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, parent: Path, name: str) -> Self:
        """A fresh run folder. Raises UsageError where it cannot be written."""
        folder = parent / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise UsageError(f"results folder {folder} cannot be written: {error.strerror}; choose another with --out DIR or free it") from None
        return cls(folder)

    def paths(self) -> list[Path]:
        """Record files in the order they were written."""
        return sorted(self.folder.glob("[0-9][0-9][0-9][0-9]-*.json"))

    def read(self) -> list[Record]:
        """Every record, validated."""
        return [read_record(path) for path in self.paths()]

    def append(self, draft: Record) -> Path:
        """Chains a record to the last one and writes it whole or not at all. The draft's run, sequence and previous hash are replaced."""
        with self._locked():
            paths = self.paths()
            sequence = int(paths[-1].name[:4]) + 1 if paths else 0
            if sequence > MAX_SEQUENCE:
                raise UsageError(f"run {self.folder} is full with {sequence} records; start another with --name NAME")
            previous = hash_files(paths[-1:]) if paths else None
            chained = {"run": self.folder.absolute().name, "sequence": sequence, "previous_sha256": previous}
            record = Record.model_validate(draft.model_dump() | chained)
            final = self.folder / record.file_name
            _write_whole(final, record.model_dump_json(indent=1, exclude_none=False).encode() + b"\n")
            return final

    def inspect(self) -> Iterator[Inspected]:
        """Every record in order, each file read once: the record, or what is wrong with it or with its place in the chain."""
        name = self.folder.absolute().name
        previous: str | None = None
        for expected, path in enumerate(self.paths()):
            record: Record | None = None
            content: bytes | None = None
            try:
                content = _read_bytes(path)
                record = _parse_record(path, content)
                fault = _find_fault(record, path, name, expected, previous)
            except RecordError as error:
                fault = str(error)
            previous = None if content is None else hashlib.sha256(content).hexdigest()
            yield Inspected(path, record, fault)

    def verify_chain(self) -> list[str]:
        """What is wrong with the run's records, one line each; empty when every record is as it was written."""
        return [inspected.fault for inspected in self.inspect() if inspected.fault]

    def head(self) -> str | None:
        """sha256 of the last record: printed in the leaderboard, so that a later edit of the whole chain shows too."""
        paths = self.paths()
        return hash_files(paths[-1:]) if paths else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def read_runs(results: Path) -> list[Record]:
    """Every record of every run below results/runs, oldest run first."""
    return [record for folder in sorted((results / "runs").glob("*")) if folder.is_dir() for record in RunStore(folder).read()]


def _write_whole(final: Path, content: bytes) -> None:
    temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"record {final} cannot be written: {error.strerror}; free space or choose another folder with --out DIR") from None
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
