"""Text files, plain or gzip, opened so that damage is told in one sentence."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

from assay.datasets.card import DataError


@contextmanager
def open_text(path: Path, remedy: str) -> Iterator[TextIO]:
    """The file as UTF-8 with line ends as they are, for csv. Raises DataError where reading it, at any point, shows that it is damaged or no text."""
    try:
        packed = path.suffix in {".gz", ".bgz"}
        with gzip.open(path, "rt", newline="", encoding="utf-8-sig") if packed else path.open(newline="", encoding="utf-8-sig") as stream:
            yield cast(TextIO, stream)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise DataError(path, f"is damaged or no text: {error}", remedy) from None
