"""Records as earlier runs would have left them: of a case, from a machine, so many seconds long."""

from datetime import UTC, datetime, timedelta
from typing import Any

from assay.bench.case import Case, Outcome, Quantity
from assay.bench.records.record import CaseFields, Comparability, Dataset, Environment, Machine, Record
from assay.datasets.card import DatasetIdentity

BEGAN = datetime(2024, 1, 2, tzinfo=UTC)
TWIN = DatasetIdentity("abag-twin", "a" * 64, synthetic=True)
REAL = DatasetIdentity("abag", "b" * 64, synthetic=False)
ENVIRONMENT = Environment(python="3.12", torch="2.13", numpy="2.4", packages_sha256="c" * 64)
H100 = "NVIDIA H100 80GB HBM3"


def machine(gpu: str | None = None, cpu: str = "Xeon") -> Machine:
    return Machine(cpu=cpu, cores=2, threads=2, memory_bytes=2**34, system="Linux", gpu=gpu)


def past(
    case: str, seconds: float, *, gpu: str | None = None, cpu: str = "Xeon", data: DatasetIdentity = TWIN, rows: int = 100, outcome: Outcome = Outcome.OK,
    minutes: int = 0, measured: dict[str, float] | None = None, **changes: Any,
) -> Record:  # fmt: skip
    """minutes: how much later it began than others; measured: measurements by name."""
    began = BEGAN + timedelta(minutes=minutes)
    key = Comparability(
        case=case, declaration_sha256="d" * 64, dataset=data.name, dataset_sha256=data.sha256, environment="e", device=gpu or cpu, device_memory_gib=16, threads=2, seed=42, torch="2.13"
    )
    fields: dict[str, Any] = {
        "run": "earlier",
        "sequence": 0,
        "case": CaseFields.of(Case.parse(case)),
        "outcome": outcome,
        "reason": None if outcome is Outcome.OK else "why",
        "profile": "h100" if gpu else "cpu",
        "started": began,
        "ended": began + timedelta(seconds=seconds),
        "machine": machine(gpu, cpu),
        "environment": ENVIRONMENT,
        "comparability": key,
        "dataset": Dataset(name=data.name, sha256=data.sha256, synthetic=data.synthetic, source="s", licence="MIT", rows={"train": rows}),
        "measurements": {name: Quantity(value, "") for name, value in (measured or {}).items()},
    }
    return Record.model_validate(fields | changes)
