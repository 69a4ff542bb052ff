"""Pages in Markdown from templates/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render_template(name: str, values: Mapping[str, object]) -> str:
    """A page from bench/report/templates. What is not marked as Markdown already is at least escaped as HTML."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    engine = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return engine.get_template(name).render(values).rstrip("\n") + "\n"
