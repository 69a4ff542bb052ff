"""Whether a record was taken under documented conditions: data set, sizes, recipe and device by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from assay.bench.records.record import Record

_MAKERS = {"NVIDIA", "TESLA", "GEFORCE", "QUADRO", "APPLE", "GPU"}
_BOARDS = re.compile(r"SXM\d*|PCIE|NVL|HBM\d*E?")
_SIZE = re.compile(r"\d+GB")
_CASE_WORDS = ("phase", "preset", "division", "precision")

Value = str | int | float | Decimal


def compare_conditions(where: Mapping[str, Value], record: Record) -> list[str]:
    """`key: documented X, here Y` for every documented condition that the record does not meet, in the claim's order."""
    return [f"{key}: documented {_spell(value)}, here {_find_text(key, record)}" for key, value in where.items() if not _meets(key, value, record)]


def matches_device(documented: str, device: str) -> bool:
    """Whether a GPU's full name is the documented one: `A40` is `NVIDIA A40`, `A100-80GB` is `NVIDIA A100-SXM4-80GB`.

    A slash gives alternatives (`V100/A100`). A memory size counts only where the document gives one.
    """
    theirs = _tokens(device)
    for alternative in documented.split("/"):
        ours = _tokens(alternative)
        sized = any(_SIZE.fullmatch(token) for token in ours)
        if ours == (theirs if sized else {token for token in theirs if not _SIZE.fullmatch(token)}):
            return True
    return False


def name_device(record: Record) -> str:
    """The GPU that the case ran on, or `CPU (its name)`."""
    if record.machine is None:
        return "an unrecorded machine"
    return record.machine.gpu or f"CPU ({record.machine.cpu})"


def _tokens(name: str) -> set[str]:
    joined = re.sub(r"\b(RTX|GTX)[ -]?(?=\d)", r"\1", name.upper())
    words = re.findall(r"[A-Z0-9]+", re.sub(r"(\d+) ?GB\b", r"\1GB", joined))
    return {word for word in words if word not in _MAKERS and not _BOARDS.fullmatch(word)}


def _meets(key: str, documented: Value, record: Record) -> bool:
    if key == "gpu":
        return record.machine is not None and record.machine.gpu is not None and matches_device(str(documented), record.machine.gpu)
    found = _find(key, record)
    if found is None:
        return False
    if key == "triton":
        return f"{found}.".startswith(f"{documented}.")
    if isinstance(found, str) or isinstance(documented, str):
        return str(found).casefold() == str(documented).casefold()
    return Decimal(str(found)) == Decimal(str(documented))


def _find(key: str, record: Record) -> Value | None:
    if key in _CASE_WORDS:
        return str(getattr(record.case, key))
    if key == "triton":
        return record.environment.triton if record.environment else None
    found = record.conditions.get(key)
    return record.dataset.name if found is None and key == "dataset" and record.dataset else found


def _find_text(key: str, record: Record) -> str:
    if key == "gpu":
        return name_device(record)
    found = _find(key, record)
    return "not recorded" if found is None else _spell(found)


def _spell(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:,}"
