"""Rows of other tools: numbers that nobody verified, kept apart from records."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from assay.bench.case import Quantity, UsageError
from assay.bench.records.documents import read_document, write_whole

IMPORTS = "imported"  # folder in results/, beside runs/
MAX_BYTES = 32 << 20
MAX_ROWS = 10_000


def _assume_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Text = Annotated[str, Field(max_length=1000)]
Moment = Annotated[datetime, AfterValidator(_assume_utc)]  # older versions of pytest-benchmark write UTC without saying so


class ImportedRow(BaseModel):
    """One benchmark of another suite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    name: Text
    group: Text | None
    seconds: Quantity


class Imported(BaseModel):
    """Numbers of another tool, as they were in its file. Nobody verified them; they have no comparability key and are never compared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    source: Text  # the file's name
    source_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    tool: Text
    measured: Moment
    machine: Text
    commit: Text | None
    rows: Annotated[tuple[ImportedRow, ...], Field(max_length=MAX_ROWS)]


def keep_import(imported: Imported, results: Path) -> Path:
    """Writes the rows to results/imported, under the hash of the file they came from: the same file twice is one."""
    folder = results / IMPORTS
    path = folder / f"{imported.source_sha256[:16]}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, imported.model_dump_json(indent=1) + "\n")
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}; free it or choose another folder with --results DIR") from None
    return path


def read_imports(results: Path) -> list[Imported]:
    """What was imported, oldest measurement first. Raises UsageError for a file that is none of ours."""
    found = [_read_import(path) for path in sorted((results / IMPORTS).glob("*.json"))]
    return sorted(found, key=lambda imported: (imported.measured.timestamp(), imported.source_sha256))


def _read_import(path: Path) -> Imported:
    remedy = "delete it and import the original again"
    return read_document(path, Imported, limit=MAX_BYTES, too_large=f"{MAX_BYTES >> 20} MiB; {remedy}", remedy=remedy)
