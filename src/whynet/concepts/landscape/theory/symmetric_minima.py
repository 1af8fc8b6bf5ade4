"""Losses of the spurious minima of networks that copy orthonormal units, from their symmetry.

A student of k rectified units that copies k orthonormal ones has the symmetry of permuting units
and inputs together. On weights that are fixed by the permutations of the first k − q and of the
last q units, a critical point of the loss is one among all weights (Palais 1979), and there are
only six numbers to be found: Arjevani and Field (2020, arXiv:2003.10576) describe these families
and show that for q = 1 the loss falls like 1/k. The losses are of standard normal inputs.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from whynet.numerics.arc_cosine import kappa1

Array = NDArray[Any]

START: Final = (1.0, 0.0, 0.15, 0.1, -0.7, 0.13)
"""Beside the family: units that copy, and others that point away from what they should copy."""


def symmetric_weights(numbers: Array, units: int, turned: int) -> Array:
    """Return `[units, units]` weights of the symmetry.

    Args:
        numbers: six: diagonal and other entries of the first block, entries of both mixed blocks,
            diagonal and other entries of the last block (which has none of them for one unit).
        units: k.
        turned: q, units of the last block, 1 to k − 1.

    """
    copied = units - turned
    found = np.empty((units, units))
    found[:copied, :copied], found[copied:, copied:] = numbers[1], numbers[5]
    found[:copied, copied:], found[copied:, :copied] = numbers[2], numbers[3]
    np.fill_diagonal(found[:copied, :copied], numbers[0])
    np.fill_diagonal(found[copied:, copied:], numbers[4])
    return found


def expected_loss(weights: Array) -> float:
    """Return half the mean squared difference from orthonormal units, by arc-cosine kernels."""
    eye = np.eye(len(weights))
    return 0.5 * _overlap(weights, weights) - _overlap(weights, eye) + 0.5 * _overlap(eye, eye)


def _overlap(left: Array, right: Array) -> float:
    sizes = np.outer(np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1))
    return float((sizes * kappa1(left @ right.T / sizes)).sum() / 2)


def symmetric_loss(units: int, turned: int) -> float:
    """Return the loss of the family's minimum with `turned` units turned away, to about 1e-11."""
    found = optimize.minimize(
        lambda numbers: expected_loss(symmetric_weights(numbers, units, turned)),
        START,
        method="BFGS",
        options={"gtol": 1e-9},
    )
    return float(found.fun)
