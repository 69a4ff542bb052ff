"""Documented numbers as data: the claims file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from assay.bench.case import UsageError
from assay.bench.checkout import PUBLISHED

CLAIMS_FILE = Path("baselines") / "documented.toml"


class ClaimKind(StrEnum):
    """Where a documented number comes from."""

    MEASURED = "measured"  # reported as the outcome of a run
    ESTIMATE = "estimate"  # predicted or assumed: "target", "expected", "possible"
    FACT = "fact"  # follows from the architecture, a formula or a split alone; testable on any machine


class Direction(StrEnum):
    """What counts as better than the document."""

    HIGHER = "higher"
    LOWER = "lower"
    EQUAL = "equal"  # must match


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Name = Annotated[str, Field(min_length=1, max_length=100)]
Number = Annotated[Decimal, Field(allow_inf_nan=False)]
Condition = str | int | Number


class Claim(_Strict):
    """A documented number, the conditions under which it may be compared, and where it stands."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=100)]
    workload: Name
    metric: Name
    value: Number  # as written: 0.140 has three digits after the point, 3000000 one significant digit
    direction: Direction
    kind: ClaimKind
    where: Mapping[str, Condition] = {}
    source: Annotated[str, Field(min_length=1)]  # document and section
    note: str | None = None  # what is known to be wrong with the claim

    @property
    def variant(self) -> str | None:
        """The variant that the claim speaks of; None for any."""
        variant = self.where.get("variant")
        return None if variant is None else str(variant)

    @property
    def tolerance(self) -> Decimal:
        """Half a unit of the value's last significant digit. Trailing zeros of a whole number are not significant."""
        exponent = self.value.as_tuple().exponent
        assert isinstance(exponent, int)  # noqa: S101  # only NaN and infinity have another one, and the schema refuses them
        if exponent >= 0 and self.value:
            exponent = int(self.value.normalize().as_tuple().exponent)
        return Decimal(5).scaleb(exponent - 1)

    def agrees(self, measured: float) -> bool:
        """Whether a number rounds to the documented one."""
        return abs(Decimal(measured) - self.value) <= self.tolerance

    @field_serializer("value", "where", when_used="json")
    def _write_plain_numbers(self, field: object) -> object:
        if isinstance(field, Mapping):
            return {key: self._write_plain_numbers(value) for key, value in field.items()}
        return float(field) if isinstance(field, Decimal) else field


class Fit(_Strict):
    """One row of the documents' table of what fits on which GPU."""

    workload: Name
    called: str | None = None  # how the documents name the size
    variants: tuple[str, ...] = ()  # ours that are of that size; none for every variant
    context_nt: Annotated[int, Field(gt=0)] | None = None  # length of the sequences that the row speaks of
    gpus: Mapping[str, Literal["fast", "slow", "tight", "oom"]]


class Claims(_Strict):
    """The claims file."""

    planned: tuple[str, ...] = ()  # workloads that claims speak of and that nobody has written yet
    generated_datasets: tuple[str, ...] = ()  # data that a document itself made up; everything else synthetic is a twin
    words: Mapping[str, str] = {}  # metric -> how a sentence calls it
    claim: tuple[Claim, ...] = ()
    fits: tuple[Fit, ...] = ()


def find_claims(results: Path) -> Path:
    """The claims file of a results folder, or the project's own for a folder that has none."""
    own = results / CLAIMS_FILE
    return own if own.exists() else PUBLISHED / CLAIMS_FILE


def load_claims(path: Path) -> Claims:
    """The claims file, checked. Raises UsageError that names file, line, claim and fault."""
    try:
        text = path.read_text(encoding="utf-8")
        loaded = Claims.model_validate(tomllib.loads(text, parse_float=Decimal))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; restore it from version control") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}; correct it there") from None
    except ValidationError as error:
        raise UsageError(_locate_fault(path, text, error)) from None
    first: dict[str, int] = {}
    for index, claim in enumerate(loaded.claim):
        if claim.id in first:
            lines = _lines_of(text, "claim")
            raise UsageError(f"{path}:{lines[index]}: claim {claim.id!r} is there already, in line {lines[first[claim.id]]}; give one of them another id")
        first[claim.id] = index
    return loaded


def _locate_fault(path: Path, text: str, error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    table, *rest = fault["loc"]
    index = rest.pop(0) if rest else None
    if not isinstance(index, int) or table not in ("claim", "fits"):
        return f"{path}: {table}: {fault['msg']}; correct it there"
    lines = _lines_of(text, str(table))
    line = f":{lines[index]}" if index < len(lines) else ""
    entry = tomllib.loads(text)[str(table)][index]
    name = (entry.get("id") or entry.get("workload") or f"number {index + 1}") if isinstance(entry, dict) else f"number {index + 1}"
    return f"{path}{line}: {table} {name!r}: {'.'.join(map(str, rest)) or 'the entry'}: {fault['msg']}; correct it there"


def _lines_of(text: str, table: str) -> list[int]:
    header = re.compile(rf"\s*\[\[\s*{table}\s*\]\]")
    return [number for number, line in enumerate(text.splitlines(), start=1) if header.match(line)]
