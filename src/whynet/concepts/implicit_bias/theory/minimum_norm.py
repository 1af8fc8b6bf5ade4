"""The interpolator that gradient methods on least squares converge to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def nearest_interpolator(inputs: Array, targets: Array, start: Array) -> Array:
    """Return the solution of `X w = y` that lies nearest to a start: `w0 + X⁺(y − X w0)`.

    Gradient descent on least squares converges to it for step sizes below two over the largest
    eigenvalue of `XᵀX`: gradients lie in the row space of `X`, so what the start has outside of
    it never moves. Folklore; see Zhang et al. 2017 (arXiv:1611.03530), section 5, and Gunasekar
    et al. 2018 (arXiv:1802.08246).

    Args:
        inputs: `X`, `[..., rows, features]`, of full row rank.
        targets: `y`, `[..., rows]`.
        start: `w0`, `[..., features]`.

    Returns:
        `[..., features]`, in float64.

    """
    x, y, w = (np.asarray(a, dtype=np.float64) for a in (inputs, targets, start))
    residual = y - np.einsum("...nd,...d->...n", x, w)
    return np.asarray(w + np.einsum("...dn,...n->...d", np.linalg.pinv(x), residual))


def after_flow(inputs: Array, targets: Array, start: Array, time: float) -> Array:
    """Return where gradient flow on `½‖Xw − y‖²` is at a time.

    In the basis of right singular vectors each coordinate of `w − w*` decays as `exp(−σ²t)`, and
    what lies outside the row space stays.

    Args:
        inputs: `X`, `[rows, features]`, of full row rank.
        targets: `y`, `[rows]`.
        start: `w0`, `[features]`.
        time: at least 0.

    """
    limit = nearest_interpolator(inputs, targets, start)
    _, values, rows = np.linalg.svd(np.asarray(inputs, dtype=np.float64), full_matrices=False)
    decay = np.exp(-(values**2) * time)
    return np.asarray(limit - rows.T @ (decay * (rows @ (limit - start))))
