"""The schema: what a record must say."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from assay.bench.case import Case, Outcome, Quantity
from assay.bench.records.record import CaseFields, Comparability, Record, export_schema
from tests.conftest import ROOT

HASH = "0" * 64


def draft(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "run": "r",
        "sequence": 0,
        "case": CaseFields.of(Case.parse("affinity-v2/documented/train/smoke/closed/fp32")),
        "outcome": Outcome.OK,
        "started": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "ended": datetime(2024, 1, 2, 3, 5, 5, tzinfo=UTC),
        "profile": "cpu",
        "measurements": {"samples_per_s": Quantity(100.0, "pairs/s", 10, 95.0, 105.0, "median of rounds")},
    }
    return Record.model_validate(fields | changes)


class TestSchema:
    def test_exported_schema_in_the_repository_is_in_step_with_the_code(self) -> None:
        assert (ROOT / "results" / "record.schema.json").read_text() == export_schema(), (
            'the record schema changed: refresh its export with `python -c "from assay.bench.records.record import export_schema; print(export_schema(), end=str())" > results/record.schema.json`'
        )

    def test_exported_schema_accepts_written_records_and_refuses_unknown_fields(self) -> None:
        schema = json.loads(export_schema())
        content = json.loads(draft().model_dump_json())
        jsonschema.validate(content, schema)
        with pytest.raises(jsonschema.ValidationError, match="surprise"):
            jsonschema.validate(content | {"surprise": 1}, schema)

    @pytest.mark.parametrize(("outcome", "reason"), [(Outcome.OK, "but why"), *((outcome, None) for outcome in Outcome if outcome is not Outcome.OK)])
    def test_every_outcome_but_ok_carries_a_reason(self, outcome: Outcome, reason: str | None) -> None:
        with pytest.raises(ValidationError, match="every outcome but ok carries a reason"):
            draft(outcome=outcome, reason=reason)

    def test_times_carry_their_zone(self) -> None:
        with pytest.raises(ValidationError, match="timezone"):
            draft(started=datetime(2024, 1, 2))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    @pytest.mark.parametrize(("field", "wrap"), [("facts", lambda x: {"a": x}), ("conditions", lambda x: {"a": x}), ("recipe", lambda x: {"a": [x]}), ("curves", lambda x: {"a": [1, x]})])
    def test_json_has_no_nan_and_no_infinity(self, field: str, wrap: Callable[[float], object], bad: float) -> None:
        with pytest.raises(ValidationError):
            draft(**{field: wrap(bad)})

    def test_equal_keys_mean_comparable_and_differences_are_named(self) -> None:
        ours = Comparability(
            case="c", declaration_sha256=HASH, dataset="abag", dataset_sha256=HASH, environment="e", device="NVIDIA A40", device_memory_gib=45, threads=1, seed=1, batch=128, torch="2.13"
        )
        same, other = ours.model_copy(), ours.model_copy(update={"batch": 64, "driver": "570"})
        assert ours.key == same.key != other.key
        assert len(ours.key) == 16
        assert ours.differences(same) == []
        assert ours.differences(other) == ["batch: 128 -> 64", "driver: None -> 570"]
