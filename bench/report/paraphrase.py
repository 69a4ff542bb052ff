"""A documented claim in one plain sentence: what is claimed, how much, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping

from assay.bench.claims.documented import Claim, ClaimKind, Condition
from assay.bench.formatting.numbers import format_documented

_VERBS = {ClaimKind.MEASURED: "reports", ClaimKind.ESTIMATE: "expects", ClaimKind.FACT: "gives"}
_CONDITIONS: Mapping[str, str] = {  # in the order in which a sentence names them
    "variant": "variant {}",
    "phase": "in {}",
    "dataset": "on {}",
    "targets": "with {} targets",
    "weights": "with {} weights",
    "n_train": "{} training rows",
    "n_test": "{} test rows",
    "epochs": "{} epochs",
    "batch": "batch {}",
    "gpu": "on {}",
}


def paraphrase(claim: Claim, words: Mapping[str, str]) -> str:
    """One sentence. words: metric -> how a sentence calls it; a metric without words goes by its own name."""
    named = {key: claim.where[key] for key in (*_CONDITIONS, *claim.where) if key in claim.where}
    conditions = [_CONDITIONS.get(key, key + " {}").format(_spell(value)) for key, value in named.items()]
    what = words.get(claim.metric, claim.metric)
    return f"The document {_VERBS[claim.kind]} {what} of {format_documented(claim.value)} for {', '.join([claim.workload, *conditions])}"


def _spell(value: Condition) -> str:
    return value if isinstance(value, str) else f"{value:,}"
