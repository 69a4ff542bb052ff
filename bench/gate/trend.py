"""The history of each case as a curve, with advisory marks where its level may have changed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from assay.bench.case import Quantity, UsageError
from assay.bench.gate.history import AcceptEntry, Entry, RunEntry
from assay.bench.gate.statistics import FLOOR
from assay.bench.selection import compile_selection

ALPHA = 0.05  # share of unchanging series in which a mark appears
PERMUTATIONS = 999
MIN_LEVEL = 4  # points on each side of a mark
SEED = 20_240_601


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Point(_Frozen):
    """One session: time of the candidate over that of the first reference, chained through the references since."""

    at: datetime
    candidate: str
    ratio: float
    low: float
    high: float
    segment: int  # grows where the reference moved to something that was never compared with the one before


class Change(_Frozen):
    """Where a level may begin."""

    at: datetime
    candidate: str
    ratio: Quantity  # of the new level over the old one
    p_value: float


class Trend(_Frozen):
    """One case on one machine: a ratio measured elsewhere is another machine's, and would be a step where nothing has changed."""

    case_id: str
    machine: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]

    @property
    def title(self) -> str:
        return f"{self.case_id} on {self.machine}"


def find_trends(entries: Sequence[Entry], select: str = "") -> list[Trend]:
    """The trend of every case whose id `select` selects, as `pytest -k` does, on each machine, in the order of ids. Raises UsageError."""
    selects = compile_selection(select)
    curves = sorted({(case, entry.machine) for entry in entries if isinstance(entry, RunEntry) for case in entry.ratios if selects(case)})
    trends: list[Trend] = []
    for case, machine in curves:
        points = _chain(case, [entry for entry in entries if isinstance(entry, AcceptEntry) or entry.machine == machine])
        changes = [change for segment in sorted({p.segment for p in points}) for change in _mark([p for p in points if p.segment == segment])]
        trends.append(Trend(case_id=case, machine=machine, points=tuple(points), changes=tuple(changes)))
    return trends


def _chain(case: str, entries: Sequence[Entry]) -> list[Point]:
    points: list[Point] = []
    offset, segment = 0.0, 0
    since: dict[str, float] = {}  # log ratio to the reference in force, by candidate
    for entry in entries:
        if isinstance(entry, AcceptEntry):
            if entry.identity in since:
                offset += since[entry.identity]
            elif points:
                offset, segment = 0.0, points[-1].segment + 1
            since = {entry.identity: 0.0}
        elif (ratio := entry.ratios.get(case)) is not None and ratio.value is not None:
            since[entry.candidate.identity] = math.log(ratio.value)
            scale = math.exp(offset)
            low, high = (ratio.value if bound is None else bound for bound in (ratio.low, ratio.high))
            points.append(Point(
                at=entry.at, candidate=entry.candidate.identity, ratio=ratio.value * scale, low=low * scale, high=high * scale, segment=segment
            ))
    return points


def _mark(points: Sequence[Point]) -> list[Change]:
    values = np.log([point.ratio for point in points])
    found = find_changes(values)
    starts, ends = [0, *(at for at, _ in found)], [*(at for at, _ in found), len(values)]
    changes: list[Change] = []
    for (at, p_value), start, end in zip(found, starts, ends[1:], strict=False):
        before, after = values[start:at], values[at:end]
        step = float(np.median(after) - np.median(before))
        if abs(step) < FLOOR:
            continue  # nobody's concern, as in the gate itself
        how = f"median of {len(after)} sessions over median of {len(before)}"
        ratio = Quantity(math.exp(step), "after / before", len(before) + len(after), how=how)
        changes.append(Change(at=points[at].at, candidate=points[at].candidate, ratio=ratio, p_value=p_value))
    return changes


def find_changes(values: np.ndarray) -> list[tuple[int, float]]:
    """(index of a level's first value, p-value) of each change of level in values: [n], by splitting in two again and again.

    The statistic of a split is the largest absolute difference of means, each scaled by its standard error; its p-value comes from
    permutations of the same values. So where nothing changes and sessions are exchangeable, a mark appears in ALPHA of all series,
    whatever the distribution. The two parts of a split share the ALPHA of the whole.
    Source: J. Antoch and M. Huskova, Permutation tests in change point analysis, Statistics and Probability Letters 53 (2001) 37-46.
    """
    return sorted(_split(np.asarray(values, dtype=float), 0, ALPHA, np.random.default_rng(SEED)))


def _split(values: np.ndarray, start: int, alpha: float, generator: np.random.Generator) -> list[tuple[int, float]]:
    if len(values) < 2 * MIN_LEVEL or np.ptp(values) == 0:
        return []
    observed = _scan(values[None])[0]
    shuffled = generator.permuted(np.tile(values, (PERMUTATIONS, 1)), axis=1)
    # a tolerance, because sums of the same numbers in another order differ in their last bits
    as_large = int((_scan(shuffled).max(axis=1) >= observed.max() * (1 - 1e-12)).sum())
    p_value = (1 + as_large) / (1 + PERMUTATIONS)
    if p_value > alpha:
        return []
    at = int(observed.argmax()) + MIN_LEVEL
    return [(start + at, p_value), *_split(values[:at], start, alpha / 2, generator), *_split(values[at:], start + at, alpha / 2, generator)]


def _scan(series: np.ndarray) -> np.ndarray:
    """[m, n] -> [m, n - 2 MIN_LEVEL + 1]: scaled difference of means for every admissible split."""
    n = series.shape[1]
    left = np.arange(MIN_LEVEL, n - MIN_LEVEL + 1)
    sums = np.cumsum(series - series.mean(axis=1, keepdims=True), axis=1)[:, left - 1]
    scanned: np.ndarray = np.abs(sums) / np.sqrt(left * (n - left) / n)
    return scanned


def plot_trends(trends: Sequence[Trend], path: Path) -> None:
    """One panel for each case, as .png or .svg by the file's ending."""
    import altair as alt
    import pandas as pd

    if path.suffix not in (".png", ".svg"):
        raise UsageError(f"--plot {path}: name a file that ends in .png or .svg")
    rows = [point.model_dump() | {"curve": trend.title, "session": number} for trend in trends for number, point in enumerate(trend.points, start=1)]
    marks = [{"curve": trend.title, "session": at} for trend in trends for at in _find_marks(trend)]
    table, marked = pd.DataFrame(rows), pd.DataFrame(marks, columns=["curve", "session"])
    panels = []
    for trend in trends:
        here = alt.Chart(table[table["curve"] == trend.title])
        x = alt.X("session:Q", title="session", axis=alt.Axis(tickMinStep=1, format="d"))
        y = alt.Y("ratio:Q", title="time / reference", scale=alt.Scale(zero=False))
        line = here.mark_line(point=True).encode(x=x, y=y, detail="segment:N")
        bounds = here.mark_rule(opacity=0.5).encode(x=x, y=alt.Y("low:Q", scale=alt.Scale(zero=False)), y2="high:Q")
        change = alt.Chart(marked[marked["curve"] == trend.title]).mark_rule(color="firebrick", strokeDash=[4, 3]).encode(x="session:Q")
        panels.append((bounds + line + change).properties(title=trend.title, width=560, height=140))
    path.parent.mkdir(parents=True, exist_ok=True)
    alt.vconcat(*panels).properties(title="Time relative to the pinned reference; dashed: the level may have changed").save(path, scale_factor=2)


def draw_trends(trends: Sequence[Trend], write: Callable[[str], object], *, width: int) -> None:
    """The same curves for a terminal."""
    from plotext import figure, uncolorize

    for trend in trends:
        sessions = list(range(1, len(trend.points) + 1))
        figure.clear()
        figure.plot_size(width, 14)
        figure.title(trend.title)
        figure.label("session", axis="x")
        figure.draw(figure.signal(sessions, [point.ratio for point in trend.points], marker="\N{BULLET}").lines())
        for number in _find_marks(trend):
            figure.line(number, "vertical", style="dotted")
        write(uncolorize(figure.build().string()) + "\n")


def _find_marks(trend: Trend) -> list[float]:
    """Where between sessions (1, 2, ...) its marks stand."""
    changed = {(change.at, change.candidate) for change in trend.changes}
    return [number - 0.5 for number, point in enumerate(trend.points, start=1) if (point.at, point.candidate) in changed]
