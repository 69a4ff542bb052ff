"""Claims as sentences."""

from decimal import Decimal

import pytest

from assay.bench.checkout import PUBLISHED
from assay.bench.claims.documented import CLAIMS_FILE, Claim, load_claims
from assay.bench.report.paraphrase import paraphrase

FIELDS = {"id": "a", "workload": "splice-validated", "metric": "pearson_sa", "value": Decimal("0.140"), "direction": "higher", "kind": "measured", "source": "000"}


def test_conditions_come_in_reading_order_with_the_digits_of_the_document() -> None:
    claim = Claim.model_validate(FIELDS | {"where": {"gpu": "A40", "triton": "2", "n_train": 22132, "variant": "full", "dataset": "splicevardb"}})
    assert paraphrase(claim, {"pearson_sa": "a Pearson r"}) == (
        "The document reports a Pearson r of 0.140 for splice-validated, variant full, on splicevardb, 22,132 training rows, on A40, triton 2"
    )


@pytest.mark.parametrize(("kind", "verb"), [("measured", "reports"), ("estimate", "expects"), ("fact", "gives")])
def test_the_verb_says_where_the_number_comes_from(kind: str, verb: str) -> None:
    assert paraphrase(Claim.model_validate(FIELDS | {"kind": kind}), {}) == f"The document {verb} pearson_sa of 0.140 for splice-validated"


def test_every_metric_that_the_project_judges_has_words() -> None:
    claims = load_claims(PUBLISHED / CLAIMS_FILE)
    assert {claim.metric for claim in claims.claim} == set(claims.words)
