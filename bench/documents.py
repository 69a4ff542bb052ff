"""JSON files that may come from a stranger, or be cut off: read whole, checked against their schema, refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from bench.case import UsageError

M = TypeVar("M", bound=BaseModel)


def read_document(path: Path, model: type[M], *, limit: int, too_large: str, remedy: str) -> M:
    """The file as a `model`. Raises UsageError that names the file, its first fault and the remedy.

    limit: bytes above which the file is not even opened; too_large: what is said then.
    """
    try:
        if path.stat().st_size > limit:
            raise UsageError(f"{path}: larger than {too_large}")
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {describe_fault(error)}; {remedy}") from None


def describe_fault(error: ValidationError) -> str:
    """Where the first fault is, and what it is."""
    fault = error.errors(include_url=False)[0]
    where = ascii(".".join(str(part) for part in fault["loc"]))[1:-1][:200] or "the file"  # a stranger's key may hold terminal codes
    return f"{where}: {fault['msg']}"
