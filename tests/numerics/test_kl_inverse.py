"""The inverse of kl against 50 digits, closed forms and the coins it speaks of."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy import stats

from whynet.core.errors import InputError
from whynet.numerics.kl_inverse import coin_divergence, kl_inverse_lower, kl_inverse_upper
from whynet.numerics.union_price import union_price


def by_digits(q: str, budget: str) -> float:
    """Bisect kl(q‖p) = budget in decimals of 50 digits."""
    with localcontext() as context:
        context.prec = 50
        share, nats = Decimal(q), Decimal(budget)
        low, high = share, Decimal(1)
        for _ in range(150):
            p = (low + high) / 2
            whole = Decimal(0)
            if share > 0:
                whole += share * (share / p).ln()
            if share < 1:
                whole += (1 - share) * ((1 - share) / (1 - p)).ln()
            low, high = (p, high) if whole <= nats else (low, p)
        return float(high)


@pytest.mark.parametrize("budget", ["0.000001", "0.003", "0.2", "2.5", "12"])
@pytest.mark.parametrize("q", ["0", "0.0005", "0.03", "0.25", "0.5", "0.9", "0.999"])
def test_against_fifty_digits(q: str, budget: str) -> None:
    found = float(kl_inverse_upper(float(q), float(budget)))
    assert found == pytest.approx(by_digits(q, budget), rel=1e-8, abs=1e-12)


def test_closed_forms() -> None:
    budgets = np.array([0.0, 1e-6, 0.01, 1.0, 30.0])
    np.testing.assert_allclose(
        kl_inverse_upper(0.0, budgets), -np.expm1(-budgets), rtol=1e-9, atol=1e-15
    )
    np.testing.assert_array_equal(kl_inverse_upper(1.0, budgets), 1.0)
    np.testing.assert_allclose(kl_inverse_upper([0.0, 0.3, 0.7], 0.0), [0, 0.3, 0.7], atol=2e-8)
    # kl(1/2 ‖ p) = -ln(4 p (1 - p)) / 2.
    np.testing.assert_allclose(
        kl_inverse_upper(0.5, budgets), 0.5 + 0.5 * np.sqrt(-np.expm1(-2 * budgets)), rtol=1e-7
    )
    assert coin_divergence(0.3, 0.3) == 0
    assert coin_divergence(0.3, 0.0) == math.inf


def test_it_is_an_inverse_a_mirror_and_below_pinsker() -> None:
    q, budget = np.meshgrid(np.linspace(0, 0.9, 37), np.geomspace(1e-4, 1, 20))
    upper, lower = kl_inverse_upper(q, budget), kl_inverse_lower(1 - q, budget)
    np.testing.assert_allclose(coin_divergence(q, upper), budget, rtol=1e-6)
    np.testing.assert_allclose(lower, 1 - upper, atol=1e-12)
    assert (upper <= q + np.sqrt(budget / 2) + 1e-12).all()
    assert (np.diff(upper, axis=0) >= 0).all()
    assert (np.diff(upper, axis=1) >= 0).all()


def test_it_is_a_little_above_clopper_pearson() -> None:
    for errors in (0, 3, 40):
        exact = float(stats.beta.ppf(0.95, errors + 1, 200 - errors))
        bound = float(kl_inverse_upper(errors / 200, math.log(20) / 200))
        assert exact * (1 - 1e-9) <= bound <= 1.35 * exact


@pytest.mark.parametrize("arguments", [(-0.1, 1.0), (1.1, 1.0), (0.5, -1.0), (math.nan, 1.0)])
def test_refusals(arguments: tuple[float, float]) -> None:
    with pytest.raises(InputError):
        kl_inverse_upper(*arguments)


def test_prices_are_those_of_probabilities_that_sum_to_one() -> None:
    indices = np.arange(-200_000, 200_001)
    assert np.exp(-union_price(indices)).sum() == pytest.approx(1, abs=1e-5)
    assert float(union_price(0)) == pytest.approx(math.log(3))
