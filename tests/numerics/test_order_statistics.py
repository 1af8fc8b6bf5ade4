"""The median between order statistics: coverage, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.numerics.order_statistics import median_interval


@pytest.mark.parametrize(("count", "place"), [(6, 0), (8, 0), (9, 1), (10, 1), (20, 5)])
def test_the_ends_are_those_of_the_tables(count: int, place: int) -> None:
    found = median_interval(np.arange(count)[::-1])
    assert (found.low, found.high) == (place, count - 1 - place)
    assert found.value == (count - 1) / 2


def test_too_few_draws_leave_the_whole_line() -> None:
    found = median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.low, found.high, found.value) == (-math.inf, math.inf, 3.0)
    assert math.isinf(median_interval(np.arange(7), level=0.99).high)


@pytest.mark.parametrize("count", [6, 10, 25])
def test_it_covers_the_median_of_a_skewed_distribution(count: int) -> None:
    generator = np.random.default_rng(0)
    rows = np.exp(2 * generator.standard_normal((1000, count)))
    found = [median_interval(row) for row in rows]
    assert np.mean([e.low <= 1 <= e.high for e in found]) >= 0.93


def test_infinite_draws_are_draws_and_others_are_refused() -> None:
    assert median_interval([1.0] * 9 + [math.inf]).high == 1.0
    for values in ([], [math.nan], [[1.0]]):
        with pytest.raises(InputError, match="row of numbers"):
            median_interval(values)
    with pytest.raises(InputError, match="level"):
        median_interval([1.0], level=1.0)
