"""All cells of a piecewise-linear network in a convex polygon of a plane of its input space.

The network is continuous, so that its values belong to vertices, not to cells. At a unit that
bends, every cell in which it has both signs is cut; the new vertex on an edge is shared by the
two cells beside it, because the unit has the same values on the edge for both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Competitors, Thresholds, Value
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_measures import following

_NEAR = 1e-12
"""Share of the largest value of a unit within which it is on its level."""


@dataclass
class _State:
    """The cells so far, and the values of the network at their vertices."""

    vertices: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    origins: np.ndarray
    values: dict[int, Value]


@torch.no_grad()
def subdivide(
    graph: PiecewiseLinearGraph,
    origin: Tensor,
    axes: Tensor,
    polygon: np.ndarray,
    max_cells: int = 1_000_000,
) -> PlaneCells | NotApplicable:
    """Cut a convex polygon into the cells of a network.

    Args:
        graph: the network.
        origin: [*input_shape], the input at the coordinates (0, 0).
        axes: [2, *input_shape], what one unit of each coordinate adds.
        polygon: float64 [P, 2], corners, convex, counter-clockwise.
        max_cells: cells above which it stops.

    Returns:
        The cells, `complete` false where it was interrupted or stopped; or the sentence that
        says which operation is not followed.

    """
    axes, origin = axes.double(), origin.double()
    points = torch.as_tensor(polygon, dtype=torch.float64)
    count = len(polygon)
    state = _State(
        np.asarray(polygon, dtype=np.float64),
        np.array([0, count]),
        np.arange(count),
        np.full(count, -1),
        {0: origin + torch.tensordot(points, axes, 1)},
    )
    complete = True
    try:
        for number, step in enumerate(graph.steps):
            if isinstance(step.operation.bends, Competitors):
                return NotApplicable(f"{step.name}: maxima are not followed in planes.")
            if isinstance(step.operation.bends, Thresholds) and not _cross(
                state, step.inputs[0], step.operation.bends, number, max_cells
            ):
                complete = False
                break
            inputs = [state.values[index] for index in step.inputs]
            state.values[step.output] = step.operation.apply(inputs)
            for index in step.last_use:
                state.values.pop(index, None)
    except KeyboardInterrupt:
        complete = False
    return PlaneCells(
        state.vertices,
        state.offsets,
        state.corners,
        neighbors_of(state.offsets, state.corners),
        state.origins,
        _maps(graph, origin, axes, state),
        complete,
    )


def _cross(state: _State, index: int, bends: Thresholds, number: int, most: int) -> bool:
    shape = state.values[index].shape[1:]
    for level in bends.levels:
        levels = torch.broadcast_to(torch.as_tensor(level, dtype=torch.float64), shape).flatten()
        for unit in range(levels.numel()):
            distance = state.values[index].reshape(len(state.vertices), -1)[:, unit] - levels[unit]
            tolerance = _NEAR * float(distance.abs().max() + levels[unit].abs())
            _split(state, distance.numpy(), tolerance, number)
            if len(state.offsets) - 1 > most:
                return False
    return True


def _split(state: _State, distance: np.ndarray, tolerance: float, number: int) -> None:
    """Cut the cells in which `distance` has both signs."""
    sign = (distance > tolerance).astype(np.int8) - (distance < -tolerance)
    side = sign[state.corners]
    cell = np.repeat(np.arange(len(state.offsets) - 1), np.diff(state.offsets))
    cells = len(state.offsets) - 1
    both = (np.bincount(cell, side > 0, cells) > 0) & (np.bincount(cell, side < 0, cells) > 0)
    if not both.any():
        return
    after = following(state.offsets)
    here, there = state.corners, state.corners[after]
    crosses = np.flatnonzero(side * side[after] < 0)
    low, high = (f(here[crosses], there[crosses]) for f in (np.minimum, np.maximum))
    keys, inverse = np.unique(low * len(state.vertices) + high, return_inverse=True)
    a, b = keys // len(state.vertices), keys % len(state.vertices)
    fresh = len(state.vertices) + inverse
    weight = distance[a] / (distance[a] - distance[b])
    state.vertices = np.concatenate(
        [
            state.vertices,
            (1 - weight)[:, None] * state.vertices[a] + weight[:, None] * state.vertices[b],
        ]
    )
    left, right, share = (torch.as_tensor(x) for x in (a, b, weight))
    state.values = {k: _finer(v, left, right, share) for k, v in state.values.items()}
    # Each corner, and behind it the new vertex of the edge that begins there.
    place = np.arange(len(here)) + 0.0
    ring = np.concatenate([here, fresh])
    order = np.argsort(np.concatenate([place, place[crosses] + 0.5]), kind="stable")
    ring = ring[order]
    sides = np.concatenate([side, np.zeros(len(crosses), dtype=side.dtype)])[order]
    owner = np.concatenate([cell, cell[crosses]])[order]
    origins = np.concatenate([state.origins, state.origins[crosses]])[order]
    parts = []
    for wanted in (1, -1):
        kept = np.flatnonzero((sides * wanted >= 0) | (~both[owner] & (wanted > 0)))
        if wanted < 0:
            kept = kept[both[owner[kept]]]
        made = origins[kept].copy()
        # The edge between the two corners on the wall is new, and made by this step.
        counts = np.bincount(owner[kept], minlength=cells)
        counts = counts[counts > 0]
        after = following(np.concatenate([[0], np.cumsum(counts)]))
        on = (sides[kept] == 0) & both[owner[kept]]
        wall = on & on[after]
        made[wall] = number
        parts.append((ring[kept], made, counts))
    state.corners = np.concatenate([part[0] for part in parts])
    state.origins = np.concatenate([part[1] for part in parts])
    state.offsets = np.concatenate([[0], np.cumsum(np.concatenate([part[2] for part in parts]))])


def _finer(value: Value, a: Tensor, b: Tensor, weight: Tensor) -> Value:
    if not isinstance(value, Tensor):
        return tuple(_finer(item, a, b, weight) for item in value)
    share = weight.reshape(-1, *[1] * (value.dim() - 1))
    return torch.cat([value, (1 - share) * value[a] + share * value[b]])


def _maps(graph: PiecewiseLinearGraph, origin: Tensor, axes: Tensor, state: _State) -> np.ndarray:
    """Read the affine map of each cell from the network's derivative at an inner point."""
    counts = np.diff(state.offsets)
    center = np.add.reduceat(state.vertices[state.corners], state.offsets[:-1]) / counts[:, None]
    where = torch.as_tensor(center)

    def at(coordinates: Tensor) -> Tensor:
        points = origin + torch.tensordot(coordinates, axes, 1)
        value: Value = points
        for index, made in graph.values(points):
            if index == graph.output:
                value = made
        assert isinstance(value, Tensor)
        return value.reshape(len(points), -1)

    with torch.enable_grad():
        where.requires_grad_()
        value = at(where)
        columns = value.shape[1]
        slopes = [
            torch.autograd.grad(value[:, i].sum(), where, retain_graph=True, allow_unused=True)[0]
            if value.requires_grad
            else None
            for i in range(columns)
        ]
    where, value = where.detach(), value.detach()
    slope = torch.stack([torch.zeros_like(where) if s is None else s for s in slopes], 2)
    constant = value - (slope * where[:, :, None]).sum(1)
    return torch.cat([slope, constant[:, None]], 1).numpy()


def neighbors_of(offsets: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return the cell across each edge, int64 [K]; -1 where there is none."""
    after = following(offsets)
    cell = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    size = int(corners.max()) + 1
    forward, backward = corners * size + corners[after], corners[after] * size + corners
    order = np.argsort(forward)
    place = np.searchsorted(forward[order], backward).clip(max=len(order) - 1)
    found = forward[order][place] == backward
    return np.where(found, cell[order][place], -1)
