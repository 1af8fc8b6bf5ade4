"""Splitting a neuron of a two-layer network: which curvature is new, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def new_curvatures(
    errors: NDArray[Any],
    bends: NDArray[Any],
    inputs: NDArray[Any],
    outgoing: float,
    share: float,
) -> NDArray[Any]:
    """Return the eigenvalues that splitting adds to the Hessian, up to positive factors.

    A neuron a f(w·x) of a critical point of the mean of squared errors over two becomes two of
    the same w, with outgoing weights `share * a` and `(1 - share) * a`. In coordinates of the sum
    and the difference of both copies the Hessian is block diagonal: that of the narrow network,
    `share (1 - share) B` with B = mean of e a f''(w·x) x xᵀ for the difference of the incoming
    weights, and a zero for that of the outgoing ones. By Sylvester's law the numbers of negative,
    zero and positive eigenvalues add up (Zhang et al. 2021, arXiv:2105.14573; Fukumizu and Amari
    2000, doi:10.1016/S0893-6080(00)00009-5). For shares of 0 or 1 the block is zero and second
    order is silent.

    Args:
        errors: `[n]`, outputs less targets.
        bends: `[n]`, f''(w·x).
        inputs: `[n, features]`, a column of ones included where there is a bias.
        outgoing: a.
        share: of the outgoing weight that the first copy gets.

    Returns:
        `[features]`, ascending.

    """
    block = (inputs * (errors * outgoing * bends)[:, None]).T @ inputs / len(errors)
    return np.asarray(np.linalg.eigvalsh(share * (1 - share) * block))
