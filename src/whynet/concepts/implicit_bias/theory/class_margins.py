"""The direction that cross-entropy of several classes converges to: the multi-class SVM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from whynet.core.errors import InputError

Array = NDArray[Any]

MOST_ROUNDS: Final = 200
ADDED: Final = 200
"""Constraints that join the working set in a round."""

TOLERANCE: Final = 1e-9
"""By how much, relative to the demanded margin, a constraint may be missed."""


@dataclass(frozen=True)
class ClassMargins:
    """The hard-margin multi-class SVM through the origin.

    Attributes:
        weights: `argmin Σ_k ‖w_k‖²` with `(w_{y_i} − w_k)·x_i ≥ m_i` for all rows `i` and classes
            `k ≠ y_i`, `[classes, features]`; its columns sum to zero.
        rows: of the constraints that hold it, `[supports]`.
        others: the classes `k` of these constraints.
        duals: their multipliers `α > 0`: `w = Σ α_{ik} (e_{y_i} − e_k) x_iᵀ`.

    """

    weights: Array
    rows: Array
    others: Array
    duals: Array


def class_margins(
    features: Array, labels: Array, classes: int, demanded: Array | None = None
) -> ClassMargins:
    """Solve the hard-margin SVM of several classes exactly, by adding violated constraints.

    Gradient descent on the cross-entropy of separable rows converges to its direction (Soudry et
    al. 2018, arXiv:1710.10345, theorem 7). The problem on a working set of constraints is the
    least-distance problem of Lawson and Hanson, as in `maximum_margin`; the most violated
    constraints join until none is.

    Args:
        features: `[rows, features]`.
        labels: `[rows]`, whole numbers below `classes`.
        classes: at least 2.
        demanded: margin `m_i > 0` that is asked of each row; 1 by default.

    Raises:
        InputError: no weights separate the rows.

    Cost: a non-negative least-squares problem of classes x features rows and as many columns as
    there are constraints in the working set, some ten times.

    """
    x = np.asarray(features, dtype=np.float64)
    scale = float(np.linalg.norm(x, axis=1).max()) or 1.0
    x = x / scale
    wanted = np.ones(len(x)) if demanded is None else np.asarray(demanded, dtype=np.float64)
    working = np.empty((0, 2), dtype=np.intp)
    weights, duals = np.zeros((classes, x.shape[1])), np.empty(0)
    for _ in range(MOST_ROUNDS):
        scores = x @ weights.T
        slack = scores[np.arange(len(x)), labels][:, None] - scores - wanted[:, None]
        slack[np.arange(len(x)), labels] = np.inf
        missing = slack / wanted[:, None]
        missing[working[:, 0], working[:, 1]] = np.inf
        order = np.argsort(missing, axis=None)[:ADDED]
        chosen = order[missing.ravel()[order] < -TOLERANCE]
        if not chosen.size:
            held = duals > 0
            rows, others = working[held].T
            return ClassMargins(weights / scale, rows, others, duals[held] / scale**2)
        working = np.concatenate(
            [working[duals > 0], np.stack(np.unravel_index(chosen, slack.shape), 1)]
        )
        weights, duals = _solved(x, labels, classes, working, wanted)
    raise InputError("features", "rows whose margins did not settle", "separable rows")


def _solved(
    x: Array, labels: Array, classes: int, working: Array, wanted: Array
) -> tuple[Array, Array]:
    """Solve on some constraints, `[constraints, (row, class)]`; returns weights and duals."""
    rows, others = working.T
    size = x.shape[1]
    columns = np.zeros((classes, size, len(rows)))
    places = np.arange(len(rows))
    columns[labels[rows], :, places] += x[rows]
    columns[others, :, places] -= x[rows]
    matrix = np.vstack([columns.reshape(classes * size, -1), wanted[rows]])
    aim = np.zeros(len(matrix))
    aim[-1] = 1.0
    solution, distance = nnls(matrix, aim, maxiter=50 * max(matrix.shape))
    residual = matrix @ solution - aim
    if distance < 1e-10 or residual[-1] >= 0:
        raise InputError("features", "rows that no weights separate", "separable rows")
    weights = -residual[:-1].reshape(classes, size) / residual[-1]
    # ‖w‖² = Σ α m by duality, which fixes the scale of the multipliers.
    duals = solution * float((weights**2).sum()) / float(solution @ wanted[rows])
    return weights, duals
