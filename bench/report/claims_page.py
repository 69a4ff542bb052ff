"""The claims report: every documented number beside the measured one, with a verdict and its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from assay.bench.case import ClaimVerdict
from assay.bench.claims.conditions import name_device
from assay.bench.claims.documented import ClaimKind
from assay.bench.claims.judgement import Judgement
from assay.bench.formatting.markdown import LINE_LENGTH, escape_text, format_table
from assay.bench.formatting.numbers import format_documented, format_interval
from assay.bench.report.fits import Cell, FitRow
from assay.bench.report.links import link_record
from assay.bench.report.paraphrase import paraphrase
from assay.bench.report.templates import render_template

COLUMNS = ("claim", "metric", "documented", "measured", "verdict")


def render_claims(judgements: Sequence[Judgement], fits: Sequence[FitRow] = (), words: Mapping[str, str] = MappingProxyType({})) -> str:
    """The page as Markdown, in the order of the claims file, the same bytes for the same judgements.

    fits: what fits where; words: metric -> how a sentence calls it.
    """
    workloads = list(dict.fromkeys(judgement.claim.workload for judgement in judgements))
    grouped = {name: [judgement for judgement in judgements if judgement.claim.workload == name] for name in workloads}
    sections = [
        {
            "workload": escape_text(name),
            "table": format_table(COLUMNS, [_spell_row(judgement) for judgement in group], right=frozenset({"documented", "measured"})),
            "entries": [_spell_entry(judgement, words) for judgement in group],
        }
        for name, group in grouped.items()
    ]
    summary = [(escape_text(name), *_count(group)) for name, group in grouped.items()]
    columns = ("workload", *ClaimVerdict, "claims")
    table = format_table(columns, [*summary, ("all", *_count(judgements))], right=frozenset(columns[1:]))
    found = [_spell_fit(row.model, cell) for row in fits for cell in row.cells if cell.record]
    return render_template("claims.md.j2", {"summary": table, "sections": sections, "fits": _tabulate_fits(fits), "found": found})


def _count(judgements: Sequence[Judgement]) -> list[str]:
    found = Counter(judgement.verdict for judgement in judgements)
    return [*(str(found[verdict] or "") for verdict in ClaimVerdict), str(len(judgements))]


def _spell_row(judgement: Judgement) -> tuple[str, ...]:
    claim, measured = judgement.claim, judgement.measured
    value = "" if measured is None else format_interval(measured)
    if value and judgement.twin:
        value += " (twin)"
    return (escape_text(claim.id), escape_text(claim.metric), format_documented(claim.value), value, str(judgement.verdict))


def _tabulate_fits(fits: Sequence[FitRow]) -> str:
    gpus = list(dict.fromkeys(cell.gpu for row in fits for cell in row.cells))
    lines: list[tuple[str, ...]] = []
    for row in fits:
        cells = {cell.gpu: cell.documented if cell.record is None else f"{cell.documented}: {cell.verdict}" for cell in row.cells}
        lines.append((escape_text(row.model), *(cells.get(gpu, "") for gpu in gpus)))
    return format_table(("model", *map(escape_text, gpus)), lines) if lines else ""


def _spell_fit(model: str, cell: Cell) -> dict[str, object]:
    link = link_record(cell.record) if cell.record else ""
    where = f"{model} on {cell.gpu}"
    return {"where": escape_text(where), "documented": cell.documented, "verdict": cell.verdict, "found": _spell_sentence(cell.found), "link": link}


def _spell_entry(judgement: Judgement, words: Mapping[str, str]) -> dict[str, object]:
    claim = judgement.claim
    return {
        "id": escape_text(claim.id),
        "kind": claim.kind,
        "verdict": judgement.verdict,
        "claimed": _spell_sentence(paraphrase(claim, words)),
        "reason": _spell_sentence(judgement.reason),
        "where": _spell_where(judgement),
        "link": link_record(judgement.record) if judgement.record else "",
        "source": _spell_sentence(claim.source),
        "note": _spell_sentence(claim.note) if claim.note else "",
    }


def _spell_where(judgement: Judgement) -> str:
    """Where the number beside a claim was measured; the reason of a judged claim names it already."""
    measured, record = judgement.measured, judgement.record
    if record is None or measured is None or measured.value is None or judgement.verdict is not ClaimVerdict.NOT_COMPARABLE:
        return ""
    return _spell_sentence(name_device(record)) if judgement.claim.kind is not ClaimKind.FACT else ""


def _spell_sentence(text: str) -> str:
    return escape_text(text.rstrip(" ."), LINE_LENGTH)
