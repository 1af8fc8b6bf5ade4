"""Covariance of the outputs and tangent kernel of fully connected networks without end of width.

A layer computes `z = σ_w W h / √fan + σ_b b` with standard normal `W` and `b`; the output is one
more such layer. Lee et al. 2018 (arXiv:1711.00165) for the covariance, Jacot et al. 2018
(arXiv:1806.07572) for the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from whynet.numerics import gaussian_averages as gaussian

Array = NDArray[Any]
Averages = Callable[[Array], tuple[Array, Array]]
"""From a covariance `[..., n, n]` of `z`: `E[φ(z)φ(z')]` and `E[φ'(z)φ'(z')]`, entry by entry."""


@dataclass(frozen=True)
class WideKernels:
    """What initial networks tend to.

    Attributes:
        covariance: of the outputs, `[..., n, n]`.
        tangent: the tangent kernel, `[..., n, n]`.

    """

    covariance: Array
    tangent: Array


def _of_pairs(averages: gaussian.Averages) -> Averages:
    def entries(covariance: Array) -> tuple[Array, Array]:
        sizes = np.diagonal(covariance, axis1=-2, axis2=-1)
        return averages(sizes[..., :, None], sizes[..., None, :], covariance)

    return entries


relu_averages: Final = _of_pairs(gaussian.CLOSED["relu"])
"""Averages of the rectified linear unit."""

erf_averages: Final = _of_pairs(gaussian.CLOSED["erf"])
"""Averages of the error function."""

AVERAGES: Final[dict[str, Averages]] = {"relu": relu_averages, "erf": erf_averages}


def wide_kernels(
    inputs: Array,
    depth: int,
    activation: str = "relu",
    *,
    weight_scale: float = 2.0**0.5,
    bias_scale: float = 0.0,
) -> WideKernels:
    """Return covariance and tangent kernel of networks of many hidden units.

    With `K⁰ = Θ⁰ = σ_w² x·x'/d + σ_b²`, every hidden layer maps
    `K → σ_w² E[φφ'] + σ_b²` and `Θ → K_next + σ_w² Θ E[φ'φ']`, entry by entry.

    Args:
        inputs: `[..., n, d]`.
        depth: hidden layers.
        activation: `relu` or `erf`.
        weight_scale: `σ_w`.
        bias_scale: `σ_b`.

    """
    x = np.asarray(inputs, dtype=np.float64)
    covariance = weight_scale**2 * (x @ x.swapaxes(-1, -2)) / x.shape[-1] + bias_scale**2
    tangent = covariance
    for _ in range(depth):
        values, slopes = AVERAGES[activation](covariance)
        covariance = weight_scale**2 * values + bias_scale**2
        tangent = covariance + weight_scale**2 * tangent * slopes
    return WideKernels(covariance, tangent)


def relu_fourth_moment(width: int, depth: int) -> float:
    """Return the fourth moment of one output over three times its squared variance.

    For rectified linear units without biases, `σ_w² = 2`: given the units below, an output is
    Gaussian, and its variance is a product over hidden layers of independent averages of
    `2 max(g, 0)²` over `width` standard normals, of mean 1 and variance `5/width` each. Hence
    `(1 + 5/width)^depth`, exactly, at every width; 1 is a Gaussian's.
    """
    return float((1 + 5 / width) ** depth)
