from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whynet.core.estimate import Estimate, format_interval, format_number


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9781, "fraction", "97.8 %"),
        (1.0, "fraction", "100.0 %"),
        (0.0, "fraction", "0.0 %"),
        (-0.05, "fraction", "−5.0 %"),
        (0.0, "", "0"),
        (3.0, "", "3"),
        (3.0, "count", "3"),
        (3.0, "ratio", "3"),
        (0.693147, "nats", "0.693"),
        (2.5, "pixels", "2.50 pixels"),
        (123456.0, "", "123,456"),
        (123456.7, "", "123,457"),
        (-0.00123456, "", "−0.00123"),
        (0.00001234, "", "1.23e−05"),
        (4.56e12, "", "4.56e+12"),
        (math.nan, "", "not finite"),
        (math.inf, "", "∞"),
        (-math.inf, "fraction", "−∞"),
    ],
)
def test_numbers_are_written_for_a_reader(value: float, unit: str, text: str) -> None:
    assert format_number(value, unit) == text


@given(st.floats(allow_nan=True, allow_infinity=True), st.integers(1, 6))
def test_every_number_can_be_written_and_none_has_a_hyphen_for_a_minus(
    value: float, digits: int
) -> None:
    text = format_number(value, digits=digits)
    assert text
    assert "-" not in text


@given(st.floats(1e-4, 1e6))
def test_what_is_written_is_the_number_to_three_digits(value: float) -> None:
    read = float(format_number(value).replace(",", ""))
    assert math.isclose(read, value, rel_tol=6e-3)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.978, 0.960, 0.989, "interval", unit="fraction"), "97.8 % [96.0, 98.9]"),
        (Estimate(0.5, 0.5, 0.5, "exact", unit="fraction"), "50.0 %"),
        (Estimate(1.5, 1.25, 2.0, "indicative", unit="nats"), "1.50 [1.25, 2]"),
        (Estimate(1.5, -1.25, 2.5, "certified", unit="pixels"), "1.50 pixels [−1.25, 2.50]"),
        (Estimate(1.0, 0.0, math.inf, "certified"), "1 [0, ∞]"),
    ],
)
def test_intervals_stand_beside_their_number(estimate: Estimate, text: str) -> None:
    assert format_interval(estimate) == text


def test_width_and_the_band_it_leaves() -> None:
    estimate = Estimate(2.0, 1.0, 3.0, "interval")
    assert estimate.width == 2.0
    assert estimate.excludes(3.5, 4.0)
    assert estimate.excludes(0.0, 0.5)
    assert not estimate.excludes(3.0, 4.0)
    assert not estimate.excludes(0.0, 10.0)


def test_beside_a_column_of_units_a_number_bears_none_but_percent() -> None:
    assert format_interval(Estimate(22, 20, 25, "interval", unit="rows")) == "22 rows [20, 25]"
    assert format_interval(Estimate(22, 20, 25, "interval", unit="rows"), unit=False) == (
        "22 [20, 25]"
    )
    share = Estimate(0.5, 0.4, 0.6, "interval", unit="fraction")
    assert format_interval(share, unit=False) == format_interval(share)


def test_ends_as_good_as_equal_are_written_so() -> None:
    close = Estimate(0.7342482, 0.73424815, 0.73424825, "certified")
    assert format_interval(close) == "0.734 [0.734, 0.734]"
