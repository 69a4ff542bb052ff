"""The language of --select, in which every command chooses cases by their ids."""

from __future__ import annotations

from collections.abc import Callable

from _pytest.mark.expression import Expression  # the very language of `pytest -k`, so that users learn one

from assay.bench.case import UsageError


def compile_selection(expression: str) -> Callable[[str], bool]:
    """Whether a case id is selected; an empty expression selects all. Raises UsageError for a malformed one."""
    if not expression:
        return lambda _: True
    try:
        compiled = Expression.compile(expression)
    except SyntaxError as error:
        raise UsageError(f"--select {expression!r}: {error}; write it like pytest -k, e.g. 'affinity and not eval'") from None
    return lambda case_id: compiled.evaluate(lambda word, /, **_: word.lower() in case_id.lower())
