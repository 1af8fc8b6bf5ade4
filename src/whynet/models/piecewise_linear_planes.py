"""All cells of a piecewise-linear network in a convex polygon of a plane of its input space.

The network is continuous, so that its values belong to vertices, not to cells. At a unit that
bends, every cell in which it has both signs is cut; the new vertex on an edge is shared by the
two cells beside it, because the unit has the same values on the edge for both. Maxima of several
numbers are followed in `piecewise_linear_maxima`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_cancellation import applied
from whynet.models.piecewise_linear_maxima import decided
from whynet.models.piecewise_linear_operations import Competitors, Thresholds, Value
from whynet.models.piecewise_linear_plane_state import NEAR, PlaneState, cut_within, refined
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_cutting import cut_cells, maps_of, neighbors_of, refine

_THIN = 1e-4
"""Share of the polygon's extent: the slopes of cells that are thinner are not read from corners."""

_AT_ONCE = 2**22
"""Numbers of one operation on the centers of thin cells, for bounding memory."""


@torch.no_grad()
def subdivide(
    graph: PiecewiseLinearGraph,
    origin: Tensor,
    axes: Tensor,
    polygon: np.ndarray,
    max_cells: int = 1_000_000,
) -> PlaneCells:
    """Cut a convex polygon into the cells of a network.

    Args:
        graph: the network.
        origin: [*input_shape], the input at the coordinates (0, 0).
        axes: [2, *input_shape], what one unit of each coordinate adds.
        polygon: float64 [P, 2], corners, convex, counter-clockwise.
        max_cells: cells above which it stops.

    Returns:
        The cells, `complete` false where it was interrupted or stopped.

    """
    axes, origin = axes.double(), origin.double()
    points = torch.as_tensor(polygon, dtype=torch.float64)
    count = len(polygon)
    state = PlaneState(
        np.asarray(polygon, dtype=np.float64),
        np.array([0, count]),
        np.arange(count),
        np.full(count, -1),
        {0: origin + torch.tensordot(points, axes, 1)},
    )
    complete = interrupted = False
    try:
        for number, step in enumerate(graph.steps):
            bends, whole = step.operation.bends, True
            if isinstance(bends, Competitors):
                state, whole = decided(state, step.inputs, bends, number, max_cells)
            elif isinstance(bends, Thresholds):
                state, whole = _crossed(state, step.inputs[0], bends, number, max_cells)
            if not whole:
                break
            inputs = [state.values[index] for index in step.inputs]
            state.values[step.output] = applied(step.operation, inputs)
            for index in step.last_use:
                state.values.pop(index, None)
        else:
            complete = True
    except KeyboardInterrupt:
        interrupted = True  # what was cut so far stands
    return PlaneCells(
        state.vertices,
        state.offsets,
        state.corners,
        neighbors_of(state.offsets, state.corners),
        state.origins,
        _maps(graph, origin, axes, state),
        complete,
        interrupted,
    )


def _crossed(
    state: PlaneState, index: int, bends: Thresholds, number: int, most: int
) -> tuple[PlaneState, bool]:
    """Return the cells, cut where units cross their levels, and whether by all of them.

    Of more than `most` cells, those are returned with which the bound is passed, unit by unit. A
    new state, so that an interruption leaves the old one whole.
    """
    shape = state.values[index].shape[1:]
    for level in bends.levels:
        levels = torch.broadcast_to(torch.as_tensor(level, dtype=torch.float64), shape).flatten()
        cut = partial(_cut, index=index, levels=levels, number=number)
        # A line cuts each cell in at most two.
        state, whole = cut_within(state, cut, levels.numel(), most, 2)
        if not whole:
            return state, False
    return state, True


def _cut(
    state: PlaneState, units: slice, most: int, *, index: int, levels: Tensor, number: int
) -> PlaneState | None:
    """Cut the cells by some units of a value; None where they become more than `most`."""
    shape = state.values[index].shape[1:]
    held = np.ascontiguousarray(state.values[index].reshape(len(state.vertices), -1).numpy())
    level = levels.numpy()
    highest, lowest = held[:, units].max(0) - level[units], held[:, units].min(0) - level[units]
    # Only units with both signs can cut; of a convolutional layer those are few.
    active = units.start + np.flatnonzero((highest > 0) & (lowest < 0))
    every = units == slice(0, len(level)) and 2 * len(active) > len(level)
    picked = held if every else held[:, active]
    shift = level if every else level[active]
    gap, vertices, offsets, corners, origins, _, made, whole = cut_cells(
        np.ascontiguousarray(picked - shift if shift.any() else picked), NEAR, np.abs(shift),
        state.vertices, state.offsets, state.corners, state.origins, number, most,
    )  # fmt: skip
    if not whole:
        return None
    if len(made) == 0:
        return replace(state, offsets=offsets, corners=corners, origins=origins)
    values = {k: refined(v, made) for k, v in state.values.items() if k != index}
    finer = gap + shift if shift.any() else gap
    if not every:
        finer, cut = refine(held, made), finer
        finer[:, active] = cut
    # As the kernel left them: exactly on their level where they cross.
    values[index] = torch.from_numpy(finer).reshape(-1, *shape)
    return PlaneState(vertices, offsets, corners, origins, values)


def _maps(
    graph: PiecewiseLinearGraph, origin: Tensor, axes: Tensor, state: PlaneState
) -> np.ndarray:
    """Return the affine map of each cell: from its corners; where it is thin, by derivatives."""
    cells = len(state.offsets) - 1
    rows = max(1, _AT_ONCE // graph.widest)
    if graph.output not in state.values:
        parts = [np.arange(cells)[begin : begin + rows] for begin in range(0, cells, rows)]
        return np.concatenate(
            [_derived(graph, origin, axes, _centers(state, some)) for some in parts]
        )
    values = state.values[graph.output].reshape(len(state.vertices), -1)
    maps, heights = maps_of(
        state.vertices, state.offsets, state.corners, np.ascontiguousarray(values.numpy())
    )
    extent = float(np.ptp(state.vertices, axis=0).max())
    thin = np.flatnonzero(heights < _THIN * extent)
    for begin in range(0, len(thin), rows):
        some = thin[begin : begin + rows]
        maps[some] = _derived(graph, origin, axes, _centers(state, some))
    return np.asarray(maps)


def _centers(state: PlaneState, cells: np.ndarray) -> np.ndarray:
    counts = np.diff(state.offsets)[cells]
    starts = np.cumsum(counts) - counts
    places = np.arange(counts.sum()) + np.repeat(state.offsets[cells] - starts, counts)
    sums = np.add.reduceat(state.vertices[state.corners[places]], starts)
    return np.asarray(sums / counts[:, None])


def _derived(
    graph: PiecewiseLinearGraph, origin: Tensor, axes: Tensor, centers: np.ndarray
) -> np.ndarray:
    """Read affine maps, [N, 3, O], from the network's derivatives at inner points of cells."""
    where = torch.as_tensor(centers)

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
