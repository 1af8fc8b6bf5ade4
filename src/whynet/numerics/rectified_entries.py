"""A rectified layer and the dense layer after it, on a tile of kernel entries, in one pass.

The arc cosine is a root times a polynomial, `arccos t = √(1 − t) p(t)` for `0 ≤ t ≤ 1`, right to
1e-13 of itself: neighbors with a cosine near 1 keep their angle, which a plain series of the arc
cosine would lose, and the loop is compiled to vector instructions.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[Any]

DEGREE: Final = 18


def _coefficients() -> Array:
    """Return p in powers of `2 t − 1`, the highest first, by interpolation at Chebyshev points."""
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    t = (nodes + 1) / 2
    # 2 arcsin of a root is the arc cosine without the loss of digits near t = 1
    values = 2 * np.arcsin(np.sqrt((1 - t) / 2)) / np.sqrt(1 - t)
    series = np.polynomial.chebyshev.chebfit(nodes, values, DEGREE)
    return np.polynomial.chebyshev.cheb2poly(series)[::-1].copy()


POLYNOMIAL: Final = tuple(float(value) for value in _coefficients())


@njit(cache=True, fastmath={"contract", "nsz", "arcp", "nnan", "ninf"}, error_model="numpy")
def rectified_then_dense(
    covariance: Array,
    tangent: Array,
    left: Array,
    right: Array,
    slope: float,
    weights: float,
    trained: float,
    bias: float,
    bias_trained: float,
) -> None:
    """Replace entries by those after a (leaky) rectified layer and a dense one, in place.

    Args:
        covariance: `[n, m]` before, float64.
        tangent: `[n, m]` before, float64.
        left: `[n]` variances before.
        right: `[m]` variances before.
        slope: below zero.
        weights: fan-in times squared factor times variance of the weights.
        trained: fan-in times squared factor where the weights are trained, else 0.
        bias: what the bias adds to the covariance.
        bias_trained: what it adds to the tangent kernel.

    """
    bent = (1.0 - slope) * (1.0 - slope) / 2.0
    for i in range(covariance.shape[0]):
        own = left[i]
        for j in range(covariance.shape[1]):
            scale = np.sqrt(own * right[j])
            cosine = covariance[i, j] / max(scale, 1e-300)
            size = min(abs(cosine), 1.0)
            root = np.sqrt(1.0 - size)
            at = 2.0 * size - 1.0
            polynomial = POLYNOMIAL[0]
            polynomial = polynomial * at + POLYNOMIAL[1]
            polynomial = polynomial * at + POLYNOMIAL[2]
            polynomial = polynomial * at + POLYNOMIAL[3]
            polynomial = polynomial * at + POLYNOMIAL[4]
            polynomial = polynomial * at + POLYNOMIAL[5]
            polynomial = polynomial * at + POLYNOMIAL[6]
            polynomial = polynomial * at + POLYNOMIAL[7]
            polynomial = polynomial * at + POLYNOMIAL[8]
            polynomial = polynomial * at + POLYNOMIAL[9]
            polynomial = polynomial * at + POLYNOMIAL[10]
            polynomial = polynomial * at + POLYNOMIAL[11]
            polynomial = polynomial * at + POLYNOMIAL[12]
            polynomial = polynomial * at + POLYNOMIAL[13]
            polynomial = polynomial * at + POLYNOMIAL[14]
            polynomial = polynomial * at + POLYNOMIAL[15]
            polynomial = polynomial * at + POLYNOMIAL[16]
            polynomial = polynomial * at + POLYNOMIAL[17]
            polynomial = polynomial * at + POLYNOMIAL[18]
            angle = root * polynomial
            # what is left of a half turn: the angle of a negative cosine is that of its size
            rest = angle if cosine < 0.0 else np.pi - angle
            inside = min(max(cosine, -1.0), 1.0)
            sine = root * np.sqrt(1.0 + size)
            value = slope * covariance[i, j] + bent * scale * (inside * rest + sine) / np.pi
            moved = tangent[i, j] * (slope + bent * rest / np.pi)
            covariance[i, j] = weights * value + bias
            tangent[i, j] = trained * value + weights * moved + bias_trained
