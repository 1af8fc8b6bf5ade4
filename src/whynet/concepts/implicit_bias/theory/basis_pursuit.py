"""The solution of least ℓ1 norm, its certificate, and how fast it is approached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from whynet.core.errors import InputError

Array = NDArray[Any]

ZERO: Final = 1e-9
"""Entries below this, over the largest, are not on the support."""


@dataclass(frozen=True)
class BasisPursuit:
    """A solution of `min ‖β‖₁` subject to `Xβ = y`.

    Attributes:
        weights: `β`, `[features]`.
        off_support: `c = max |X_iᵀν|` over features off the support, least over all certificates
            `ν` with `X_iᵀν = sign β_i` on it; the solution is unique where `c < 1` and the
            features of the support are linearly independent.

    """

    weights: Array
    off_support: float


def basis_pursuit(inputs: Array, targets: Array) -> BasisPursuit:
    """Solve basis pursuit by HiGHS, as two linear programs.

    Args:
        inputs: `X`, `[rows, features]`.
        targets: `y`, `[rows]`, in the range of `X`.

    Raises:
        InputError: there is no solution.

    """
    x, y = np.asarray(inputs, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    features = x.shape[1]
    found = linprog(np.ones(2 * features), A_eq=np.hstack([x, -x]), b_eq=y, method="highs")
    if found.status != 0:
        raise InputError("targets", "equations without a solution", "y in the range of X")
    weights = found.x[:features] - found.x[features:]
    on = np.abs(weights) > ZERO * np.abs(weights).max()
    weights = np.where(on, weights, 0.0)
    weights[on] = np.linalg.lstsq(x[:, on], y, rcond=None)[0]
    return BasisPursuit(weights, _off_support(x, weights, on))


def _off_support(x: Array, weights: Array, on: Array) -> float:
    """Return the least possible largest `|X_iᵀν|` off the support."""
    rows = x.shape[0]
    off = x[:, ~on].T
    if len(off) == 0:
        return 0.0
    one = np.ones((len(off), 1))
    found = linprog(
        np.append(np.zeros(rows), 1.0),
        A_ub=np.vstack([np.hstack([off, -one]), np.hstack([-off, -one])]),
        b_ub=np.zeros(2 * len(off)),
        A_eq=np.hstack([x[:, on].T, np.zeros((int(on.sum()), 1))]),
        b_eq=np.sign(weights[on]),
        bounds=[(None, None)] * rows + [(0, None)],
        method="highs",
    )
    if found.status != 0:
        raise InputError("inputs", "a support without a certificate", "independent features")
    return float(found.fun)


def rate(depth: int, off_support: float) -> float:
    """Return `r` with `‖β_α − β‖ ∝ α^r` as the start `α` of a diagonal network shrinks.

    `L` for `L ≥ 3` layers, `2(1 − c)` for two; for a unique solution. Derived for this project.
    """
    return float(depth) if depth > 2 else 2 * (1 - off_support)
