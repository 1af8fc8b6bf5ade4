"""Regimes of two-layer rectified networks as the width grows, from two exponents of their start.

A network `f(x) = Σ a_k (w_k·x)₊` of width m starts with independent Gaussian entries of deviations
`β₁` (a) and `β₂` (w). With `β₁ β₂ = m^-γ` and `β₁ / β₂ = m^-γ'`, gradient flow on a squared loss
moves the input weights by a relative distance that, as m grows, vanishes (linear regime), diverges
(condensed) or does neither (critical).

Source: Luo, Xu, Ma and Zhang (2021), arXiv 2007.07497, Theorems 1 and 2 and their phase diagram;
the slopes are a scaling argument, and no theorem.
"""

from __future__ import annotations

import math


def boundary(gamma_prime: float) -> float:
    """Return the γ at which the regimes meet: linear below it, condensed above.

    >>> boundary(-1.0), boundary(0.5)
    (1.0, 1.5)
    """
    return 1.0 + max(gamma_prime, 0.0)


def slope(gamma: float, gamma_prime: float) -> float:
    """Return the exponent of the relative distance in the width that scaling suggests.

    Linear: `γ - 1 - 2 max(γ', 0)` left of γ = 1, `2 (γ - 1 - γ')` from there on. Condensed:
    `min(γ - 1, (γ - 1 - γ') / 2)`, as balanced growth needs. Only its sign is a theorem.

    >>> slope(0.5, 0.0), slope(1.5, 0.0), slope(2.0, 1.0)
    (-0.5, 0.25, 0.0)
    """
    if gamma < 1:
        return gamma - 1 - 2 * max(gamma_prime, 0.0)
    if gamma > boundary(gamma_prime):
        return min(gamma - 1, (gamma - 1 - gamma_prime) / 2)
    return min(0.0, 2 * (gamma - 1 - gamma_prime))


def scales(gamma: float, gamma_prime: float, width: float) -> tuple[float, float]:
    """Return the deviations of output and input weights at a width.

    >>> scales(1.0, 1.0, 100.0)
    (0.01, 1.0)
    """
    return width ** (-(gamma + gamma_prime) / 2), width ** (-(gamma - gamma_prime) / 2)


def exponents(output: float, inner: float, width: float) -> tuple[float, float]:
    """Return `-log κ / log m` and `-log κ' / log m` of one network, which name no regime.

    >>> [round(x, 12) for x in exponents(*scales(1.25, -0.5, 300.0), 300.0)]
    [1.25, -0.5]
    """
    size = math.log(width)
    return -math.log(output * inner) / size, -math.log(output / inner) / size
