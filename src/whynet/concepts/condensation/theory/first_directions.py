"""Where neurons with a slope at zero turn from a tiny start, while they do not see each other yet.

While all weights are tiny the residual r is that of a constant output, and a neuron with outgoing
weights a and incoming weights w obeys dw/dt = s B a, da/dt = s Bᵀ w, with B = mean(x rᵀ) and s > 0
the slope of its activation at zero: w turns to one of two opposite directions, the first left
singular vector of B. Source: Zhou et al. (2022), arXiv:2105.11686, for multiplicity one; several
outputs and a start that is not zero are the same linear equation, solved exactly.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

Array = NDArray[Any]

LONGEST: Final = 300.0
"""Growth in logarithms beyond which hyperbolic functions leave the range of float64."""


def turned(pull: Array, inner: Array, outer: Array, size: float) -> Array:
    """Return the incoming weights when all weights together have reached a length.

    Args:
        pull: B, `[features, outputs]`, not zero.
        inner: w at the start, `[neurons, features]`.
        outer: a at the start, `[neurons, outputs]`.
        size: length of all of them together, at least that at the start.

    Returns:
        `[neurons, features]`.

    >>> turned(np.array([[1.0]]), np.array([[0.0]]), np.array([[1.0]]), 1.0).tolist()
    [[0.0]]
    """
    left, rates, right = np.linalg.svd(pull, full_matrices=False)
    along, beside = inner @ left, outer @ right.T
    still = (inner**2).sum() - (along**2).sum() + (outer**2).sum() - (beside**2).sum()

    def at(time: float) -> tuple[Array, Array]:
        grown, mixed = np.cosh(rates * time), np.sinh(rates * time)
        return along * grown + beside * mixed, beside * grown + along * mixed

    def excess(time: float) -> float:
        one, two = at(time)
        return float(np.log((one**2).sum() + (two**2).sum() + still) - 2 * np.log(size))

    end = LONGEST / float(rates[0])
    time = 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, end))
    return np.asarray(inner + (at(time)[0] - along) @ left.T)
