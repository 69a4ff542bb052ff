"""What a user sees while the gate measures: one line that moves."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from assay.bench.cli.display import errors

NAME_WIDTH = 24  # of a case in the line, which is to fit 80 columns


class GateDisplay:
    """One line that moves: case, stage, pairs done, estimate with bounds. One line more for each launch that is repeated."""

    def __init__(self, *, quiet: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(8), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=errors, transient=True, disable=quiet)
        self._task = self._progress.add_task("starting", total=None)
        self._name, self._estimated = "", False

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def start(self, case: str, stage: str, total: int) -> None:
        workload, variant, phase, *_ = case.split("/")
        name = f"{workload}/{variant}"
        self._name = f"{name if len(name) <= NAME_WIDTH else workload}/{phase} {stage}"
        self._estimated = False
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(escape(self._name), total=total or None)

    def advance(self, values: Sequence[float]) -> None:
        self._estimated = True
        self._progress.update(self._task, completed=len(values), description=escape(f"{self._name} {describe_values(values)}"))

    def note(self, text: str) -> None:
        if "repeating" in text or "one launch at a time" in text:
            self._progress.console.print(text, markup=False, soft_wrap=True)
        elif not self._estimated:  # an estimate says more than that a worker lives
            self._progress.update(self._task, description=escape(f"{self._name} {text}".strip()))


def describe_values(values: Sequence[float]) -> str:
    """The present estimate of a slowdown, e.g. `+1.2 % [-0.3, +2.9]`, with bounds as soon as there can be some."""
    import math

    import numpy as np

    from assay.bench.gate.statistics import SCREEN, estimate, needed_pairs

    if len(values) < needed_pairs(SCREEN.alpha):
        return f"{100 * math.expm1(float(np.median(values))):+.1f} %"
    found = estimate(values, SCREEN.alpha)
    value, low, high = (100 * math.expm1(d) for d in (found.value, found.low, found.high))
    return f"{value:+.1f} % [{low:+.1f}, {high:+.1f}]"
