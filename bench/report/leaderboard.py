"""The leaderboard: one table per workload family, the latest record of every case on every device and data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from assay.bench.case import ClaimVerdict, Outcome, Phase, Preset, Quantity
from assay.bench.claims.conditions import name_device
from assay.bench.claims.documented import Claims
from assay.bench.claims.judgement import Judgement, find_moment, judge
from assay.bench.exchange.imports import Imported
from assay.bench.formatting.markdown import LINE_LENGTH, escape_text, format_table
from assay.bench.formatting.numbers import format_documented, format_interval, format_number
from assay.bench.records.comparability import is_older
from assay.bench.records.index import age, identify_row, name_line
from assay.bench.records.record import Record
from assay.bench.registry import load_workloads
from assay.bench.report.data_names import Data, identify_data
from assay.bench.report.links import locate_record
from assay.bench.report.ranking import Rank, identify_problem, rank_by_quality, spell_problem
from assay.bench.report.templates import render_template

if TYPE_CHECKING:
    from assay.models.workload import Target, Workload

GB, MB = 1e9, 1e6

MEASURED: Mapping[str, tuple[str, float]] = {  # column: measurement, divisor
    "samples/s": ("samples_per_s", 1),
    "train wall s": ("train_wall_s", 1),
    "to best s": ("time_to_best_s", 1),
    "allocated GB": ("allocated_peak", GB),
    "reserved GB": ("reserved_peak", GB),
    "device GB": ("device_peak", GB),
    "RSS GB": ("rss_peak", GB),
    "J per 1,000": ("energy_per_1000_samples", 1),
    "MFU %": ("mfu", 0.01),
}
COLUMNS = (
    *("rank", "workload/variant", "phase", "division", "preset", "data", "test", "device", "image", "source", "precision", "attention", "batch"),
    *MEASURED,
    *("to documented s", "quality", "documented", "outcome"),
)
NUMERIC = frozenset({"rank", "batch", *MEASURED, "to documented s"})
BROKEN = "not as it was written: `python -m bench check --runs` says why"
PRESETS = (Preset.DOCUMENTED, Preset.STANDARD, Preset.SCALE, Preset.SMOKE)
PHASES = tuple(Phase)


@dataclass(frozen=True, slots=True)
class Row:
    """A record in its place: rank within its group, the cells that it fills, and why its case did not end in order or alone."""

    record: Record
    rank: Rank | None
    cells: Mapping[str, str]
    reason: str = ""  # Markdown; empty for a case that ended in order on real hardware of its own


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one family, best first within preset, data set, phase and test problem."""

    family: str
    workloads: Sequence[Workload]  # those that the rows name, as far as they are declared
    rows: Sequence[Row]


def render_leaderboard(
    records: Sequence[Record],
    claims: Claims,
    heads: Mapping[str, str],
    results: Path,
    broken: frozenset[str] = frozenset(),
    imports: Sequence[Imported] = (),
) -> str:
    """The page as Markdown, the same bytes for the same records.

    heads: sha256 of the last record of each run; results: the folder in which the page will lie, for the links to records;
    broken: runs whose chain of records is not as it was written; imports: rows of other tools, which stand apart.
    """
    tables = tabulate_records(records, claims)
    links = _number_links(tables, results)
    sections = [_fill_section(table, links) for table in tables]
    named = sorted({row.record.run for table in tables for row in table.rows})
    runs = [(escape_text(run), BROKEN if run in broken else escape_text(heads.get(run, "not given"))) for run in named]
    values = {"sections": sections, "links": links.values(), "runs": format_table(("run", "sha256 of its last record"), runs)}
    values["imports"] = _tabulate_imports(imports)
    return render_template("leaderboard.md.j2", values)


def _tabulate_imports(imports: Sequence[Imported]) -> str:
    columns = ("benchmark", "group", "seconds", "rounds", "machine", "commit", "measured", "file")
    rows = [
        [
            *(escape_text(row.name), escape_text(row.group or "", 60), format_interval(row.seconds), str(row.seconds.n)),
            *(escape_text(text, 60) for text in (entry.machine, entry.commit or "", f"{entry.measured:%Y-%m-%d}", f"{entry.source} {entry.source_sha256[:6]}")),
        ]
        for entry in imports
        for row in entry.rows
    ]
    return format_table(columns, rows, right=frozenset({"seconds", "rounds"})) if rows else ""


def _fill_section(table: Table, links: Mapping[tuple[str, int], tuple[int, str]]) -> dict[str, object]:
    reasons = {reason: number for number, reason in enumerate(dict.fromkeys(row.reason for row in table.rows if row.reason), start=1)}
    return {
        "family": escape_text(table.family),
        "workloads": [_introduce(workload) for workload in table.workloads],
        "table": format_table((*COLUMNS, "record"), [_spell_row(row, links, reasons) for row in table.rows], right=NUMERIC),
        "reasons": reasons.items(),
    }


def _number_links(tables: Sequence[Table], results: Path) -> dict[tuple[str, int], tuple[int, str]]:
    """(run, sequence) -> (number, path) of every row whose record lies in the results folder: short cells keep the page legible as text."""
    rows = [row.record for table in tables for row in table.rows]
    found = [(record, path) for record in rows if (path := locate_record(record)) and (results / path).is_file()]
    return {(record.run, record.sequence): (number, path) for number, (record, path) in enumerate(found, start=1)}


def _spell_row(row: Row, links: Mapping[tuple[str, int], tuple[int, str]], reasons: Mapping[str, int]) -> list[str]:
    link = links.get((row.record.run, row.record.sequence))
    # a reason is a sentence: beside every row it would make the table too wide to read as text
    note = f" ({reasons[row.reason]})" if row.reason else ""
    cells = {**row.cells, "outcome": row.cells["outcome"] + note}
    return [*(cells[column] for column in COLUMNS), f"[{link[0]}]" if link else ""]


def tabulate_records(records: Iterable[Record], claims: Claims) -> list[Table]:
    """The tables of the leaderboard in the order of the families' names; a record of an undeclared workload stands under `other workloads`."""
    declared = load_workloads()
    latest = select_latest(records)
    twins = frozenset(record.dataset.sha256 for record in latest if record.dataset and record.synthetic)
    families: dict[str, list[Record]] = {}
    for record in latest:
        workload = declared.get(record.case.workload)
        families.setdefault(workload.family if workload else "other workloads", []).append(record)
    return [_tabulate_family(family, families[family], declared, claims, twins) for family in sorted(families)]


def select_latest(records: Iterable[Record]) -> list[Record]:
    """The latest record of every case on every device, data set, batch size and line of software; one of older source only where there is
    none of today's.

    A failure that came before its case knew device and data stands until the same case and profile have any later record.
    """
    latest: dict[tuple[tuple[object, ...], tuple[object, ...] | None], Record] = {}
    newest: dict[tuple[object, ...], Record] = {}
    for record in sorted(records, key=age):
        case = (record.case.case.id, record.profile, record.emulated)
        newest[case] = record
        row = (case, identify_row(record))
        if row not in latest or is_older(latest[row]) or not is_older(record):
            latest[row] = record
    return [record for (case, identity), record in latest.items() if identity is not None or newest[case] is record]


def _tabulate_family(family: str, records: Sequence[Record], declared: Mapping[str, Workload], claims: Claims, twins: frozenset[str]) -> Table:
    ranks = rank_by_quality(records, {name: workload.target for name, workload in declared.items()})
    read = [identify_data(record, twins) for record in records]
    versions = Counter(name for _, name in {(data.sha256, data.name) for data in read if data})
    rows: list[tuple[tuple[object, ...], Row]] = []
    for index, (record, data) in enumerate(zip(records, read, strict=True)):
        workload = declared.get(record.case.workload)
        cells = _fill_cells(record, workload.target if workload else None, claims)
        cells["data"] = escape_text(data.spell(ambiguous=versions[data.name] > 1)) if data else ""
        rank = ranks.get(index)
        row = Row(record, rank, cells | {"rank": str(rank) if rank else ""}, _spell_reason(record))
        rows.append((_place(record, rank, data), row))
    named = {record.case.workload for record in records}
    ordered = [row for _, row in sorted(rows, key=lambda placed: placed[0])]
    return Table(family, [workload for name, workload in declared.items() if name in named], ordered)


def _place(record: Record, rank: Rank | None, data: Data | None) -> tuple[object, ...]:
    case, problem = record.case, identify_problem(record)
    quality = (0, rank.metric, rank.position, rank.key) if rank else (1, "", 0, 0.0)
    group = (PRESETS.index(case.preset), data is None, data or (), PHASES.index(case.phase), not any(problem), problem)
    return (*group, quality, case.case.id, name_device(record), age(record))


def _fill_cells(record: Record, target: Target | None, claims: Claims) -> dict[str, str]:
    case = record.case
    key = record.comparability
    batch = record.conditions.get("batch", key.batch if key else None)
    attention = record.conditions.get("attention", key.attention if key else None)
    judged = _judge_target(record, target, claims)
    cells = {
        "workload/variant": escape_text(f"{case.workload}/{case.variant}"),
        "phase": str(case.phase),
        "division": str(case.division),
        "preset": str(case.preset),
        "test": escape_text(spell_problem(record), 100),
        "device": escape_text(name_device(record), 60) if record.machine else "",
        "image": escape_text(name_image(record)),
        "source": "older" if is_older(record) else "",
        "precision": str(case.precision),
        "attention": "" if attention is None else escape_text(str(attention), 40),
        "batch": "" if batch is None else escape_text(str(batch), 12),
        "quality": _spell_quality(record, target),
        "to documented s": _spell_moment(record, judged),
        "documented": _spell_documented(judged),
        "outcome": _spell_outcome(record),
    }
    return cells | {column: _spell_measured(record.measurements.get(name), divisor) for column, (name, divisor) in MEASURED.items()}


def _spell_measured(quantity: Quantity | None, divisor: float) -> str:
    return "" if quantity is None else format_interval(quantity, divisor)


def _spell_quality(record: Record, target: Target | None) -> str:
    quantity = record.quality.get(target.metric) if target else None
    if target is None or quantity is None:
        return ""
    if quantity.value is None:
        return f"no {escape_text(target.metric)}: {escape_text(quantity.reason or '', 60)}"
    weights = " (random weights)" if record.conditions.get("weights") == "random" else ""  # of a model that is published with trained ones
    return f"{escape_text(target.metric)} {format_interval(quantity)}{weights}"


def _judge_target(record: Record, target: Target | None, claims: Claims) -> list[Judgement]:
    """What this one record says of the documented values of the metric that ranks it."""
    if target is None or target.metric not in record.quality:
        return []
    about = [c for c in claims.claim if (c.workload, c.metric) == (record.case.workload, target.metric) and c.variant in (None, record.case.variant)]
    judgements = judge(claims.model_copy(update={"claim": tuple(about)}), [record])
    return [judgement for judgement in judgements if judgement.verdict is not ClaimVerdict.NOT_RUN]


def _spell_documented(judged: Sequence[Judgement]) -> str:
    """The documented value and its verdict; where no claim may be compared with the record, the range of them."""
    for judgement in judged:
        if judgement.verdict is not ClaimVerdict.NOT_COMPARABLE:
            return f"{format_documented(judgement.claim.value)}, {judgement.verdict}"
    values = [format_documented(value) for value in sorted({j.claim.value for j in judged})]
    return f"{' to '.join(values[:: max(1, len(values) - 1)])}, {ClaimVerdict.NOT_COMPARABLE}" if values else ""


def _spell_moment(record: Record, judged: Sequence[Judgement]) -> str:
    """When training first reached the documented quality; only documented conditions have one to wait for."""
    for judgement in judged:
        if judgement.verdict is not ClaimVerdict.NOT_COMPARABLE and f"test_{judgement.claim.metric}" in record.curves:
            moment = find_moment(judgement.claim, record)
            return format_number(moment.seconds) if moment else "not reached"
    return ""


def name_image(record: Record) -> str:
    """The first twelve digits of the image's digest, as container tools show it, and the line of software; empty for a run outside both."""
    digest = record.environment.image_digest if record.environment else None
    parts = (digest.removeprefix("sha256:")[:12] if digest else "", name_line(record) or "")
    return ", ".join(part for part in parts if part)


def _spell_outcome(record: Record) -> str:
    if not record.emulated:
        return str(record.outcome)
    return "emulated" if record.outcome is Outcome.OK else f"{record.outcome}, emulated"


def _spell_reason(record: Record) -> str:
    emulated = Markup("emulated: ") + escape_text("; ".join(record.emulated), LINE_LENGTH) if record.emulated else ""
    reason = "" if record.outcome is Outcome.OK else escape_text(record.reason or "", LINE_LENGTH)
    beside = Markup("beside other runs on its machine: ") + escape_text("; ".join(record.beside), LINE_LENGTH) if record.beside else ""
    return Markup("; ").join(part for part in (reason, emulated, beside) if part)  # a plain text's join would be escaped again


def _introduce(workload: Workload) -> dict[str, object]:
    target = workload.target
    return {
        "name": escape_text(workload.name),
        "summary": escape_text(workload.summary, 300).rstrip("."),
        "metric": escape_text(target.metric),
        "better": "higher is better" if target.higher_is_better else "lower is better",
    }
