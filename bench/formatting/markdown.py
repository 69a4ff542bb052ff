"""Markdown that is safe to build from strangers' records and legible before it is rendered."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from markupsafe import Markup
from rich.cells import cell_len

CELL_LENGTH = 160
LINE_LENGTH = 400
_ACTIVE = str.maketrans({c: f"\\{c}" for c in r"\`*[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "(at)"})
_EDGE_UNDERSCORE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # between letters it means nothing to Markdown and reads better plain
_BLOCK_START = re.compile(r"^(\d{1,9}[.)]|[-+#=])(?=\s|#|-|=|\+|$)")
_AUTOLINK = re.compile(r"(?i)(?:(?<=http)|(?<=https)|(?<=ftp)|(?<=mailto)|(?<=xmpp)):|(?<=www)\.")  # GitHub links these even from entities


def clean_text(text: str, limit: int = CELL_LENGTH) -> str:
    """One line of visible characters: control, format and bidi characters become U+FFFD, white space one blank, the rest is cut."""
    if len(text) <= limit and text.isascii() and text.isprintable() and "  " not in text and text == text.strip():
        return text  # nearly all text, and ten times faster
    # cut first, so that megabytes of text cost nothing; the blanks that collapse below are never more than this
    visible = "".join(_show(c) for c in text[: 4 * limit])
    joined = " ".join(visible.split())
    return joined if len(joined) <= limit and len(text) <= 4 * limit else joined[: limit - 1] + "…"


def escape_text(text: str, limit: int = CELL_LENGTH) -> Markup:
    """Text as Markdown shows it literally: no markup, HTML, links, mathematics or mentions; fit for a table cell."""
    escaped = _EDGE_UNDERSCORE.sub(r"\\_", clean_text(text, limit).translate(_ACTIVE))
    escaped = _AUTOLINK.sub(lambda m: f"{m[0]} ", escaped)
    return Markup(_BLOCK_START.sub(lambda m: m[0][:-1] + "\\" + m[0][-1], escaped))  # noqa: S704  # escaped just here


def _show(character: str) -> str:
    if character.isspace():
        return " "
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: frozenset[str] = frozenset()) -> Markup:
    """A Markdown table with aligned columns. Cells are Markdown already; columns in which no row has anything are left out."""
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    table = [[columns[i] for i in kept], *([row[i] for i in kept] for row in rows)]
    widths = [max(3, *(cell_len(line[i]) for line in table)) for i in range(len(kept))]
    aligned_right = [columns[i] in right for i in kept]
    rule = ["-" * (w - 1) + ":" if r else "-" * w for w, r in zip(widths, aligned_right, strict=True)]
    lines = [table[0], rule, *table[1:]]
    padded = (" | ".join(_pad(cell, w, right=r) for cell, w, r in zip(line, widths, aligned_right, strict=True)) for line in lines)
    return Markup("\n".join(f"| {line} |" for line in padded))  # noqa: S704  # the caller escaped the cells


def _pad(cell: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - cell_len(cell))
    return blanks + cell if right else cell + blanks
