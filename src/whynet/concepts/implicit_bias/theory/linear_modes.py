"""How deep linear networks learn the modes of a matrix, one after the other.

The product of `N` matrices that start at a multiple of the identity follows, under gradient flow
on `½‖W − M‖²` with `M` positive semidefinite, in each eigenvector of `M`

    σ' = N σ^(2 − 2/N) (λ − σ),

after Saxe et al. 2014 (arXiv:1312.6120) and Arora et al. 2019 (arXiv:1905.13655, theorem 3).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad, solve_ivp

Array = NDArray[Any]


def half_time(eigenvalue: float, start: float, depth: int) -> float:
    """Return when a mode reaches half its eigenvalue, by quadrature over `log σ`.

    Args:
        eigenvalue: `λ > 0`.
        start: `σ(0)`, above 0 and below `λ/2`.
        depth: `N`, at least 1.

    """

    def pace(logarithm: float) -> float:
        strength = np.exp(logarithm)
        return float(strength ** (2 / depth - 1) / (depth * (eigenvalue - strength)))

    ends = np.log(start), np.log(eigenvalue / 2)
    return float(quad(pace, *ends, epsabs=0, epsrel=1e-10, limit=200)[0])


def strengths(eigenvalues: ArrayLike, start: float, depth: int, times: ArrayLike) -> Array:
    """Return the strengths of modes at some times.

    Args:
        eigenvalues: `λ ≥ 0`, `[modes]`.
        start: `σ(0) > 0` of all of them.
        depth: `N`, at least 1.
        times: increasing, at least 0, `[times]`.

    Returns:
        `[times, modes]`.

    """
    aims, at = np.asarray(eigenvalues, dtype=np.float64), np.asarray(times, dtype=np.float64)

    def field(_: float, logarithms: Array) -> Array:
        sigma = np.exp(logarithms)
        return np.asarray(depth * sigma ** (1 - 2 / depth) * (aims - sigma))

    found = solve_ivp(
        field,
        (0.0, float(at[-1])),
        np.full(aims.shape, np.log(start)),
        method="LSODA",
        t_eval=at,
        rtol=1e-9,
        atol=1e-9,
    )
    return np.asarray(np.exp(found.y.T))


def two_layer_strength(eigenvalue: float, start: float, time: ArrayLike) -> Array:
    """Return `σ(t) = λ/(1 + (λ/σ₀ − 1) e^(−2λt))`, the closed form for two layers."""
    decay = np.exp(-2 * eigenvalue * np.asarray(time, dtype=np.float64))
    return np.asarray(eigenvalue / (1 + (eigenvalue / start - 1) * decay))
