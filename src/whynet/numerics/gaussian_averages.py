"""Gaussian averages of pairs of activations, and of their slopes, in closed form.

For (z, z') normal with variances a and b and covariance c: `E[φ(z) φ(z')]` and `E[φ'(z) φ'(z')]`.
By Price's theorem the second is the derivative of the first with respect to c.

Rectified linear: Cho and Saul 2009. Error function: Williams 1998. Sine: from the characteristic
function (Rahimi and Recht 2007). GELU: Tsuchida et al. 2021 (arXiv:2002.08517), by Stein's lemma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from whynet.numerics.arc_cosine import kappa0, kappa1

Array = NDArray[Any]
Averages = Callable[[Array, Array, Array], tuple[Array, Array]]
"""Variances a, b and covariance c, broadcast together, to both averages."""


def leaky_relu(slope: float) -> Averages:
    """Return the averages of `max(z, 0) + slope min(z, 0)`.

    It is `slope z + (1 − slope) max(z, 0)`; `E[z max(z', 0)] = c/2`.
    """

    def averages(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
        # the root of the product is exact for equal variances, so that the cosine is exactly 1
        scale = np.sqrt(a * b)
        cosine = c / np.where(scale > 0, scale, 1.0)
        bent = (1 - slope) ** 2 / 2
        values = slope * c + bent * scale * kappa1(cosine)
        return values, slope + bent * kappa0(cosine)

    return averages


def identity(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return the averages of `z` itself."""
    return c, np.ones_like(c)


def erf(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return the averages of the error function."""
    product = (1 + 2 * a) * (1 + 2 * b)
    values = 2 / np.pi * np.arcsin(2 * c / np.sqrt(product))
    return values, 4 / np.pi / np.sqrt(product - 4 * c**2)


def sine(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return the averages of the sine."""
    near = np.exp(c - (a + b) / 2) / 2
    far = np.exp(-c - (a + b) / 2) / 2
    return near - far, near + far


def cosine(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return the averages of the cosine."""
    near = np.exp(c - (a + b) / 2) / 2
    far = np.exp(-c - (a + b) / 2) / 2
    return near + far, near - far


def gelu(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Return the averages of `z Φ(z)`, Φ the normal distribution function.

    With `G = 1/(2π √((1+a)(1+b) − c²))` and `P = E[Φ(z)Φ(z')]`, Stein's lemma gives
    `c P + G (ab + c² (1 − ab)/((1+a)(1+b)))`.
    """
    product = (1 + a) * (1 + b)
    rest = product - c**2
    density = 1 / (2 * np.pi * np.sqrt(rest))
    both = 0.25 + np.arcsin(c / np.sqrt(product)) / (2 * np.pi)
    values = c * both + density * (a * b + c**2 * (1 - a * b) / product)
    slopes = both + density * c * (1 / (1 + a) + 1 / (1 + b) + 1 / rest)
    return values, slopes


CLOSED: Final[dict[str, Averages]] = {
    "relu": leaky_relu(0.0),
    "abs": leaky_relu(-1.0),
    "linear": identity,
    "erf": erf,
    "sin": sine,
    "cos": cosine,
    "gelu": gelu,
}
"""Closed forms by name; `leaky_relu` takes its slope."""
