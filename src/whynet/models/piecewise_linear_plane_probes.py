"""How large the numbers of a network are on a polygon, and how many it needs at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Competitors, Thresholds, Value

Array = np.ndarray[Any, Any]

_POINTS = 64
"""Points inside the polygon, beside its corners. Sizes need to be right to a factor alone."""


@dataclass(frozen=True)
class Probes:
    """A network at a few points of a polygon.

    Attributes:
        scales: by step that bends: float64 [U], the largest size of each unit's input there. What
            is within round-off of zero is told by them, and so not by the part of the polygon
            that is looked at.
        numbers: by step: how many numbers at a point are alive while it is computed.

    """

    scales: dict[int, Array]
    numbers: tuple[int, ...]


def probed(graph: PiecewiseLinearGraph, origin: Tensor, axes: Tensor, polygon: Array) -> Probes:
    """Evaluate a network at the corners of a polygon and at points inside."""
    corners = polygon[:: -(-len(polygon) // _POINTS)]
    shares = np.random.default_rng(0).dirichlet(np.full(len(corners), 0.5), _POINTS)
    where = torch.from_numpy(np.vstack([corners, shares @ corners]))
    alive: dict[int, Value] = {0: origin + torch.tensordot(where, axes, 1)}
    scales, numbers = {}, []
    for number, step in enumerate(graph.steps):
        inputs, bends = [alive[index] for index in step.inputs], step.operation.bends
        needed = 0
        if isinstance(bends, Thresholds):
            scales[number] = inputs[0].abs().amax(0).flatten().numpy()
        elif isinstance(bends, Competitors):
            gathered = bends.gather(inputs)
            needed = gathered[0].numel()
            scales[number] = gathered.abs().amax((0, 2)).numpy()
        alive[step.output] = step.operation.apply(inputs)
        numbers.append(needed + sum(_numbers(value) for value in alive.values()))
        for index in step.last_use:
            alive.pop(index, None)
    return Probes(scales, tuple(numbers))


def _numbers(value: Value) -> int:
    return value[0].numel() if isinstance(value, Tensor) else sum(map(_numbers, value))
