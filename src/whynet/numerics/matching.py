"""Matching the units of two networks by what they compute: correlation, then assignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from whynet.core.errors import InputError

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Matching:
    """Which unit of a second layer does what each unit of a first one does.

    Attributes:
        partner: `[units]`, for every unit of the first its unit of the second; a permutation.
        correlation: `[units]`, correlation of the two; 0 where one of them is constant.

    """

    partner: Indices
    correlation: Floats


def correlations(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return the correlation of every column of one array with every column of another.

    Args:
        first: `[rows, units]`.
        second: `[rows, other units]`, the same rows in the same order.

    Returns:
        `[units, other units]` in -1 to 1; 0 where a column is constant.

    Raises:
        InputError: no two-dimensional arrays of as many rows, fewer than two rows, or numbers
            that are not finite.

    """
    left, right = _standardized("first", first), _standardized("second", second)
    if len(left) != len(right):
        raise InputError("second", f"{len(right)} rows", f"the {len(left)} of first")
    return np.clip(left.T @ right, -1.0, 1.0)


def match_units(similarity: ArrayLike, tie_break: ArrayLike | None = None) -> Matching:
    """Pair the units of two layers so that the sum of their similarities is largest.

    The assignment problem is solved exactly (Jonker and Volgenant, in SciPy), in time of the
    cube of the width.

    Args:
        similarity: `[units, units]`, such as `correlations`.
        tie_break: `[units, units]`, counts a thousandth: it tells units apart whose similarity
            says nothing, such as constant ones.

    Raises:
        InputError: the similarity is not square, or not finite.

    """
    score = np.asarray(similarity, dtype=np.float64)
    if score.ndim != 2 or score.shape[0] != score.shape[1] or not np.isfinite(score).all():
        raise InputError(
            "similarity", f"an array of shape {score.shape}", "a square array of finite numbers"
        )
    whole = score if tie_break is None else score + 1e-3 * np.asarray(tie_break, dtype=np.float64)
    _, partner = linear_sum_assignment(whole, maximize=True)
    return Matching(partner, score[np.arange(len(score)), partner])


def relative_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Return the norm of the difference over the root mean square of the two norms.

    0 for equal arrays, the root of 2 for orthogonal ones, 2 for opposite ones; between two zero
    arrays 0.

    >>> relative_distance([1.0, 0.0], [0.0, 1.0]) == 2**0.5
    True

    """
    left = np.asarray(first, dtype=np.float64).ravel()
    right = np.asarray(second, dtype=np.float64).ravel()
    scale = float(np.sqrt((left @ left + right @ right) / 2))
    return float(np.linalg.norm(left - right)) / scale if scale > 0 else 0.0


def cosine(first: ArrayLike, second: ArrayLike) -> float:
    """Return the cosine of the angle between two arrays; 0 where one of them is zero."""
    left = np.asarray(first, dtype=np.float64).ravel()
    right = np.asarray(second, dtype=np.float64).ravel()
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(np.clip(left @ right / norms, -1.0, 1.0)) if norms > 0 else 0.0


def _standardized(argument: str, values: ArrayLike) -> Floats:
    """Center the columns and give them length one; constant ones become zero."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) < 2 or not np.isfinite(array).all():
        raise InputError(
            argument, f"an array of shape {array.shape}", "at least two rows of finite numbers"
        )
    scale = np.abs(array).max(0, initial=0.0)
    centered = array - array.mean(0)
    length = np.linalg.norm(centered, axis=0)
    # What rounding leaves of a constant column is not a signal.
    constant = length <= 1e-12 * scale * np.sqrt(len(array))
    return np.asarray(centered / np.where(constant, np.inf, np.where(length > 0, length, 1.0)))
