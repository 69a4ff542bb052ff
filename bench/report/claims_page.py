"""The claims report: every documented number beside the measured one, with a verdict and its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bench.case import ClaimVerdict
from bench.claims import Judgement
from bench.numbers import format_documented, format_interval
from bench.report.markdown import LINE_LENGTH, escape_text, format_table, link_record, render_template

COLUMNS = ("claim", "metric", "documented", "measured", "verdict")


def render_claims(judgements: Sequence[Judgement]) -> str:
    """The page as Markdown, in the order of the claims file, the same bytes for the same judgements."""
    workloads = list(dict.fromkeys(judgement.claim.workload for judgement in judgements))
    grouped = {name: [judgement for judgement in judgements if judgement.claim.workload == name] for name in workloads}
    sections = [
        {
            "workload": escape_text(name),
            "table": format_table(COLUMNS, [_spell_row(judgement) for judgement in group], right=frozenset({"documented", "measured"})),
            "entries": [_spell_entry(judgement) for judgement in group],
        }
        for name, group in grouped.items()
    ]
    summary = [(escape_text(name), *_count(group)) for name, group in grouped.items()]
    columns = ("workload", *ClaimVerdict, "claims")
    table = format_table(columns, [*summary, ("all", *_count(judgements))], right=frozenset(columns[1:]))
    return render_template("claims.md.j2", {"summary": table, "sections": sections})


def _count(judgements: Sequence[Judgement]) -> list[str]:
    found = Counter(judgement.verdict for judgement in judgements)
    return [*(str(found[verdict] or "") for verdict in ClaimVerdict), str(len(judgements))]


def _spell_row(judgement: Judgement) -> tuple[str, ...]:
    claim, measured = judgement.claim, judgement.measured
    value = "" if measured is None else format_interval(measured)
    return (escape_text(claim.id), escape_text(claim.metric), format_documented(claim.value), value, str(judgement.verdict))


def _spell_entry(judgement: Judgement) -> dict[str, object]:
    claim = judgement.claim
    return {
        "id": escape_text(claim.id),
        "kind": claim.kind,
        "verdict": judgement.verdict,
        "reason": _spell_sentence(judgement.reason),
        "link": link_record(judgement.record) if judgement.record else "",
        "source": _spell_sentence(claim.source),
        "note": _spell_sentence(claim.note) if claim.note else "",
    }


def _spell_sentence(text: str) -> str:
    return escape_text(text.rstrip(" ."), LINE_LENGTH)
