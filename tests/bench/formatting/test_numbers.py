"""How figures are shown."""

from decimal import Decimal

import pytest

from assay.bench.case import Quantity
from assay.bench.formatting.numbers import format_documented, format_duration, format_interval, format_number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (15_970_819.0, "15,970,819"), (0.391234, "0.3912"), (12_345.6, "12,350"), (-0.0712, "-0.07120"), (0.00001234, "1.234e-05"), (1e300, "1e+300"), (99.996, "100.00")],
)
def test_whole_numbers_in_full_and_others_to_four_digits(value: float, shown: str) -> None:
    assert format_number(value) == shown


@pytest.mark.parametrize(
    ("value", "low", "high", "shown"),
    [
        (0.391234, 0.38512, 0.39788, "0.391 [0.385, 0.398]"),
        (12_345.6, 12_001.0, 12_700.0, "12,350 [12,000, 12,700]"),
        (0.0, -0.04, 0.03, "0.000 [-0.040, 0.030]"),
        (382.6, 41.2, 11_012.0, "380 [40, 11,010]"),  # a few slow rounds must not round the median away
        (0.152, -0.67, 0.63, "0.15 [-0.67, 0.63]"),
        (5.0, 5.0, 5.0, "5 [5, 5]"),
        (1e20, -1e308, 1e308, "1e+20 [-1e+308, 1e+308]"),
    ],
)
def test_interval_decides_the_digits(value: float, low: float, high: float, shown: str) -> None:
    assert format_interval(Quantity(value, "", 10, low, high)) == shown


def test_quantities_without_interval_or_value() -> None:
    assert format_interval(Quantity(2.5e9, "bytes"), divide_by=1e9) == "2.500"
    assert format_interval(Quantity.missing("bytes", "no GPU")) == ""


@pytest.mark.parametrize(("text", "shown"), [("3000000", "3,000,000"), ("0.140", "0.140"), ("1.0", "1.0"), ("-0.07", "-0.07"), ("1E+20", "1e+20")])
def test_documented_numbers_keep_their_digits(text: str, shown: str) -> None:
    assert format_documented(Decimal(text)) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (99.4, "99 s"), (100.0, "2 min"), (5940.0, "99 min"), (5970.0, "1.7 h")])
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown
