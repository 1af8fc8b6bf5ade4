"""What gradient flow conserves in a deep linear network, and how gradient descent loses it.

For `W = W_N ⋯ W_1` and any loss of `W`, gradient flow leaves `W_{j+1}ᵀW_{j+1} − W_jW_jᵀ` as it is
(Arora, Cohen and Hazan 2018, arXiv:1802.06509, theorem 1). A step of gradient descent of size η
changes it by `η² (G_{j+1}ᵀG_{j+1} − G_jG_jᵀ)` exactly, with `G_j` the gradient by `W_j`: in a
fixed time the change is η times an integral along the flow, up to higher orders.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp

Array = NDArray[Any]

SLOPES: Final[dict[str, Callable[[Array], Array]]] = {
    "square": lambda error: error,
    "log-cosh": lambda error: np.asarray(np.tanh(error)),
}
"""Derivative of the loss by an entry of `W`, at its error."""


def imbalances(factors: Array) -> Array:
    """Return `W_{j+1}ᵀW_{j+1} − W_jW_jᵀ`, `[depth − 1, size, size]`, of `[depth, size, size]`."""
    later, earlier = factors[1:], factors[:-1]
    return np.asarray(later.swapaxes(1, 2) @ later - earlier @ earlier.swapaxes(1, 2))


def gradients(factors: Array, target: Array, loss: str) -> Array:
    """Return the gradients of a loss by the factors, `[depth, size, size]`."""
    depth, size = len(factors), factors.shape[1]
    below, above = [np.eye(size)], [np.eye(size)]
    for layer in range(depth):
        below.append(factors[layer] @ below[-1])
        above.append(above[-1] @ factors[depth - 1 - layer])
    pull = SLOPES[loss](below[-1] - target)
    parts = [above[depth - 1 - j].T @ pull @ below[j].T for j in range(depth)]
    return np.stack(parts)


def drift_per_step_size(factors: Array, target: Array, loss: str, time: float) -> float:
    """Return by how much gradient descent changes the conserved matrices, over its step size.

    The largest Frobenius norm, over `j`, of `∫ (G_{j+1}ᵀG_{j+1} − G_jG_jᵀ) dt` along the flow.

    Args:
        factors: start, `[depth, size, size]`, `W_1` first.
        target: `M`, which the entries of `W` are compared with.
        loss: a key of `SLOPES`.
        time: step size times number of steps.

    """
    shape, count = factors.shape, factors.size

    def field(_: float, state: Array) -> Array:
        pull = gradients(state[:count].reshape(shape), target, loss)
        return np.concatenate([-pull.ravel(), imbalances(pull).ravel()])

    gathered = np.zeros((shape[0] - 1) * shape[1] ** 2)
    start = np.concatenate([factors.ravel(), gathered])
    end = solve_ivp(field, (0.0, time), start, rtol=1e-7, atol=1e-9).y[count:, -1]
    return float(np.linalg.norm(end.reshape(shape[0] - 1, -1), axis=1).max())


def end_to_end_velocity(product: Array, pull: Array, depth: int) -> Array:
    """Return `W'` of a balanced network: `−Σ_j (WWᵀ)^((N−j)/N) ∇ℓ (WᵀW)^((j−1)/N)`.

    Arora, Cohen and Hazan 2018, theorem 1.

    Args:
        product: `W`, `[size, size]`.
        pull: `∇ℓ(W)`.
        depth: `N`.

    """
    left, values, right = np.linalg.svd(product)
    velocity = np.zeros_like(product)
    for j in range(1, depth + 1):
        outer = (left * values ** (2 * (depth - j) / depth)) @ left.T
        inner = (right.T * values ** (2 * (j - 1) / depth)) @ right
        velocity -= outer @ pull @ inner
    return velocity
