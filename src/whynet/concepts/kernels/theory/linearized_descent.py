"""Gradient descent of a network linearized at its start, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

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
