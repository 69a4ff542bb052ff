"""docs/gate.md and its plot, from the counts: every number in the page is filled in, none is typed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from assay.bench.formatting.markdown import escape_text, format_table
from assay.bench.gate.kernel import ALONE
from assay.bench.gate.line import REST, SPIN
from assay.bench.gate.statistics import CONFIRM, FLOOR, MARGIN, SCREEN
from benchmarks.gate_rig.cheats import tabulate_cheats
from benchmarks.gate_rig.live import LiveSession, count_live
from benchmarks.gate_rig.noise import LAUNCH_SD, ROUND_SD, ROUNDS
from benchmarks.gate_rig.proof import GATE, Count, Data, Proof
from benchmarks.gate_rig.requirements import judge_live, judge_proof
from benchmarks.gate_rig.rules import RULES

DATA_NAMES: dict[Data, str] = {"pairs": "same session", "saved": "saved baseline"}
LANES: tuple[tuple[str, Data], ...] = ((GATE, "pairs"), *((rule.name, data) for data in ("saved", "pairs") for rule in RULES))


def render_page(proof: Proof, sessions: Sequence[LiveSession]) -> str:
    """The page's Markdown."""
    engine = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    live = count_live(sessions)
    values = {
        "screen": SCREEN,
        "confirm": CONFIRM,
        "floor": f"{100 * math.expm1(FLOOR):.0f} %",
        "margin": f"{100 * math.expm1(MARGIN):.0f} %",
        "rounds": ROUNDS,
        "alone": f"{100 * ALONE:g} %",
        "rest": f"{1e3 * REST:g}",
        "spin": f"{1e3 * SPIN:g}",
        "caught": tabulate_cheats(caught=True),
        "uncaught": tabulate_cheats(caught=False),
        "round_sd": f"{100 * ROUND_SD:g} %",
        "launch_sd": f"{100 * LAUNCH_SD:g} %",
        "proof": proof,
        "live": sessions,
        "false_alarms": _tabulate_alarms(proof, 0.0),
        "power_5": _tabulate_alarms(proof, 0.05),
        "gate_power": _tabulate_gate(proof),
        "machines": format_table(("machine", "what it does"), [(escape_text(m.name), escape_text(m.summary)) for m in proof.machines]),
        "rules": format_table(("rule", "what it is"), [(escape_text(rule.name), Markup(rule.summary)) for rule in RULES]),  # noqa: S704  # our own text
        "requirements": format_table(("asked for", "measured", "met"), [r.row for r in (*judge_proof(proof), *judge_live(sessions))]),
        "live_rules": _tabulate_live(live),
        "live_sessions": _tabulate_sessions(sessions),
    }
    return engine.get_template("gate.md.j2").render(values).rstrip("\n") + "\n"


def plot_rules(proof: Proof) -> dict[str, Any]:
    """Every rule on every machine: called slower though nothing has changed, and at a real slowdown of 5 %."""
    rows = [
        {"rule": _name_lane(c.rule, c.data), "machine": c.machine, "slowdown": c.slowdown, "share": c.share}
        for c in proof.counts
        if c.slowdown in (0.0, 0.05)
    ]
    lanes, machines = [_name_lane(rule, data) for rule, data in LANES], [machine.name for machine in proof.machines]

    def panel(slowdown: float, title: str, axis: alt.Axis) -> alt.Chart:
        chart = alt.Chart(alt.InlineData(values=[row for row in rows if row["slowdown"] == slowdown]), title=title)
        drawn: alt.Chart = chart.mark_point(filled=True, size=70, opacity=0.75).encode(
            x=alt.X("share:Q", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", title="sessions called slower", tickCount=5)),
            y=alt.Y("rule:N", sort=lanes, axis=axis),
            color=alt.Color("machine:N", sort=machines, scale=alt.Scale(scheme="tableau10"), title="machine"),
            shape=alt.Shape("machine:N", sort=machines, title="machine"),
        )
        return drawn.properties(width=250, height=24 * len(lanes))

    left = panel(0.0, "nothing has changed: should be 0 %", alt.Axis(title=None, labelLimit=300))
    right = panel(0.05, "really 5 % slower: should be 100 %", alt.Axis(title=None, labels=False, ticks=False))
    spec: dict[str, Any] = alt.hconcat(left, right).configure_view(stroke="#ddd").configure(background="white").to_dict()
    return spec


def _name_lane(rule: str, data: Data) -> str:
    return rule if rule == GATE else f"{rule}, {DATA_NAMES[data]}"


def _tabulate_alarms(proof: Proof, slowdown: float) -> str:
    columns = ("rule", *(machine.name for machine in proof.machines))
    rows = []
    for rule, data in LANES:
        cells = [proof.find(machine.name, rule, data, slowdown) for machine in proof.machines]
        rows.append((escape_text(_name_lane(rule, data)), *("" if cell is None else f"{100 * cell.share:.1f} %" for cell in cells)))
    return format_table(columns, rows, right=frozenset(columns[1:]))


def _tabulate_gate(proof: Proof) -> str:
    columns = ("machine", "spread of d", "false alarms", "at +3 %", "at +5 %", "at +10 %", "not settled")
    rows = []
    for machine in proof.machines:
        cells = [proof.find(machine.name, GATE, "pairs", slowdown) for slowdown in (0.0, 0.03, 0.05, 0.10)]
        rows.append((escape_text(machine.name), f"{100 * machine.spread:.1f} %", *map(_show, cells), f"{100 * machine.inconclusive:.1f} %"))
    return format_table(columns, rows, right=frozenset(columns[1:]))


def _tabulate_live(counts: Sequence[Count]) -> str:
    slowdowns = sorted({count.slowdown for count in counts})
    columns = ("rule", *("nothing changed" if not s else f"busy loop of {100 * s:.0f} %" for s in slowdowns))
    found = {(count.rule, count.data, count.slowdown): count for count in counts}
    rows = [(escape_text(_name_lane(rule, data)), *(_show(found.get((rule, data, s))) for s in slowdowns)) for rule, data in LANES]
    return format_table(columns, rows) if counts else ""


def _tabulate_sessions(sessions: Sequence[LiveSession]) -> str:
    kinds = sorted({(s.injection, s.slowdown, s.case_id) for s in sessions}, key=lambda kind: (kind[1] is None, kind[1] or 0.0, kind[2]))
    rows = []
    for injection, slowdown, case in kinds:
        mine = [s for s in sessions if (s.injection, s.slowdown, s.case_id) == (injection, slowdown, case)]
        what = injection if slowdown is None else f"{injection} of {100 * slowdown:.0f} %" if slowdown else injection
        verdicts = ", ".join(f"{n} {v}" for v in sorted({s.verdict for s in mine}) if (n := [s.verdict for s in mine].count(v)))
        changes = sorted(s.change for s in mine if s.change is not None)
        span = f"{100 * changes[0]:+.1f} to {100 * changes[-1]:+.1f} %" if changes else ""
        rows.append((escape_text(case), what, verdicts, span, f"{sum(s.seconds for s in mine) / len(mine) / 60:.1f}"))
    return format_table(("case", "injected", "verdicts", "estimates", "minutes each"), rows, right=frozenset({"minutes each"}))


def _show(count: Count | None) -> str:
    if count is None:
        return ""
    low, high = count.interval
    return f"{count.alarms}/{count.sessions} ({100 * low:.1f} to {100 * high:.1f} %)"

