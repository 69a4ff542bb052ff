"""Where a record's file lies, seen from the pages."""

from __future__ import annotations

import re
from urllib.parse import quote

from markupsafe import Markup

from assay.bench.formatting.markdown import escape_text
from assay.bench.records.record import Record

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def locate_record(record: Record) -> str | None:
    """Path of a record's file from the results folder, percent-encoded; None for a run whose name is not a plain one."""
    if not _PLAIN_NAME.fullmatch(record.run):
        return None
    return "runs/" + quote(f"{record.run}/{record.file_name}")


def link_record(record: Record) -> Markup:
    """A link to the record's file, relative to the results folder."""
    path = locate_record(record)
    return escape_text(f"{record.run}, {record.sequence}") if path is None else Markup(f"[{record.sequence:04d}]({path})")  # noqa: S704  # percent-encoded
