"""The direction that gradient descent on separable data converges to: the hard-margin SVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from whynet.core.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class MaximumMargin:
    """The hard-margin support vector machine through the origin.

    Attributes:
        weights: `ŵ = argmin ‖w‖²` with `w·z_i ≥ 1` for all rows, `[features]`.
        duals: `α ≥ 0` with `ŵ = Σ α_i z_i`, `[rows]`; they sum to `‖ŵ‖²`.

    """

    weights: Array
    duals: Array

    @property
    def margin(self) -> float:
        """Distance of the nearest rows from the boundary, `1/‖ŵ‖`."""
        return float(1 / np.linalg.norm(self.weights))


def maximum_margin(signed_rows: Array) -> MaximumMargin:
    """Solve the hard-margin SVM without bias, by non-negative least squares on its dual.

    The least-distance problem of Lawson and Hanson: `min ‖A u − b‖` over `u ≥ 0` with
    `A = [Zᵀ; 1ᵀ]` and `b = (0, …, 0, 1)`; from the residual `r = A u − b` follow
    `ŵ = −r[:d]/r[d]` and `α ∝ u`. By Soudry et al. 2018 (arXiv:1710.10345, theorem 3) gradient
    descent on a loss with an exponential tail converges to the direction of `ŵ`.

    Args:
        signed_rows: `z_i = y_i x_i` with labels `y_i = ±1`, `[rows, features]`.

    Raises:
        InputError: no direction separates the rows.

    """
    rows = np.asarray(signed_rows, dtype=np.float64)
    scale = float(np.linalg.norm(rows, axis=1).max())
    matrix = np.vstack([(rows / scale).T, np.ones(len(rows))])
    aim = np.zeros(rows.shape[1] + 1)
    aim[-1] = 1.0
    solution, distance = nnls(matrix, aim, maxiter=50 * max(matrix.shape))
    residual = matrix @ solution - aim
    if distance < 1e-10 or residual[-1] >= 0:
        raise InputError("signed_rows", "rows that no direction separates", "separable rows")
    weights = -residual[:-1] / residual[-1] / scale
    duals = solution * float(weights @ weights) / float(solution.sum())
    return MaximumMargin(weights, duals)
