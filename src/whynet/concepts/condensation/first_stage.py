"""The first stage of training from a tiny start: neurons that do not see each other yet.

While all weights are tiny the residual is minus the targets y, and every neuron `a σ(w·x)` climbs
`a mean(y σ(w·x))` by itself. Only its path matters here, not its clock, so that each neuron moves
in steps of one percent of its own size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Array = NDArray[Any]
Pair = tuple[Callable[[Array], Array], Callable[[Array], Array]]


def _slope_of_tanh(z: Array) -> Array:
    return np.asarray(1 - np.tanh(z) ** 2)


ACTIVATIONS: Final[Mapping[str, Pair]] = {
    "tanh": (np.tanh, _slope_of_tanh),
    "softplus": (lambda z: np.logaddexp(0, z) - np.log(2), expit),
    "z-tanh": (lambda z: z * np.tanh(z), lambda z: np.tanh(z) + z * _slope_of_tanh(z)),
    "z2-tanh": (
        lambda z: z**2 * np.tanh(z),
        lambda z: 2 * z * np.tanh(z) + z**2 * _slope_of_tanh(z),
    ),
}
"""Name to activation and derivative; all are 0 at 0."""

MULTIPLICITY: Final = {"tanh": 1, "softplus": 1, "z-tanh": 2, "z2-tanh": 3}
"""Order of the first derivative at 0 that is not 0."""

STEP: Final = 0.01
MOST_STEPS: Final = 2500
"""Growth by 1e4 takes 926 steps of a neuron that grows at its fastest."""


def grown(
    activation: str, inputs: Array, targets: Array, outer: Array, inner: Array, size: float
) -> tuple[Array, Array]:
    """Follow neurons until each has a norm of `size`.

    Args:
        activation: a key of `ACTIVATIONS`.
        inputs: `[cells, rows, features]`.
        targets: `[cells, rows]`.
        outer: `a` at the start, `[cells, neurons]`.
        inner: `w`, `[cells, neurons, features]`.
        size: norm of `(a, w)` at which a neuron stops.

    Returns:
        Unit directions of `w`, `[cells, neurons, features]`, and who arrived, `[cells, neurons]`.

    """
    value, derivative = ACTIVATIONS[activation]
    rows = inputs.shape[1]
    outer, inner, flipped = outer.copy(), inner.copy(), inputs.transpose(0, 2, 1)
    for _ in range(MOST_STEPS):
        norm = np.sqrt(outer**2 + (inner**2).sum(2))
        moving = norm < size
        if not moving.any():
            break
        z = inner @ flipped
        pull = (value(z) @ targets[:, :, None])[:, :, 0] / rows
        turn = outer[:, :, None] * ((derivative(z) * targets[:, None]) @ inputs) / rows
        speed = np.sqrt(pull**2 + (turn**2).sum(2))
        with np.errstate(divide="ignore", invalid="ignore"):
            length = np.where(moving & (speed > 0), STEP * norm / speed, 0.0)
        outer = outer + length * pull
        inner = inner + length[:, :, None] * turn
    directions = inner / np.linalg.norm(inner, axis=2, keepdims=True)
    return directions, np.sqrt(outer**2 + (inner**2).sum(2)) >= size


def distinct(directions: Array, nearness: float) -> int:
    """Return how many directions are left if each takes those near it with it, one after another.

    Args:
        directions: unit vectors, `[neurons, features]`.
        nearness: cosine from which two count as one.

    """
    left, count = directions, 0
    while len(left):
        left, count = left[left @ left[0] <= nearness], count + 1
    return count
