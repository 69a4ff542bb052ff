"""Files that are whole or not there: JSON of a stranger, or cut off, is refused in one sentence; what is written here is never half a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from assay.bench.case import UsageError

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


def write_whole(path: Path, text: str) -> None:
    """Replaces the file at once: whoever interrupts this leaves it as it was. Raises OSError, and then nothing new lies there."""
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_durably(path: Path, content: bytes) -> None:
    """As `write_whole`, and when this returns the file outlives a loss of power."""
    with _replacing(path) as temporary, temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the other's place when the block has ended well, and is gone otherwise."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def describe_fault(error: ValidationError) -> str:
    """Where the first fault is, and what it is."""
    fault = error.errors(include_url=False)[0]
    where = ascii(".".join(str(part) for part in fault["loc"]))[1:-1][:200] or "the file"  # a stranger's key may hold terminal codes
    return f"{where}: {fault['msg']}"
