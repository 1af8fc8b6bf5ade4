"""Bounds by closed forms, and by simulation where the true risk is known; mutants are caught."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import special, stats

from whynet.concepts.generalization.theory import norm_bounds, pac_bayes, test_set_bound
from whynet.core.errors import InputError
from whynet.core.measurement import Prediction
from whynet.core.outcome import NotApplicable
from whynet.numerics.kl_inverse import kl_inverse_upper

DELTA, REPEATS = 0.05, 2000


def too_often(violations: int, repeats: int = REPEATS, delta: float = DELTA) -> bool:
    """Whether a binomial test says that more than delta of the bounds are wrong."""
    test = stats.binomtest(violations, repeats, delta, alternative="greater")
    return bool(test.pvalue < 1e-3)


# ---- the test-set bound -------------------------------------------------------------------

TRUE, ROWS = 0.1, 400
TestSet = Callable[[int, int, float], float]
TEST_SET_MUTANTS: dict[str, TestSet] = {
    "delta dropped": lambda errors, n, delta: errors / n,
    "n for its root": lambda errors, n, delta: test_set_bound.upper(errors * n, n * n, delta),
    "the other tail": lambda errors, n, delta: test_set_bound.upper(errors, n, 0.4),
}


def violations_on_test_sets(bound: TestSet) -> tuple[int, float]:
    """Return how often the bound is below the truth, and its mean."""
    counts = np.random.default_rng(0).binomial(ROWS, TRUE, REPEATS)
    table = {int(k): bound(int(k), ROWS, DELTA) for k in np.unique(counts)}
    bounds = np.array([table[int(k)] for k in counts])
    return int((bounds < TRUE).sum()), float(bounds.mean())


def test_the_test_set_bound_is_valid_and_near_the_truth() -> None:
    violations, mean = violations_on_test_sets(test_set_bound.upper)
    assert not too_often(violations)
    assert violations > DELTA / 4 * REPEATS
    assert mean < 2 * TRUE


@pytest.mark.parametrize("mutant", TEST_SET_MUTANTS)
def test_mutants_of_the_test_set_bound_are_caught(mutant: str) -> None:
    assert too_often(violations_on_test_sets(TEST_SET_MUTANTS[mutant])[0])


def test_the_test_set_bound_by_hand() -> None:
    # No mistake in n rows: (1 - p)^n = delta.
    assert test_set_bound.upper(0, 50, 0.05) == pytest.approx(1 - 0.05 ** (1 / 50), rel=1e-9)
    predicted = test_set_bound.predict(3, 100, 0.05).estimate("error")
    assert (predicted.low, predicted.value, predicted.level) == (0.0, 0.03, 0.95)
    assert stats.binom.cdf(3, 100, predicted.high) == pytest.approx(0.05)
    with pytest.raises(InputError, match="delta"):
        test_set_bound.upper(3, 100, 0.5)


# ---- PAC-Bayes ----------------------------------------------------------------------------


def test_divergence_is_that_of_normal_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    w, start = torch.randn(2, 7, generator=generator, dtype=torch.float64)
    for sigma, width in ((0.3, 0.8), (1.0, 1.0), (2.0, 0.1)):
        by_torch = torch.distributions.kl_divergence(
            torch.distributions.Normal(w, sigma), torch.distributions.Normal(start, width)
        ).sum()
        found = pac_bayes.divergence(float((w - start).norm()), 7, sigma, width)
        assert float(found) == pytest.approx(float(by_torch), rel=1e-12)
    assert float(pac_bayes.divergence(0.0, 9, 0.5, 0.5)) == 0.0
    assert float(pac_bayes.divergence(3.0, 9, 0.5, 0.5)) == pytest.approx(9 / (2 * 0.25))


def test_the_prior_is_the_best_of_its_grid_and_paid() -> None:
    width, cost = pac_bayes.cheapest_prior(4.0, 1000, 0.1, 0.2)
    best = math.sqrt(0.1**2 + 16 / 1000)
    free = float(pac_bayes.divergence(4.0, 1000, 0.1, best))
    assert width == pytest.approx(best, rel=0.03)
    assert free + math.log(3) <= cost <= free + 12
    index = round(32 * math.log2(width / 0.2))
    assert width == pytest.approx(0.2 * 2 ** (index / 32), rel=1e-12)
    price = math.log(1.5 * (abs(index) + 1) * (abs(index) + 2))
    assert cost == pytest.approx(float(pac_bayes.divergence(4.0, 1000, 0.1, width)) + price)


def test_the_bound_by_hand() -> None:
    budget = (3.0 + math.log(2 * 10 / 0.05)) / 100
    assert float(pac_bayes.bound(0.0, 3.0, 100, 0.05)) == pytest.approx(1 - math.exp(-budget))
    assert float(pac_bayes.sampled_error(0.0, 20, 0.05)) == pytest.approx(1 - 0.05 ** (1 / 20))


Bound = Callable[[np.ndarray, float, int, float], np.ndarray]
MUTANTS: dict[str, Bound] = {
    "delta dropped": lambda error, cost, n, delta: kl_inverse_upper(error, cost / n),
    "n for its root": lambda error, cost, n, delta: pac_bayes.bound(error, cost, n * n, delta),
}


def fixed_violations(bound: Bound) -> tuple[int, float]:
    """Posterior equal to the prior: nothing is paid, so that the bound comes near the truth."""
    errors = np.random.default_rng(1).binomial(ROWS, 2 * TRUE, REPEATS) / ROWS
    bounds = bound(errors, 0.0, ROWS, DELTA)
    return int((bounds < 2 * TRUE).sum()), float(bounds.mean())


def test_pac_bayes_is_valid_and_within_twice_the_truth() -> None:
    violations, mean = fixed_violations(pac_bayes.bound)
    assert not too_often(violations)
    assert mean < 2 * (2 * TRUE)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_pac_bayes_are_caught(mutant: str) -> None:
    assert too_often(fixed_violations(MUTANTS[mutant])[0])


def learned_violations(peek: bool, repeats: int = 1000) -> tuple[int, float]:
    """Fit coin-flip labels; the noisy halfspace's true error is a sum of normal integrals.

    Weights are the mean of y x over 60 rows in 200 dimensions, from initial weights of zero; the
    error under noise is estimated from 200 draws of a row and weights. A prior that peeks is one
    around the trained weights.
    """
    features, rows, draws, population = 200, 60, 200, 2000
    random = np.random.default_rng(2)
    points = random.standard_normal((population, features))
    signs = random.choice([-1.0, 1.0], population)
    lengths = np.sqrt((points**2).sum(1))
    sigma, violations, total = 0.05, 0, 0.0
    for _ in range(repeats):
        chosen = random.integers(population, size=rows)
        weight = (signs[chosen, None] * points[chosen]).mean(0)
        chances = special.ndtr(-signs * (points @ weight) / (sigma * lengths))
        drawn = chances[random.choice(chosen, draws)]
        predicted = pac_bayes.predict(
            noise=[1.0],
            perturbed_error=[(random.random(draws) < drawn).mean()],
            draws=draws,
            distance=0.0 if peek else float(np.sqrt((weight**2).sum())),
            parameters=features,
            unit=sigma,
            examples=rows,
            delta=DELTA,
        )
        assert isinstance(predicted, Prediction)
        bound = predicted.estimate("error", noise=1.0).high
        violations += int(bound < chances.mean())
        total += bound
    return violations, total / repeats


def test_pac_bayes_holds_for_learned_weights() -> None:
    violations, _ = learned_violations(peek=False)
    assert not too_often(violations, 1000)


def test_a_prior_that_peeks_is_caught() -> None:
    violations, _ = learned_violations(peek=True)
    assert too_often(violations, 1000)


def pac(noise: list[float], distance: float | None = 1.0, examples: int = 900) -> object:
    return pac_bayes.predict(
        noise=noise, perturbed_error=[0.1, 0.3][: len(noise)], draws=50, distance=distance,
        parameters=10, unit=0.3, examples=examples, delta=DELTA,
    )  # fmt: skip


def test_delta_pays_for_every_size_of_the_noise() -> None:
    one, two = pac([1.0]), pac([1.0, 2.0])
    assert isinstance(one, Prediction)
    assert isinstance(two, Prediction)
    assert two.estimate("error", noise=1.0).high > one.estimate("error", noise=1.0).high
    empirical = kl_inverse_upper(0.1, math.log(1 / (DELTA / 4)) / 50)
    _, cost = pac_bayes.cheapest_prior(1.0, 10, 0.3, 0.3)
    by_hand = kl_inverse_upper(empirical, (cost + math.log(2 * 30 / (DELTA / 2))) / 900)
    assert two.estimate("error", noise=1.0).high == pytest.approx(float(by_hand))


def test_refused_without_initial_weights() -> None:
    assert pac([1.0], distance=None) == NotApplicable(pac_bayes.UNKNOWN_PRIOR)
    assert "weights before training are not known" in pac_bayes.UNKNOWN_PRIOR
    assert isinstance(pac([1.0], examples=7), NotApplicable)


# ---- norms --------------------------------------------------------------------------------


def test_complexity_by_hand() -> None:
    # One layer: R is the distance. The identity of R² has two rows of length 1.
    assert norm_bounds.spectral_complexity([1.0], [2.0]) == pytest.approx(2.0)
    # Two layers with b = s: R = s1 s2 (1 + 1)^{3/2}.
    found = norm_bounds.spectral_complexity([2.0, 3.0], [2.0, 3.0])
    assert found == pytest.approx(6 * 2**1.5)
    # Balanced rescaling of two layers leaves it alone.
    assert norm_bounds.spectral_complexity([4.0, 1.5], [4.0, 1.5]) == pytest.approx(found)


def test_the_norm_bound_by_hand() -> None:
    n, delta = 10**12, 0.05
    predicted = norm_bounds.predict(
        spectral=[1.0], distances=[2.0], input_norm=math.sqrt(n), width=2, margins=[1.0, 2.0],
        margin_errors=[0.01, 0.9], examples=n, delta=delta,
    )  # fmt: skip
    # s = 2^0, b = 2^(8/8), margin = 2^0: prices of the whole numbers 0, 8 and 0.
    price = math.log(3) + math.log(1.5 * 9 * 10) + math.log(3)
    by_hand = (
        0.01
        + 8 * n**-1.5
        + 72 * math.sqrt(n) * math.sqrt(math.log(8)) * 2 * math.log(n) / n
        + 3 * math.sqrt((math.log(2 / delta) + price) / (2 * n))
    )
    assert predicted.estimate("error").high == pytest.approx(by_hand, rel=1e-9)
    assert predicted.estimate("margin").value == 1.0
    assert predicted.estimate("complexity").value == pytest.approx(2.0)


def test_norms_are_rounded_up_to_the_grid() -> None:
    found, price = norm_bounds.rounded_up([1.01, 0.0])
    np.testing.assert_allclose(found, [2 ** (1 / 8), 2.0**-64])
    assert price > math.log(1.5 * 2 * 3)
    norms = np.geomspace(1e-9, 1e9, 500)
    assert (norm_bounds.rounded_up(norms)[0] >= norms).all()


def test_a_vacuous_norm_bound_says_by_how_much() -> None:
    predicted = norm_bounds.predict(
        spectral=[3.0, 4.0], distances=[20.0, 9.0], input_norm=100.0, width=64,
        margins=[1.0, 8.0, 2.0**20], margin_errors=[0.0, 0.3, 1.0], examples=1000, delta=0.05,
    )  # fmt: skip
    assert predicted.estimate("error").high > 100
    assert predicted.estimate("margin").value == 8.0


def test_margins_must_be_a_grid() -> None:
    with pytest.raises(InputError, match="powers of two"):
        norm_bounds.predict(
            spectral=[1.0], distances=[1.0], input_norm=1.0, width=2, margins=[0.3],
            margin_errors=[0.0], examples=10, delta=0.05,
        )  # fmt: skip
