"""The claims and the table of what fits where, as the page's template shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from assay.bench.case import ClaimVerdict
from assay.bench.claims.conditions import name_device
from assay.bench.claims.judgement import Judgement
from assay.bench.formatting.markdown import clean_text
from assay.bench.formatting.numbers import format_documented, format_interval
from assay.bench.records.record import Record
from assay.bench.report.fits import FitRow
from assay.bench.report.page.payload import Json, round_quantity
from assay.bench.report.paraphrase import paraphrase

ORDER = (
    *(ClaimVerdict.CONTRADICTED, ClaimVerdict.MISSED, ClaimVerdict.EXCEEDED, ClaimVerdict.REPRODUCED),
    *(ClaimVerdict.NOT_COMPARABLE, ClaimVerdict.NOT_RUN),
)


def describe_claims(judgements: Sequence[Judgement], words: Mapping[str, str]) -> list[dict[str, object]]:
    """One entry for every claim, those that do not hold first; text is cleaned here and escaped by the template."""
    return [_describe_claim(judgement, words) for judgement in sorted(judgements, key=lambda judgement: ORDER.index(judgement.verdict))]


def _describe_claim(judgement: Judgement, words: Mapping[str, str]) -> dict[str, object]:
    claim, record = judgement.claim, judgement.record
    return {
        "id": claim.id,
        "workload": clean_text(claim.workload),
        "said": clean_text(paraphrase(claim, words), 400),
        "source": clean_text(claim.source, 400).rstrip("."),
        "note": clean_text(claim.note or "", 400).rstrip("."),
        "kind": claim.kind,
        "documented": format_documented(claim.value),
        "measured": "" if judgement.measured is None else format_interval(judgement.measured),
        "where": clean_text(name_device(record)) if record else "",
        "twin": judgement.twin,
        "verdict": judgement.verdict,
        "reason": clean_text(judgement.reason, 400).rstrip("."),
        "anchor": anchor(record) if record else "",
    }


def describe_fits(fits: Sequence[FitRow]) -> dict[str, object]:
    """The documents' table: GPUs as columns, models as rows."""
    gpus = list(dict.fromkeys(cell.gpu for row in fits for cell in row.cells))
    rows = []
    for row in fits:
        by_gpu = {cell.gpu: cell for cell in row.cells}
        cells = [
            None if (cell := by_gpu.get(gpu)) is None else {
                "documented": cell.documented,
                "verdict": "" if cell.verdict is ClaimVerdict.NOT_RUN else cell.verdict,
                "found": clean_text(cell.found, 300),
                "anchor": anchor(cell.record) if cell.record else "",
            }
            for gpu in gpus
        ]
        rows.append({"model": clean_text(row.model), "cells": cells})
    return {"gpus": [clean_text(gpu) for gpu in gpus], "rows": rows}


def plot_claims(judgements: Sequence[Judgement]) -> list[Json]:
    """[id, workload, metric, documented, value, low, high, verdict] of every claim beside which something was measured."""
    points: list[Json] = []
    for judgement in judgements:
        value, low, high = round_quantity(judgement.measured)
        if value is not None:
            claim = judgement.claim
            points.append([claim.id, clean_text(claim.workload), clean_text(claim.metric), float(claim.value), value, low, high, judgement.verdict])
    return points


def anchor(record: Record) -> str:
    """The fragment of the page that opens a record, spelled as the browser's encodeURIComponent spells it."""
    run = quote(clean_text(record.run, 300), safe="!'()*~")
    return f"#record/{run}/{record.sequence}"
