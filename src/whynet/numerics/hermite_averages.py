"""Gaussian averages of pairs of activations without a closed form, with a bound on their error.

By Mehler's formula, with `c_k(a)` the coefficients of `φ(√a z)` in normalized Hermite polynomials,

    E[φ(z) φ(z')] = Σ_k c_k(a) c_k(b) ρ^k,    ρ = c/√(ab).

What is left out after `terms` coefficients is at most the root of the product of the two tails,
`E φ(√a z)² − Σ c_k(a)²` each, whatever the correlation. The average of the slopes is the same sum
for the derivative of the activation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[[Array], Array]

NODES = 2000
"""Points of the rule that coefficients are computed with, equally spaced."""

REACH = 12.0
"""Standard deviations that it reaches: beyond, a normal density is below 1e-31."""

TERMS = 160
"""Coefficients that are kept."""

ROUND_OFF = 1e-14
"""Share of the mean square below which a tail cannot be told from round-off."""


@dataclass(frozen=True)
class Series:
    """Averages of an activation by its Hermite coefficients.

    Attributes:
        value: the activation, elementwise.
        slope: its derivative.
        terms: coefficients that are kept.

    """

    value: Function
    slope: Function
    terms: int = TERMS

    def averages(self, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
        """Return both averages for variances a and b and covariances c, broadcast together."""
        scale = np.sqrt(a * b)
        correlation = np.clip(c / np.where(scale > 0, scale, 1.0), -1.0, 1.0)
        return (
            self._sum(self.value, a, b, correlation),
            self._sum(self.slope, a, b, correlation),
        )

    def error(self, variances: Array) -> tuple[float, float]:
        """Return bounds on what both averages leave out, for variances among these."""
        return tuple(  # type: ignore[return-value]
            float(np.max(_tail(function, np.unique(variances), self.terms)))
            for function in (self.value, self.slope)
        )

    def _sum(self, function: Function, a: Array, b: Array, correlation: Array) -> Array:
        left, right = (_coefficients(function, v, self.terms)[0] for v in (a, b))
        total = np.zeros(np.broadcast_shapes(a.shape, b.shape, correlation.shape))
        for one, other in zip(reversed(left), reversed(right), strict=True):  # Horner
            total *= correlation
            total += one * other
        return total


@cache
def _rule(terms: int) -> tuple[Array, Array]:
    """Return points and `[terms, points]` weights times normalized Hermite polynomials.

    Equally spaced points are exact to round-off for analytic functions under a normal density, and
    their products of high degree do not overflow as those of a Gauss rule would.
    """
    points = np.linspace(-REACH, REACH, NODES)
    weights = np.exp(-(points**2) / 2) / np.sqrt(2 * np.pi) * (points[1] - points[0])
    rows = np.zeros((terms, NODES))
    rows[0] = np.sqrt(weights)
    rows[1] = points * rows[0]
    for k in range(1, terms - 1):
        rows[k + 1] = (points * rows[k] - np.sqrt(k) * rows[k - 1]) / np.sqrt(k + 1)
    return points, rows * np.sqrt(weights)


def _coefficients(function: Function, variances: Array, terms: int) -> tuple[Array, Array]:
    """Return coefficients `[terms, ...]` and the mean square, for each variance."""
    flat, places = np.unique(variances, return_inverse=True)
    points, rows = _rule(terms)
    values = function(np.sqrt(flat)[:, None] * points)
    found = rows @ values.T
    square = (values**2) @ rows[0]
    return (
        found[:, places].reshape(terms, *variances.shape),
        square[places].reshape(variances.shape),
    )


def _tail(function: Function, variances: Array, terms: int) -> Array:
    found, square = _coefficients(function, variances, terms)
    return np.asarray(np.maximum(square - (found**2).sum(0), ROUND_OFF * square))
