"""Splines that wide two-layer rectified networks of one input converge to.

Hidden units `(Wx + B)₊` with random `W` and `B`, trained output weights: the network with many
units is the interpolator of least norm in the space of the kernel
`K(x, x') = E[(Wx + B)₊ (Wx' + B)₊]`. Up to the cost of its affine part that is the spline of least
`∫ g''(x)²/ζ(x) dx`, with `ζ(c) = ∫ |w|³ p_W(w) p_B(−cw) dw` (Jin and Montúfar, arXiv:2006.07356).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.numerics.arc_cosine import kappa1

Array = NDArray[Any]
NODES = 12
"""Of Gauss's rule between neighbors among the data and the points that are looked at."""


def gaussian_weight(points: Array, weight: float, bias: float) -> Array:
    """Return `ζ` for normal `W` and `B` of given deviations: `2σ_w³σ_b³/(π(σ_b² + σ_w²c²)²)`."""
    c = np.asarray(points, dtype=np.float64)
    return np.asarray(2 * weight**3 * bias**3 / (np.pi * (bias**2 + weight**2 * c**2) ** 2))


def uniform_weight(points: Array, weight: float, bias: float) -> Array:
    """Return `ζ` for `W` and `B` uniform up to given sizes: `min(a⁴, b⁴/c⁴)/(8ab)`.

    It is constant where `|c| ≤ b/a`: data that lie there give a natural cubic spline.
    """
    far = np.maximum(1.0, weight / bias * np.abs(np.asarray(points, dtype=np.float64)))
    return np.asarray((weight / far) ** 4 / (8 * weight * bias))


def gaussian_kernel(left: Array, right: Array, weight: float, bias: float) -> Array:
    """Return `K` for normal `W` and `B`, `[left, right]`."""
    first, second = (np.stack([weight * x, np.full_like(x, bias)], 1) for x in (left, right))
    sizes = np.linalg.norm(first, axis=1)[:, None] * np.linalg.norm(second, axis=1)
    return np.asarray(sizes * kappa1(first @ second.T / sizes) / 2)


def uniform_kernel(left: Array, right: Array, weight: float, bias: float) -> Array:
    """Return `K` for uniform `W` and `B`, `[left, right]`, for points within `bias/weight`.

    Over `B` the average is that of a cubic between `−W min(x, x')` (or the maximum, for negative
    `W`) and `bias`; over `W` it is a polynomial on each side of 0, so that Gauss's rule is exact.

    Raises:
        ValueError: a point that lies farther out.

    """
    if max(np.abs(left).max(), np.abs(right).max()) > bias / weight * (1 + 1e-12):
        raise ValueError("a point lies where a unit may have its bend outside of all biases")
    x, y = (np.asarray(p, dtype=np.float64) for p in (left[:, None], right[None, :]))
    nodes, shares = np.polynomial.legendre.leggauss(6)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape))
    for sign in (1.0, -1.0):
        for node, share in zip(nodes, shares, strict=True):
            w = sign * weight * (node + 1) / 2
            low = -np.minimum(w * x, w * y)
            p, q = w * x, w * y  # ∫ (b + p)(b + q) db from low to bias
            ends = [b**3 / 3 + (p + q) * b**2 / 2 + p * q * b for b in (bias, low)]
            total += share / 4 * (ends[0] - ends[1]) / (2 * bias)
    return total


def interpolator(kernel: Callable[[Array, Array], Array], data: Array, points: Array) -> Array:
    """Return the kernel interpolator of least norm.

    Args:
        kernel: from two rows of points to their kernel.
        data: `x` and `y`, `[2, n]`.
        points: where it is looked at.

    """
    x, y = np.asarray(data, dtype=np.float64)
    return np.asarray(kernel(points, x) @ np.linalg.solve(kernel(x, x), y))


def weighted_spline(zeta: Callable[[Array], Array], data: Array, points: Array) -> Array:
    """Return the interpolator of least `∫ g''²/ζ`, at points; affine functions cost nothing.

    Its second derivative is `ζ(c) Σ αᵢ (xᵢ − c)₊` with `Σαᵢ = Σαᵢxᵢ = 0`, and so it is
    `Σ αᵢ R(x, xᵢ) + p + qx` with `R(x, x') = ∫ ζ(c) (x − c)₊ (x' − c)₊ dc` over the data's range.
    Constant `ζ` gives the natural cubic spline.

    Args:
        zeta: positive function on the range of the data.
        data: `x` (increasing) and `y`, `[2, n]`.
        points: where it is looked at.

    """
    x, y = np.asarray(data, dtype=np.float64)
    points = np.asarray(points, dtype=np.float64)
    nodes, shares = np.polynomial.legendre.leggauss(NODES)
    edges = np.unique(np.concatenate([x, points[(points > x[0]) & (points < x[-1])]]))
    mid, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    c = (mid[:, None] + half[:, None] * nodes).ravel()
    mass = (half[:, None] * shares).ravel() * zeta(c)

    def product(left: Array, right: Array) -> Array:
        return np.asarray((np.maximum(left[:, None] - c, 0) * mass)
                          @ np.maximum(right[:, None] - c, 0).T)  # fmt: skip

    affine = np.stack([np.ones_like(x), x], 1)
    system = np.block([[product(x, x), affine], [affine.T, np.zeros((2, 2))]])
    solution = np.linalg.solve(system, np.concatenate([y, [0.0, 0.0]]))
    line = solution[-2] + solution[-1] * points
    return np.asarray(product(points, x) @ solution[:-2] + line)
