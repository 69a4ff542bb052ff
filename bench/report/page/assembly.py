"""Puts the page together: rows, plots' data, claims, style and scripts in one file that needs no other."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from assay.bench.case import ClaimVerdict
from assay.bench.claims.documented import Claims
from assay.bench.claims.judgement import Judgement, judge
from assay.bench.exchange.imports import Imported
from assay.bench.formatting.markdown import clean_text
from assay.bench.profiles import load_profiles
from assay.bench.records.comparability import is_older
from assay.bench.records.index import age
from assay.bench.records.record import Record
from assay.bench.registry import load_workloads
from assay.bench.report.data_names import name_data
from assay.bench.report.fits import compare_fits
from assay.bench.report.leaderboard import tabulate_records
from assay.bench.report.page.claims_section import ORDER, describe_claims, describe_fits, plot_claims
from assay.bench.report.page.history import Passage
from assay.bench.report.page.imports_section import describe_imports
from assay.bench.report.page.payload import ELEMENT, Json, Pool, fill_blocks, pack, pack_text, round_quantity, thin_curve
from assay.bench.report.page.rows import QUANTITY_COLUMNS, Detail, Row, tell_columns, tell_detail
from assay.bench.report.page.script import load_plot_script
from assay.bench.report.ranking import Rank

PAGE_BYTES = 2_000_000
MAX_ROWS = 10_000
BLOCK = 200  # records whose details are packed, and opened, together
MAX_CURVES, CURVE_POINTS = 8, 40
CURVES_SHARE = 5  # a fifth of the room is theirs when details would take all of it
ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("format.js", "store.js", "table.js", "record.js", "plots.js", "figures.js", "main.js")


def render_page(records: Sequence[Record], claims: Claims, history: Sequence[Passage] = (), imports: Sequence[Imported] = ()) -> str:
    """The page as HTML, the same bytes for the same input. All records below MAX_ROWS have a row; details and curves fill what PAGE_BYTES leaves.

    The order, and so what stays when room is short: the leaderboard's rows first, then older records, newest first.
    """
    rows = _order_rows(records, claims)
    shown = rows[:MAX_ROWS]
    judgements = judge(claims, records)
    core: dict[str, Json] = {"profiles": _tell_profiles(), "claims": plot_claims(judgements), "history": _tell_history(history), **_pool_columns(shown)}
    values = {
        "claims": describe_claims(judgements, claims.words),
        "fits": describe_fits(compare_fits(claims, records)),
        "imports": describe_imports(imports),
        "verdicts": [(verdict, count) for verdict in ORDER if (count := Counter(j.verdict for j in judgements)[verdict])],
        "facts": _summarise(shown, len(records), judgements),
    }
    return _fill_page(values, core, shown)


def _fill_page(values: Mapping[str, object], core: dict[str, Json], rows: Sequence[Row]) -> str:
    data: dict[str, object] = {"plots": pack_text(load_plot_script()), "core": "", "details": [], "curves": []}
    core_size = len(pack(core | {"detailed": len(rows), "curved": len(rows), "block": BLOCK}))
    room = PAGE_BYTES - len(_render(values, data).encode()) - core_size - 1000
    curves, _ = _fill_curves(rows, room // CURVES_SHARE)
    details, detailed = fill_blocks(rows, lambda chunk: _pool_details([tell_detail(row) for row in chunk]), BLOCK, room - _measure(curves))
    curves, curved = _fill_curves(rows, room - _measure(details))
    data |= {"core": pack(core | {"detailed": detailed, "curved": curved, "block": BLOCK}), "details": details, "curves": curves}
    return _render(values, data)


def _fill_curves(rows: Sequence[Row], room: int) -> tuple[list[str], int]:
    return fill_blocks(rows, lambda chunk: [_thin_curves(row.record) for row in chunk], BLOCK, room)


def _measure(blocks: Sequence[str]) -> int:
    return sum(len(block) + ELEMENT for block in blocks)


def _render(values: Mapping[str, object], data: Mapping[str, object]) -> str:
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    script = "(() => {\n'use strict';\n" + "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS) + "})();\n"
    policy = {"script": [_hash(script), _hash(load_plot_script())], "style": _hash(style)}
    engine = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    own = {"style": Markup(style), "script": Markup(script)}  # noqa: S704  # files of this folder
    return engine.get_template("page.html.j2").render({**values, **own, "data": data, "policy": policy})


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _order_rows(records: Sequence[Record], claims: Claims) -> list[Row]:
    known = {r.dataset.sha256: r.synthetic for r in records if r.dataset}
    declared = load_workloads()

    families = {name: workload.family for name, workload in declared.items()}
    placed = [(table.family, row) for table in tabulate_records(records, claims) for row in table.rows]
    taken = {(row.record.run, row.record.sequence) for _, row in placed}
    older = [(families.get(r.case.workload, "other workloads"), r) for r in records if (r.run, r.sequence) not in taken]
    older.sort(key=lambda other: age(other[1]), reverse=True)
    data = iter(name_data([(family, row.record) for family, row in placed], older))

    def place(record: Record, family: str, cells: Mapping[str, str], *, latest: bool = False, rank: Rank | None = None) -> Row:
        workload = declared.get(record.case.workload)
        if record.dataset is None and record.comparability is not None:  # it failed before it read its data: others tell what that is
            synthetic = known.get(record.comparability.dataset_sha256)
        else:
            synthetic = record.synthetic if record.dataset else None
        target = workload.target if workload else None
        told = (cells.get("documented", ""), cells.get("to documented s", ""))
        return Row(record, family, target, latest, rank, synthetic, next(data), *told, older_source=is_older(record))

    latest = [place(row.record, family, row.cells, latest=True, rank=row.rank) for family, row in placed]
    return [*latest, *(place(record, family, {}) for family, record in older)]


def _pool_columns(rows: Sequence[Row]) -> dict[str, Json]:
    """Text columns as numbers into `pool`; quantities as three lists."""
    pool = Pool()
    told = [tell_columns(row) for row in rows]
    names = [name for name in told[0] if name not in QUANTITY_COLUMNS] if told else []
    columns = {name: [pool.add(cells[name]) if isinstance(cells[name], str) else cells[name] for cells in told] for name in names}
    text = [name for name in names if any(isinstance(cells[name], str) for cells in told)]
    quantities = {name: list(zip(*(cells[name] for cells in told), strict=True)) for name in QUANTITY_COLUMNS} if told else {}
    return {"count": len(rows), "pool": pool.values, "columns": columns, "text": text, "quantities": quantities}


def _pool_details(details: Sequence[Detail]) -> Json:
    pool = Pool()
    items = [
        [
            {name: pool.add(part) for name, part in detail.parts.items() if part},
            [pool.add(line) for line in detail.commands],
            detail.file,
            [[pool.add(meta), *numbers] for meta, *numbers in detail.quantities],
        ]
        for detail in details
    ]
    return {"pool": pool.values, "items": items}


def _thin_curves(record: Record) -> Json:
    curves = list(record.curves.items())[:MAX_CURVES]
    return {clean_text(name, 60): [len(curve), *thin_curve(curve, CURVE_POINTS)] for name, curve in curves if curve}


def _tell_profiles() -> Json:
    return [
        {
            "name": profile.name,
            "title": profile.title,
            "gib": profile.memory_gib,
            "peaks": {precision: figure.value for precision, figure in profile.peak_flops.items()},
            "bandwidth": profile.bandwidth.value if profile.bandwidth else None,
        }
        for profile in load_profiles().values()
    ]


def _tell_history(history: Sequence[Passage]) -> Json:
    return [[p.when.isoformat(), *(clean_text(text, 300) for text in (p.case_id, p.candidate, p.verdict)), *round_quantity(p.ratio)] for p in history]


def _summarise(rows: Sequence[Row], records: int, judgements: Iterable[Judgement]) -> dict[str, object]:
    decided = [j for j in judgements if j.verdict not in (ClaimVerdict.NOT_COMPARABLE, ClaimVerdict.NOT_RUN)]
    return {
        "records": records,
        "rows": len(rows),
        "twins": sum(row.synthetic is True for row in rows),
        "emulated": sum(bool(row.record.emulated) for row in rows),
        "failed": sum(row.record.outcome != "ok" for row in rows),
        "workloads": len({row.record.case.workload for row in rows}),
        "newest": max((row.record.ended for row in rows), default=None),
        "decided": len(decided),
    }
