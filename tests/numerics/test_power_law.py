"""Continuing a curve: exact curves are found, noisy ones covered, other forms refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from whynet.core.estimate import Estimate
from whynet.numerics.power_law import Continuation, continuation

SIZES = np.array([0.125, 0.25, 0.5, 1.0])
CURVES = [(0.0, 0.03, 0.5), (0.02, 0.01, 1.0), (0.05, 0.0, 1.0), (0.1, 0.05, 0.3), (0.2, 0.4, 1.7)]


def heights(offset: float, factor: float, exponent: float) -> np.ndarray:
    return offset + factor * SIZES**-exponent


def around(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half, "indicative")


def continued(values: np.ndarray, error: float) -> Continuation | None:
    """Continue means whose errors are independent and of a known size."""
    reach = float(stats.norm.ppf(1 - 0.025 / len(values)))
    falls = [around(gap, reach * error * 2**0.5) for gap in -np.diff(values)]
    return continuation(falls, around(values[-1], reach * error))


@pytest.mark.parametrize(("offset", "factor", "exponent"), CURVES)
def test_exact_curves_are_found(offset: float, factor: float, exponent: float) -> None:
    found = continued(heights(offset, factor, exponent), 1e-5)
    assert found is not None
    assert found.fall[0] == pytest.approx(factor * (1 - 2**-exponent), rel=0.01, abs=1e-5)
    if factor:
        assert found.exponent[0] == pytest.approx(exponent, rel=0.05)
        assert found.offset[0] == pytest.approx(offset, abs=0.01)
        assert found.factor[0] == pytest.approx(factor, abs=0.01)


@pytest.mark.parametrize("error", [0.001, 0.01])
@pytest.mark.parametrize(("offset", "factor", "exponent"), CURVES)
def test_coverage(offset: float, factor: float, exponent: float, error: float) -> None:
    random, hits, draws = np.random.default_rng(2), 0, 300
    truth = {
        "fall": factor * (1 - 2**-exponent), "offset": offset, "factor": factor,
        "exponent": exponent,
    }  # fmt: skip
    for _ in range(draws):
        noise = error * random.standard_normal(len(SIZES))
        found = continued(heights(offset, factor, exponent) + noise, error)
        inside = [
            found is not None and low - 1e-12 <= truth[name] <= high + 1e-12
            for name in truth
            if name != "exponent" or factor  # a flat curve has none
            for _, low, high in [getattr(found, name) if found else (0, 1, 0)]
        ]
        hits += all(inside)
    assert hits >= draws * 0.95 - 3 * (draws * 0.05 * 0.95) ** 0.5


def test_values_lie_inside_their_bounds() -> None:
    random = np.random.default_rng(8)
    for _ in range(200):
        found = continued(random.random(4), 0.2)
        if found is not None:
            for value, low, high in (found.fall, found.offset, found.factor, found.exponent):
                assert low <= value <= high


def test_what_falls_faster_and_faster_is_no_such_curve() -> None:
    assert continued(np.array([0.9, 0.8, 0.6, 0.2]), 0.001) is None
    assert continued(np.array([0.9, 0.8, 0.6, 0.2]), 0.5) is not None


def test_no_more_can_fall_than_is_left() -> None:
    found = continued(np.array([0.5, 0.3, 0.15, 0.02]), 0.2)
    assert found is not None
    reach = float(stats.norm.ppf(1 - 0.025 / 4))
    assert found.fall[2] <= 0.02 + reach * 0.2
