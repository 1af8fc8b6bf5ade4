"""Gradient descent of a network linearized at its start, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[Any]


def after_descent(
    kernel: Array,
    cross: Array,
    start: tuple[Array, Array],
    targets: Array,
    *,
    rate: Array,
    steps: int,
) -> tuple[Array, Array]:
    """Return the outputs of linear models after gradient descent on `½ mean (f − y)²`.

    The residual on the training rows is multiplied by `I − ηΘ/n` in each step, and elsewhere
    `f = f₀ + (η/n) Θ(x, X) Σ_{s<T} (I − ηΘ/n)^s (y − f₀(X))`.

    Args:
        kernel: `Θ(X, X)`, `[..., n, n]`.
        cross: `Θ(x, X)`, `[..., points, n]`.
        start: initial outputs on `X` and on `x`.
        targets: `y`, `[..., n]`.
        rate: `η`, `[...]`.
        steps: `T`.

    Returns:
        Outputs on `X` and on `x`.

    """
    values, vectors = np.linalg.eigh(np.asarray(kernel, dtype=np.float64))
    pace = np.asarray(rate)[..., None] / kernel.shape[-1]
    left = (1 - pace * values) ** steps
    small = np.abs(pace * values) < 1e-12
    total = np.where(small, steps * pace, (1 - left) / np.where(small, 1.0, values))
    residual = np.einsum("...ni,...n->...i", vectors, targets - start[0])
    weights = np.einsum("...ni,...i->...n", vectors, total * residual)
    kept = np.einsum("...ni,...i->...n", vectors, left * residual)
    return targets - kept, start[1] + np.einsum("...pn,...n->...p", cross, weights)


def flow_at_times(
    kernel: Array, cross: Array, start: tuple[Array, Array], targets: Array, times: Array
) -> tuple[Array, Array]:
    """Return the outputs of a linear model under gradient flow on `½ mean (f − y)²`.

    `f(X) = y − exp(−Θ t/n)(y − f₀(X))`, and elsewhere
    `f = f₀ + Θ(x, X) Θ⁻¹ (1 − exp(−Θ t/n)) (y − f₀(X))`; the mean is over rows, and a row's loss is
    summed over its outputs (Lee et al. 2019, arXiv:1902.06720, equations 8 to 11).

    Args:
        kernel: `Θ(X, X)`, `[n, n]`, of rows, or of rows times outputs.
        cross: `Θ(x, X)`, `[points, n]`.
        start: initial outputs on `X` and on `x`, `[n, k]` and `[points, k]`.
        targets: `y`, `[n, k]`.
        times: `t/n`, `[times]`, at least 0; infinity is the end.

    Returns:
        `[times, n, k]` and `[times, points, k]`. Cost: an eigendecomposition.

    """
    values, vectors = np.linalg.eigh(np.asarray(kernel, dtype=np.float64))
    moving = values > SMALLEST * max(float(values[-1]), 0.0)
    values, vectors = values[moving], vectors[:, moving]
    residual = vectors.T @ (targets - start[0])
    gone = -np.expm1(-np.asarray(times, dtype=np.float64)[:, None] * values)
    on_rows = start[0] + np.einsum("ni,ti,ik->tnk", vectors, gone, residual)
    reach = cross @ vectors
    return on_rows, start[1] + np.einsum("pi,ti,ik->tpk", reach, gone / values, residual)


SMALLEST = 1e-10
"""Eigenvalues, relative to the largest, along which nothing moves in any time."""


def flow_to_loss(
    kernel: Array, cross: Array, start: tuple[Array, Array], targets: Array, loss: float
) -> Array:
    """Return the outputs of a linear model when gradient flow has brought its loss to a value.

    On squared loss the residual along an eigenvector of the kernel decays as `exp(−λ t)`, and
    elsewhere `f = f₀ + Θ(x, X) Σ (1 − exp(−λ t))/λ v vᵀ (y − f₀(X))`.

    Args:
        kernel: `Θ(X, X)`, `[n, n]`, positive semidefinite.
        cross: `Θ(x, X)`, `[points, n]`.
        start: initial outputs on `X` and on `x`, `[n, k]` and `[points, k]`.
        targets: `y`, `[n, k]`.
        loss: mean squared error on `X` that is reached, over all entries; where the flow never
            reaches it, its end is returned, and its start where it is there already.

    Returns:
        Outputs on `x`, `[points, k]`. Cost: an eigendecomposition.

    """
    values, vectors = np.linalg.eigh(np.asarray(kernel, dtype=np.float64))
    moving = values > SMALLEST * max(float(values[-1]), 0.0)
    values, vectors = values[moving], vectors[:, moving]
    away = targets - start[0]
    residual = vectors.T @ away
    energy = (residual**2).sum(1)
    fixed = float((away**2).sum() - energy.sum())
    wanted = loss * away.size - fixed

    def left(log_time: float) -> float:
        return float((np.exp(-2 * values * np.exp(log_time)) * energy).sum()) - wanted

    if not values.size or wanted >= energy.sum():
        return np.asarray(start[1])
    ends = np.log(1e-12 / values[-1]), np.log(50 / values[0])
    log_time = np.inf if left(ends[1]) > 0 or wanted <= 0 else brentq(left, *ends)
    gains = -np.expm1(-values * np.exp(log_time)) / values
    return np.asarray(start[1] + cross @ (vectors @ (gains[:, None] * residual)))
