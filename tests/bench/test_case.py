import math
from dataclasses import replace

import pytest

from assay.bench.case import Case, Division, Phase, Precision, Preset, Quantity, UsageError

CASE = Case("affinity-v2", "documented", Phase.TRAIN, Preset.SMOKE, Division.CLOSED, Precision.FP32)


def test_id_and_parse_are_inverse() -> None:
    assert CASE.id == "affinity-v2/documented/train/smoke/closed/fp32"
    assert Case.parse(CASE.id) == CASE


@pytest.mark.parametrize("text", ["affinity-v2", "a/b/c/d/e/f", "a/b/train/smoke/closed/fp8", "a/b/train/smoke/closed/fp32/x"])
def test_bad_ids_are_refused_with_the_remedy(text: str) -> None:
    with pytest.raises(UsageError, match="python -m bench list"):
        Case.parse(text)


@pytest.mark.parametrize("field", ["value", "low", "high"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_quantity_is_finite(field: str, number: float) -> None:
    with pytest.raises(ValueError, match="must be finite"):
        replace(Quantity(1.0, "s"), **{field: number})  # type: ignore[arg-type]


def test_a_quantity_has_a_value_or_a_reason() -> None:
    assert Quantity.missing("J", "counter unsupported").reason == "counter unsupported"
    with pytest.raises(ValueError, match="a value or a reason"):
        Quantity(None, "J")
    with pytest.raises(ValueError, match="a value or a reason"):
        Quantity(1.0, "J", reason="why then?")
