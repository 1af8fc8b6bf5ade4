"""Two-layer networks of growing width: data, starts, tangent kernels, training of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]
Stacked = dict[str, Tensor]
FEATURES: Final = 5
UNSHARED: Final = ("width", "scaling", "activation", "steps", "start")
"""Parameters that data do not depend on."""

STABILITY: Final = 0.5
"""Learning rate times the largest eigenvalue of the kernel over the rows."""


@dataclass(frozen=True)
class Problems:
    """Data and starts of equal shape, one a cell.

    Attributes:
        inputs: `[cells, rows, features]`, on a sphere.
        targets: `[cells, rows]`.
        other: further points, `[cells, points, features]`.
        start: `w` `[cells, width, features]` and `a` `[cells, width]`.
        scale: what multiplies the sum over units: `1/√m`, or `1/m`.
        smooth: whether units compute tanh; else they are rectified linear.

    """

    inputs: Tensor
    targets: Tensor
    other: Tensor
    start: Stacked
    scale: float
    smooth: bool

    def activation(self, values: Tensor) -> Tensor:
        """Return what units compute."""
        return torch.tanh(values) if self.smooth else torch.relu(values)

    def slope(self, values: Tensor) -> Tensor:
        """Return its derivative."""
        return 1 - torch.tanh(values).square() if self.smooth else (values > 0).to(values)

    def forward(self, parameters: Any, inputs: Tensor) -> Tensor:
        """Return the outputs of one network."""
        hidden = self.activation(inputs @ parameters["w"].transpose(-1, -2))
        summed: Tensor = torch.einsum("...nm,...m->...n", hidden, parameters["a"])
        scaled: Tensor = self.scale * summed
        return scaled

    def kernel(self, parameters: Stacked, left: Tensor, right: Tensor) -> Tensor:
        """Return the tangent kernel between two sets of points, `[cells, left, right]`."""
        w, a = parameters["w"].transpose(1, 2), parameters["a"]
        (first, rise), (second, other) = (
            (self.activation(x @ w), self.slope(x @ w) * a[:, None]) for x in (left, right)
        )
        outer = first @ second.transpose(1, 2)
        inner = (rise @ other.transpose(1, 2)) * (left @ right.transpose(1, 2))
        return self.scale**2 * (outer + inner)


def problems(cells: Sequence[Cell], *, points: int = 20) -> Problems:
    """Draw the problems of some cells of equal shape and architecture.

    Targets are `sin(2u₁) + u₂` of the direction `u` of an input. Half of the units are drawn and
    the others are the same with opposite signs of `a`, so that all outputs are 0; with `start` at
    `plain` all are drawn.
    """
    first = cells[0]
    smooth = first.parameters["activation"] == "tanh"
    rows, width = int(first.number("rows")), int(first.number("width"))
    radius = FEATURES**0.5 if smooth else 1.0
    inputs, targets, starts = [], [], []
    for cell in cells:
        generator = np.random.default_rng(cell.seed_for("data", shared=UNSHARED))
        x = generator.standard_normal((rows + points, FEATURES))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        inputs.append(radius * x)
        targets.append(np.sin(2 * x[:rows, 0]) + x[:rows, 1])
        starts.append(_start(cell, width))
    whole = torch.from_numpy(np.stack(inputs))
    return Problems(
        whole[:, :rows],
        torch.from_numpy(np.stack(targets)),
        whole[:, rows:],
        {name: torch.from_numpy(np.stack([s[name] for s in starts])) for name in starts[0]},
        1 / width if first.parameters["scaling"] == "mean-field" else width**-0.5,
        smooth,
    )


def _start(cell: Cell, width: int) -> dict[str, Array]:
    shared = ("scaling", "steps")
    generator = np.random.default_rng(cell.seed_for("start", shared=shared))
    drawn = width if cell.parameters.get("start") == "plain" else width // 2
    w, a = generator.standard_normal((drawn, FEATURES)), generator.standard_normal(drawn)
    if drawn == width:
        return {"w": w, "a": a}
    return {"w": np.concatenate([w, w]), "a": np.concatenate([a, -a])}


def half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return `½ mean (f − y)²`."""
    return 0.5 * (outputs - targets).square().mean()


def learning_rates(given: Problems) -> Tensor:
    """Return half of one over the largest eigenvalue of each initial kernel over the rows."""
    kernels = given.kernel(given.start, given.inputs, given.inputs)
    largest: Tensor = torch.linalg.eigvalsh(kernels)[:, -1]
    rows = given.inputs.shape[1]
    return largest.reciprocal() * (STABILITY * rows)


def trained(given: Problems, steps: int) -> Stacked:
    """Train all networks by gradient descent on all rows, and return their parameters."""
    result = train_ensemble(
        given.forward,
        given.start,
        given.inputs,
        given.targets,
        half_mean_square,
        Optimization("gradient-descent", learning_rates(given)),
        steps=steps,
        schedule=(0, steps),
        per_member=("inputs", "targets"),
    )
    return dict(result.parameters)


def distance(now: Tensor, before: Tensor, size: Tensor) -> Array:
    """Return `‖now − before‖ / ‖size‖` of each cell."""
    near, far = (x.flatten(1).norm(dim=1) for x in (now - before, size))
    return np.asarray((near / far).numpy())
