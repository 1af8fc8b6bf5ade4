"""The completion of a matrix of least nuclear norm, with the gap that proves it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whynet.core.errors import InputError

Array = NDArray[Any]

SHRINK = 0.3
"""Threshold of a step over the largest singular value of what is observed."""


@dataclass(frozen=True)
class Completion:
    """Matrices that agree with what was observed.

    Attributes:
        matrices: `[..., rows, columns]`, equal to the observed entries where there are any.
        gap: nuclear norm of each over the largest lower bound found on that of any completion,
            minus 1, `[...]`: 0 at a minimizer.

    """

    matrices: Array
    gap: Array


def least_nuclear_norm(
    matrices: Array, observed: Array, *, tolerance: float = 1e-4, limit: int = 20_000
) -> Completion:
    """Minimize the nuclear norm over all matrices with given entries, many problems at once.

    Douglas-Rachford steps: project onto the completions, shrink singular values of the reflection.
    What they add on observed entries is, over its spectral norm, a matrix `Λ` of the dual problem
    (`max ⟨Λ, M⟩`, `‖Λ‖₂ ≤ 1`, zero where nothing was observed), which bounds all completions.

    Args:
        matrices: `M`, `[..., rows, columns]`; entries that were not observed are not read.
        observed: which entries were, bool, of the same shape.
        tolerance: gap at which a problem is done.
        limit: most steps; what is not done then has a larger gap.

    Raises:
        InputError: shapes differ, or a matrix is zero where it was observed.

    Cost: a singular value decomposition of each matrix and step, some hundred to thousand steps.

    Source: Candès and Recht (2009), arXiv 0805.4471, for the problem and its dual.

    """
    if matrices.shape != observed.shape or matrices.ndim < 2:
        found = f"shapes {matrices.shape} and {observed.shape}"
        raise InputError("observed", found, "the shape of the matrices")
    given = np.where(observed, matrices, 0.0).reshape(-1, *matrices.shape[-2:])
    seen = observed.reshape(given.shape)
    largest = np.linalg.norm(given, 2, axis=(-2, -1))
    if not (largest > 0).all():
        raise InputError("matrices", "one that is zero where observed", "an entry that is not 0")
    threshold = SHRINK * largest
    state, best, gap = given.copy(), given.copy(), np.full(len(given), np.inf)
    open_ = np.arange(len(given))
    for step in range(limit):
        point = np.where(seen[open_], given[open_], state[open_])
        left, values, right = np.linalg.svd(2 * point - state[open_], full_matrices=False)
        shrunk = np.maximum(values - threshold[open_, None], 0)
        if step % 20 == 0:
            now = _gap(point, given[open_], (point - state[open_]) / threshold[open_, None, None])
            better = now < gap[open_]
            best[open_[better]], gap[open_[better]] = point[better], now[better]
            if (gap[open_] <= tolerance).all():
                break
        state[open_] += (left * shrunk[:, None, :]) @ right - point
        if step % 20 == 0:
            open_ = open_[gap[open_] > tolerance]
    return Completion(best.reshape(matrices.shape), gap.reshape(matrices.shape[:-2]))


def _gap(points: Array, given: Array, dual: Array) -> Array:
    """Return the relative gap between nuclear norms and their lower bounds."""
    norms = np.linalg.norm(points, "nuc", axis=(-2, -1))
    scale = np.maximum(1.0, np.linalg.norm(dual, 2, axis=(-2, -1)))
    bounds = (dual * given).sum((-2, -1)) / scale
    with np.errstate(divide="ignore"):
        return np.where(bounds > 0, norms / np.maximum(bounds, 1e-300) - 1, np.inf)
