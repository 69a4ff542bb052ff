"""Text from strangers as Markdown, and tables that can be read before they are rendered."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markupsafe import Markup

from assay.bench.formatting.markdown import clean_text, escape_text, format_table

RENDER = MarkdownIt("commonmark").enable("table")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("detection_at_0.1", "detection_at_0.1"),
        ("hidden256-layers8", "hidden256-layers8"),
        ("_x_ **y**", r"\_x\_ \*\*y\*\*"),
        ("a|b", r"a\|b"),
        ("R&D <b>", "R&amp;D &lt;b&gt;"),
        ("1. first", r"1\. first"),
        ("- item", r"\- item"),
        ("# title", r"\# title"),
        ("-0.07 e-mail", "-0.07 e-mail"),
        ("me@example.org at HTTPS://x.y", "me(at)example.org at HTTPS: //x.y"),
    ],
)
def test_only_what_means_something_is_escaped(text: str, shown: str) -> None:
    assert escape_text(text) == shown


def test_long_text_is_cut_with_a_sign() -> None:
    assert clean_text("x" * 10, limit=10) == "x" * 10
    assert clean_text("x" * 11, limit=10) == "x" * 9 + "…"
    assert clean_text(" " * 1000 + "x", limit=10) == "…"


def test_invisible_characters_become_visible() -> None:
    assert clean_text("a\u202eb\u200bc\x1bd\x00e\tf\u2028g") == "a\ufffdb\ufffdc\ufffdd\ufffde f g"


@settings(deadline=None)  # the machine may be busy
@given(st.text(max_size=200))
def test_any_text_renders_as_itself_and_nothing_else(text: str) -> None:
    html = RENDER.render(f"| h |\n| --- |\n| a {escape_text(text)} |\n")
    assert set(re.findall(r"<(\w+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert html.count("<td>") == 1


@settings(deadline=None)  # the machine may be busy
@given(st.text(min_size=1, max_size=200))
def test_any_text_is_one_paragraph_of_a_list(text: str) -> None:
    html = RENDER.render(f"* **x**: {escape_text(text)}.\n")
    assert set(re.findall(r"<(\w+)", html)) <= {"ul", "li", "strong"}


def test_table_is_aligned_by_width_on_screen_and_empty_columns_go() -> None:
    assert str(format_table(("name", "empty", "n"), [("漢字", "", "1"), ("b", "", "1,000")], right=frozenset({"n"}))) == (
        "| name |     n |\n"
        "| ---- | ----: |\n"
        "| 漢字 |     1 |\n"
        "| b    | 1,000 |"
    )  # fmt: skip


def test_escaped_text_is_marked_as_safe_for_the_templates() -> None:
    assert isinstance(escape_text("x"), Markup)
