"""Cells of a plane cut where the largest of several affine numbers changes.

Each unit plays a tournament: its competitors meet the largest so far one after the other, and
cells are cut where a difference changes its sign. Walls at which a later competitor beats both are
no walls of the maximum: parts of a cell in which all units have the same winners are joined again,
which is exact, because the part of a cell that one competitor wins is convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Competitors, Value
from whynet.models.piecewise_linear_plane_state import NEAR, PlaneState, cut_within, refined
from whynet.numerics.plane_cutting import cut_cells, refine
from whynet.numerics.plane_merging import groups_of, merge_cells, plain_vertices

Array = np.ndarray[Any, Any]

_SPARE = 8
"""Parts of a tournament for each cell that is allowed after joining."""

_AT_ONCE = 2**24
"""Numbers of competitors at cells' centers looked at together, for bounding memory."""


def decided(
    state: PlaneState, inputs: Sequence[int], bends: Competitors, number: int, most: int
) -> tuple[PlaneState, bool]:
    """Cut the cells where winners change.

    Args:
        state: the cells and values.
        inputs: the values that the competitors are read from.
        bends: how.
        number: the step that cuts.
        most: cells above which it stops.

    Returns:
        As `cut_within`.

    """
    # One vertex is enough to see how many units there are.
    first = torch.zeros(1, dtype=torch.int64)
    units = bends.gather([_taken(state.values[index], first) for index in inputs]).shape[1]
    cut = partial(_cut, inputs=inputs, bends=bends, number=number)
    return cut_within(state, cut, units, most, bends.count)


def _cut(
    state: PlaneState,
    units: slice,
    most: int,
    *,
    inputs: Sequence[int],
    bends: Competitors,
    number: int,
) -> PlaneState | None:
    gathered: Tensor = bends.gather([state.values[index] for index in inputs])[:, units]
    held, scale = _contested(gathered)
    if held.shape[1] == 0:
        return state
    cells = replace(state, values={})
    parents = np.arange(state.count)
    made: list[Array] = []
    largest = held[:, :, 0]
    for rival in range(1, bends.count):
        gap = np.ascontiguousarray(held[:, :, rival] - largest)
        active = np.flatnonzero((gap.max(0) > 0) & (gap.min(0) < 0))
        _, vertices, offsets, corners, origins, cut_from, fresh, whole = cut_cells(
            np.ascontiguousarray(gap[:, active]), NEAR, scale[active], cells.vertices,
            cells.offsets, cells.corners, cells.origins, number, _SPARE * most,
        )  # fmt: skip
        if not whole:
            return None
        cells = PlaneState(vertices, offsets, corners, origins, {})
        parents = parents[cut_from]
        if len(fresh):
            made.append(fresh)
            held = _refined(held, fresh)
        largest = held[:, :, : rival + 1].max(2)
    if not made and cells.count == state.count:
        return state
    joined, kept = _joined(cells, parents, held, scale, len(state.vertices))
    if joined.count > most:
        return None
    values = {index: _followed(value, made, kept) for index, value in state.values.items()}
    return replace(joined, values=values)


def _contested(competitors: Tensor) -> tuple[Array, Array]:
    """Return the units without a winner at all vertices, [V, U, k], and their sizes, [U]."""
    held = competitors.numpy()
    scale = np.abs(held).max((0, 2), initial=0.0)
    best = held.max(2, keepdims=True) - NEAR * scale[:, None]
    open_ = np.flatnonzero(~(held >= best).all(0).any(1))
    return np.ascontiguousarray(held[:, open_]), scale[open_]


def _refined(held: Array, made: Array) -> Array:
    flat = np.ascontiguousarray(held.reshape(len(held), -1))
    return np.asarray(refine(flat, made)).reshape(-1, *held.shape[1:])


def _followed(value: Value, made: Sequence[Array], kept: Array) -> Value:
    """Return a value at the vertices that are left after all cuts."""
    for fresh in made:
        value = refined(value, fresh)
    return _taken(value, torch.from_numpy(kept))


def _taken(value: Value, kept: Tensor) -> Value:
    if not isinstance(value, Tensor):
        return tuple(_taken(item, kept) for item in value)
    return value[kept]


def _joined(
    cells: PlaneState, parents: Array, held: Array, scale: Array, before: int
) -> tuple[PlaneState, Array]:
    """Join parts with equal winners; return the cells, and the vertices that are left."""
    group = groups_of(parents, _winners(cells, held, scale))
    order = np.argsort(group, kind="stable")
    offsets, corners, origins = merge_cells(
        cells.offsets, cells.corners, cells.origins, order, group[order]
    )
    kept, offsets, corners, origins = plain_vertices(
        len(cells.vertices), before, offsets, corners, origins
    )
    return PlaneState(cells.vertices[kept], offsets, corners, origins, {}), kept


def _winners(cells: PlaneState, held: Array, scale: Array) -> Array:
    """Return each unit's first winner at the center of each cell, int16 [C, U]."""
    units, count = held.shape[1:]
    flat = held.reshape(len(held), -1)
    rows = max(1, _AT_ONCE // max(1, 8 * units * count))
    found = np.empty((cells.count, units), np.int16)
    sizes = np.diff(cells.offsets)
    for begin in range(0, cells.count, rows):
        end = min(begin + rows, cells.count)
        first, last = cells.offsets[begin], cells.offsets[end]
        sums = np.add.reduceat(
            flat[cells.corners[first:last]], cells.offsets[begin:end] - first, axis=0
        )
        center = (sums / sizes[begin:end, None]).reshape(-1, units, count)
        near = center >= center.max(2, keepdims=True) - NEAR * scale[:, None]
        found[begin:end] = near.argmax(2)
    return found
