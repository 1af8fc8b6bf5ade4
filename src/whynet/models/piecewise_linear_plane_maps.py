"""The affine map of a network on each cell of a polygon."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Value
from whynet.models.piecewise_linear_plane_state import PlaneState
from whynet.numerics.plane_cutting import maps_of

_THIN = 1e-5
"""Share of the polygon's extent: the slopes of cells that are thinner are not read from corners."""

_AT_ONCE = 2**22
"""Numbers of one operation on the centers of thin cells, for bounding memory."""


def affine_maps(
    graph: PiecewiseLinearGraph, origin: Tensor, axes: Tensor, state: PlaneState, extent: float
) -> np.ndarray:
    """Return the affine map of each cell, float64 [C, 3, O].

    From its corners; by derivatives where it is thin, and of cells that were not carried through
    the network, on whose centers they hold.

    Args:
        graph: the network.
        origin: [*input_shape], float64.
        axes: [2, *input_shape], float64.
        state: the cells.
        extent: of the whole polygon.

    """
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
