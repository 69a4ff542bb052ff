"""The claims report as people see it."""

from collections.abc import Callable

import pytest

from assay.bench.case import ClaimVerdict, Quantity
from assay.bench.claims.documented import Claims
from assay.bench.claims.judgement import Judgement, judge
from assay.bench.records.record import Record
from assay.bench.report.claims_page import render_claims
from assay.bench.report.fits import compare_fits


def test_golden_page(records: list[Record], claims: Claims, golden: Callable[[str, str], None]) -> None:
    golden(render_claims(judge(claims, records), compare_fits(claims, records), claims.words), "claims.md")


def test_counts_add_up_by_workload_and_verdict(claims: Claims) -> None:
    verdicts = (ClaimVerdict.REPRODUCED, ClaimVerdict.CONTRADICTED, ClaimVerdict.CONTRADICTED, ClaimVerdict.REPRODUCED, ClaimVerdict.NOT_RUN)
    page = render_claims([Judgement(claim, verdict, None, None, "because") for claim, verdict in zip(claims.claim, verdicts, strict=True)])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith(("| workload", "| affinity-v1 ", "| splice", "| all"))]
    assert lines[0] == ["workload", "reproduced", "contradicted", "not run", "claims"]
    assert lines[1] == ["affinity-v1", "2", "2", "", "4"]
    assert lines[2] == ["splice-validated", "", "", "1", "1"]
    assert lines[3] == ["all", "2", "2", "1", "5"]


def test_every_claim_gives_reason_source_and_note(claims: Claims, records: list[Record]) -> None:
    page = render_claims(judge(claims, records))
    assert "* **affinity-v1-params** (fact, contradicted): 78,000 documented, 72,449 computed. Record [0000](runs/20240102-a40-documented/0000-" in page
    assert "The document gives parameters of 78,000 for affinity-v1. Source: 004, v1 column. Note: exactly 72,449 with batch norm." in page
    assert "Source: 004: 31 minutes.\n" in page
    assert r"Source: 000 \| a table." in page


def test_a_number_that_was_not_judged_says_where_and_on_what_it_was_measured(claims: Claims, make_record: Callable[..., Record]) -> None:
    page = render_claims(judge(claims, [make_record(quality={"rmse": Quantity(0.36, "pKd", 100, 0.35, 0.37)}, facts={"parameters": 7})]))
    values = [[cell.strip() for cell in line.split("|")[3:6]] for line in page.splitlines() if line.startswith(("| affinity-v1-rmse", "| affinity-v1-params"))]
    assert values == [["1.4761", "0.360 [0.350, 0.370] (twin)", "not comparable"], ["78,000", "7", "contradicted"]]
    assert page.count("not recorded. Measured on CPU (Intel Xeon 6230). Record [0000]") == 2


@pytest.mark.parametrize("active", ["<script>", "\x1b[31m", "\u202e", "\n# x"])
def test_reason_from_a_hostile_record_shows_as_text(claims: Claims, active: str) -> None:
    page = render_claims([Judgement(claims.claim[0], ClaimVerdict.NOT_RUN, None, None, f"oom: {active * 1000}")])
    assert active not in page
    assert len(page) < 3000
