"""Eigenvalues of the kernels of two-layer rectified networks, uniform data on circle or sphere.

Functions of the angle alone have the Fourier modes as eigenfunctions on the circle, and the
spherical harmonics on spheres (Basri et al. 2019, arXiv:1906.00425). Kernels are normalized to
`f = √(2/m) Σ a (w·x)₊`, standard normal `a` and `w`, and `|x| = 1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from whynet.numerics.arc_cosine import kappa0, kappa1

Array = NDArray[Any]


def tangent_kernel(cosine: Array, *, bias: bool = False) -> Array:
    """Return the tangent kernel `κ₁(u) + u κ₀(u)`.

    Args:
        cosine: `u`, of the angle between two inputs.
        bias: whether hidden units have trained biases that start at 0, which adds `κ₀(u)`.

    """
    return np.asarray(kappa1(cosine) + (cosine + float(bias)) * kappa0(cosine))


def circle_eigenvalues(frequencies: Array, *, bias: bool = False) -> Array:
    """Return the eigenvalues of the tangent kernel for uniform data on the circle.

    Without biases `2(k² + 3)/(π²(k² − 1)²)` for even `k`, 1/2 for `k = 1`, and 0 for odd `k ≥ 3`:
    such frequencies are not learned at all. Biases add 1/2 at `k = 0`, `2/π²` at `k = 1` and
    `2/(π²k²)` for odd `k ≥ 3`.

    Args:
        frequencies: `k`, whole numbers from 0.
        bias: as in `tangent_kernel`.

    """
    k = np.asarray(frequencies, dtype=np.float64)
    even = k % 2 == 0
    away = np.where(k == 1, 2.0, k)
    value = np.where(even, 2 * (k**2 + 3) / (np.pi**2 * (away**2 - 1) ** 2), 0.0)
    value = np.where(k == 1, 0.5, value)
    if bias:
        odd = 2 / (np.pi**2 * np.maximum(k, 1) ** 2)
        value = value + np.where(even, np.where(k == 0, 0.5, 0.0), odd)
    return np.asarray(value)


def eigenvalues_on_points(frequencies: Array, rows: int, *, bias: bool = False) -> Array:
    """Return the eigenvalues of the tangent kernel for evenly spaced points of the circle.

    Frequencies that differ by multiples of `rows` look alike on the points, and their eigenvalues
    add up: these are the sums over all `circle_eigenvalues` of `|k + j·rows|`. They are computed
    from the kernel itself, whose matrix on the points is circulant.

    Args:
        frequencies: `k`, whole numbers from 0.
        rows: points.
        bias: as in `tangent_kernel`.

    """
    angle = 2 * np.pi * np.arange(rows) / rows
    spectrum = np.fft.fft(tangent_kernel(np.cos(angle), bias=bias)).real / rows
    return np.asarray(spectrum[np.asarray(frequencies) % rows])


def covariance_eigenvalues(frequencies: Array) -> Array:
    """Return the eigenvalues of the covariance of initial outputs, kernel `κ₁`, on the circle.

    `4/(π²(k² − 1)²)` for even `k`, 1/4 for `k = 1`, 0 for odd `k ≥ 3`.
    """
    k = np.asarray(frequencies, dtype=np.float64)
    away = np.where(k == 1, 2.0, k)
    value = np.where(k % 2 == 0, 4 / (np.pi**2 * (away**2 - 1) ** 2), 0.0)
    return np.asarray(np.where(k == 1, 0.25, value))


def sphere_eigenvalue(
    kernel: Callable[[Array], Array], degree: int, dimension: int, nodes: int = 20_000
) -> float:
    """Return an eigenvalue for uniform data on the unit sphere in some dimension (Funk-Hecke).

    Args:
        kernel: function of the cosine.
        degree: of the spherical harmonics.
        dimension: of the space, at least 3.
        nodes: of the midpoint rule over the angle.

    """
    angle = np.pi * (np.arange(nodes) + 0.5) / nodes
    cosine = np.cos(angle)
    order = (dimension - 2) / 2
    polynomial = special.eval_gegenbauer(degree, order, cosine)
    polynomial = polynomial / special.eval_gegenbauer(degree, order, 1.0)
    average = (kernel(cosine) * polynomial * np.sin(angle) ** (dimension - 2)).mean() * np.pi
    logarithm = special.gammaln(dimension / 2) - special.gammaln((dimension - 1) / 2)
    return float(np.exp(logarithm) / np.sqrt(np.pi) * average)


def decay_per_step(eigenvalues: Array, rate: float) -> Array:
    """Return how fast the logarithm of a mode's residual falls in a step of gradient descent.

    Args:
        eigenvalues: of the kernel for the law of the data; loss `½ mean (f − y)²`.
        rate: learning rate.

    """
    return np.asarray(-np.log1p(-rate * np.asarray(eigenvalues, dtype=np.float64)))
