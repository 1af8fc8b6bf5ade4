"""Two-layer rectified networks on the unit circle: data, starts, and training of many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.claim import Cell
from whynet.training.ensemble import Optimization, train_ensemble

Array = NDArray[Any]

FREQUENCIES: Final = {"none": (1, 2, 4, 6, 8), "trained": (1, 2, 3, 4, 5)}
"""Frequencies of the target, by what the biases are; all have a positive eigenvalue."""

RATE: Final = 1.0
UNEVEN: Final = 0.6
"""How far the density of uneven data swings around its mean, over that mean."""


def angles_of(cell: Cell) -> Array:
    """Return the angles of the inputs, evenly spaced or with the density `1 + 0.6 cos θ`."""
    even = 2 * np.pi * np.arange(int(cell.number("rows"))) / cell.number("rows")
    if cell.parameters["density"] == "even":
        return np.asarray(even)
    angle = even.copy()
    for _ in range(60):  # Newton for the quantiles: θ + 0.6 sin θ = even
        angle -= (angle + UNEVEN * np.sin(angle) - even) / (1 + UNEVEN * np.cos(angle))
    return np.asarray(angle)


def target_of(cell: Cell, angles: Array) -> Array:
    """Return the target: a wave of each frequency, of equal size, with phases of its own."""
    generator = np.random.default_rng(cell.seed_for("target", shared=_NOT_DATA))
    frequencies = FREQUENCIES[str(cell.parameters["bias"])]
    phases = generator.uniform(0, 2 * np.pi, len(frequencies))
    waves = np.cos(np.outer(angles, frequencies) + phases)
    return np.asarray(cell.number("amplitude") * waves.sum(1))


_NOT_DATA: Final = ("density", "amplitude", "start", "width", "rows", "steps")
_NOT_START: Final = ("density", "amplitude", "start", "rows", "steps")


def start_of(cell: Cell) -> dict[str, Array]:
    """Return a start whose outputs are 0: half of the units, and the same with opposite signs.

    Their directions are evenly spaced with a common random offset, or standard normal.
    """
    generator = np.random.default_rng(cell.seed_for("start", shared=_NOT_START))
    half = int(cell.number("width")) // 2
    offset, normal = generator.uniform(0, 2 * np.pi), generator.standard_normal((half, 3))
    if cell.parameters["start"] == "stratified":
        angle = offset + 2 * np.pi * np.arange(half) / half
        inner, outer = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], 1), np.ones(half)
    else:
        inner, outer = normal[:, :2], normal[:, 2]
    start = {"w": np.concatenate([inner, inner]), "a": np.concatenate([outer, -outer])}
    if cell.parameters["bias"] == "trained":
        start["b"] = np.zeros(2 * half)
    return start


def forward(parameters: Any, inputs: Tensor) -> Tensor:
    """Return `√(2/m) Σ a (w·x + b)₊`."""
    before = inputs @ parameters["w"].T
    if "b" in parameters:
        before = before + parameters["b"]
    outer = parameters["a"]
    summed: Tensor = torch.relu(before) @ outer
    scaled: Tensor = summed * (2 / len(outer)) ** 0.5
    return scaled


def half_mean_square(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return `½ mean (f − y)²`."""
    return 0.5 * (outputs - targets).square().mean()


def schedule_of(steps: int) -> list[int]:
    """Return when residuals are looked at: each of the first steps, then a hundred times."""
    return sorted({*range(min(12, steps + 1)), *range(0, steps + 1, max(1, steps // 100))})


def residual_waves(cells: Sequence[Cell]) -> tuple[Array, Array]:
    """Train cells of equal shape, and return how large each wave of the residual is over time.

    Returns:
        The steps `[times]`, and sizes `[cells, times, frequencies]`.

    """
    angles = np.stack([angles_of(cell) for cell in cells])
    targets = np.stack([target_of(c, own) for c, own in zip(cells, angles, strict=True)])
    inputs = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], -1))
    starts = [start_of(cell) for cell in cells]
    parameters = {n: torch.from_numpy(np.stack([s[n] for s in starts])) for n in starts[0]}
    frequencies = np.array([FREQUENCIES[str(cell.parameters["bias"])] for cell in cells])
    waves = np.exp(-1j * angles[:, :, None] * frequencies[:, None, :]) / angles.shape[1]
    basis, goal = torch.from_numpy(waves), torch.from_numpy(targets)
    outputs = torch.func.vmap(forward)

    def sizes(now: Any) -> Tensor:
        residual = (outputs(now, inputs) - goal).to(basis.dtype)
        return torch.einsum("bn,bnk->bk", residual, basis).abs()

    steps = int(cells[0].number("steps"))
    planned = schedule_of(steps)
    result = train_ensemble(
        forward,
        parameters,
        inputs,
        goal,
        half_mean_square,
        Optimization("gradient-descent", RATE),
        steps=steps,
        record={"waves": sizes},
        schedule=planned,
        per_member=("inputs", "targets"),
    )
    table = result.records["waves"].transpose("member", "step", ...).values
    return np.array(planned), np.asarray(table)


def decay_rates(steps: Array, sizes: Array, *, least: float = 0.3) -> Array:
    """Return by how much the logarithm of each wave falls in a step, while it is large.

    Args:
        steps: `[times]`.
        sizes: `[cells, times, frequencies]`.
        least: looked at while above this share of its start; the first step always counts.

    Returns:
        Least-squares slopes through the start, `[cells, frequencies]`.

    """
    fallen = -np.log(np.maximum(sizes, 1e-300) / sizes[:, :1])
    used = np.logical_and.accumulate(sizes > least * sizes[:, :1], axis=1)
    used |= np.isin(steps, steps[:2])[:, None]
    time = np.where(used, steps[:, None], 0)
    return np.asarray((time * fallen).sum(1) / (time**2).sum(1))
