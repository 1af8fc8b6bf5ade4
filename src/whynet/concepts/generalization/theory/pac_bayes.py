"""What training data guarantee of a network with noise in its weights: the PAC-Bayes bound.

For a prior P that the data did not choose, with probability at least 1 − δ over n independent
examples, for all posteriors Q at once (Langford and Seeger 2001; constant of Maurer 2004, n ≥ 8):
kl(mean error of Q on the examples ‖ true mean error of Q) ≤ (KL(Q‖P) + ln(2√n / δ)) / n.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from whynet.core.errors import InputError
from whynet.core.measurement import Prediction, Quantity
from whynet.core.outcome import NotApplicable
from whynet.numerics.kl_inverse import Floats, kl_inverse_upper
from whynet.numerics.union_price import union_price

FEWEST = 8
"""Examples from which Maurer's constant holds."""

STEPS, FARTHEST = 32, 1024
"""Widths of the prior in an octave, and the largest index of one, in both directions."""

SAMPLED = 0.5
"""Share of delta that pays for drawing weights instead of integrating over them."""

UNKNOWN_PRIOR = (
    "This does not apply: the weights before training are not known, and a prior around other "
    "weights would have seen the data."
)


def divergence(distance: float, parameters: int, posterior: ArrayLike, prior: ArrayLike) -> Floats:
    """KL(N(w, σ²I) ‖ N(w₀, s²I)) in nats, in closed form.

    Args:
        distance: Euclidean distance of w from w₀.
        parameters: dimension d.
        posterior: σ, above 0.
        prior: s, above 0, in the unit of σ and of the distance.

    Raises:
        InputError: an argument is out of range.

    """
    sigma, width = np.asarray(posterior, np.float64), np.asarray(prior, np.float64)
    for name, values in (("posterior", sigma), ("prior", width)):
        if not bool((values > 0).all()):
            raise InputError(name, str(values), "standard deviations above 0")
    if not (distance >= 0 and parameters >= 1):
        found = f"distance {distance} in {parameters} dimensions"
        raise InputError("distance", found, "a distance of at least 0 in at least 1 dimension")
    ratio = (sigma / width) ** 2
    whole = parameters * (ratio - 1 - np.log(ratio)) + (distance / width) ** 2
    return np.asarray(whole / 2)


def cheapest_prior(
    distance: float, parameters: int, posterior: float, unit: float
) -> tuple[float, float]:
    """Choose the prior's width on the grid unit · 2^(j/32); pay for the choice by a union bound.

    Args:
        distance: of the trained from the initial weights.
        parameters: how many there are.
        posterior: standard deviation of the noise.
        unit: width at j = 0; the data must not have chosen it.

    Returns:
        The width, and what it costs: the divergence and the price of its index, in nats.

    """
    indices = np.arange(-FARTHEST, FARTHEST + 1)
    widths = unit * 2.0 ** (indices / STEPS)
    costs = divergence(distance, parameters, posterior, widths) + union_price(indices)
    best = int(costs.argmin())
    return float(widths[best]), float(costs[best])


def bound(error: ArrayLike, cost: ArrayLike, examples: int, delta: float) -> Floats:
    """Bound the true mean error of the posterior by the inverse of kl.

    Args:
        error: mean error of the posterior on the examples, or an upper bound of it.
        cost: KL(Q‖P), and what was paid for choosing the prior.
        examples: rows the error was counted on, at least 8.
        delta: chance that the bound is wrong.

    Raises:
        InputError: an argument is out of range.

    """
    _check_delta(delta)
    if examples < FEWEST:
        raise InputError("examples", str(examples), f"at least {FEWEST}")
    paid = np.asarray(cost, np.float64) + math.log(2 * math.sqrt(examples) / delta)
    return kl_inverse_upper(error, paid / examples)


def sampled_error(error: ArrayLike, draws: int, delta: float) -> Floats:
    """Bound the posterior's mean error on the examples by that of independent draws of weights.

    Args:
        error: mean over draws of a share of mistakes in [0, 1].
        draws: how many.
        delta: chance that the bound is wrong.

    Raises:
        InputError: an argument is out of range.

    """
    _check_delta(delta)
    if draws < 1:
        raise InputError("draws", str(draws), "at least 1")
    return kl_inverse_upper(error, math.log(1 / delta) / draws)


def predict(
    *,
    noise: ArrayLike,
    perturbed_error: ArrayLike,
    draws: int,
    distance: float | None,
    parameters: int,
    unit: float,
    examples: int,
    delta: float,
) -> Prediction | NotApplicable:
    """Bound the true error of the network with Gaussian noise in its weights.

    Half of delta pays for drawing weights, shared by all sizes of the noise; the other half is
    paid once, since the bound holds for all posteriors.

    Args:
        noise: sizes of the noise in units of `unit`, on a grid that was fixed in advance.
        perturbed_error: mean error on the training data for each of them.
        draws: independent draws of weights behind each.
        distance: of the trained from the initial weights; None where those are unknown.
        parameters: how many parameters carry noise.
        unit: a width that the data did not choose, such as the root mean square of the initial
            weights.
        examples: rows of training data.
        delta: chance that one of these bounds is wrong.

    Returns:
        Over `noise`: `error`, the measured one, its upper end the bound; `cost` in nats and
        `prior` in units of `unit`. NotApplicable without initial weights or with too few rows.

    Raises:
        InputError: an argument is out of range.

    """
    if distance is None:
        return NotApplicable(UNKNOWN_PRIOR)
    if examples < FEWEST:
        return NotApplicable(
            f"This does not apply: {examples} training rows are fewer than {FEWEST}."
        )
    sizes = np.atleast_1d(np.asarray(noise, np.float64))
    errors = np.atleast_1d(np.asarray(perturbed_error, np.float64))
    chosen = [cheapest_prior(distance, parameters, float(s) * unit, unit) for s in sizes]
    costs = np.array([cost for _, cost in chosen])
    empirical = sampled_error(errors, draws, SAMPLED * delta / len(sizes))
    bounds = bound(empirical, costs, examples, (1 - SAMPLED) * delta)
    return Prediction.of(
        {
            "error": _error(errors, bounds, 1 - delta),
            "cost": Quantity(costs, dims=("noise",), unit="nats", how="KL and price of the prior"),
            "prior": Quantity(np.array([s / unit for s, _ in chosen]), dims=("noise",)),
        },
        coords={"noise": sizes},
        cites=("mcallester1999", "langford2001", "maurer2004", "dziugaite2017"),
    )


def _error(errors: Floats, bounds: Floats, level: float) -> Quantity:
    return Quantity(
        errors,
        np.zeros_like(errors),
        bounds,
        dims=("noise",),
        unit="fraction",
        kind="certified",
        level=level,
        how="PAC-Bayes, inverse of kl",
        over="training examples and draws of weights",
    )


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError("delta", str(delta), "a number between 0 and 1")
