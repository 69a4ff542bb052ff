"""What a case leaves behind: the schema of a record."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator, model_validator

from assay.bench.case import Case, Division, Outcome, Phase, Precision, Preset, Quantity

SCHEMA_VERSION = "1"

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
    beside: tuple[str, ...] = ()  # other runs that were under way on this machine meanwhile, e.g. "nightly (pid 4711)"

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


def export_schema() -> str:
    """The JSON Schema of a record, as kept in results/record.schema.json."""
    return json.dumps(Record.model_json_schema(mode="validation"), indent=2, sort_keys=True) + "\n"
