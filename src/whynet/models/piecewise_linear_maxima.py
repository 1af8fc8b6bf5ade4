"""Cells of a plane cut where the largest of several affine numbers changes.

Each unit plays a tournament: its competitors meet the largest so far one after the other, and
cells are cut where a difference changes its sign. Walls at which a later competitor beats both are
no walls of the maximum: parts of a cell in which all units have the same winners are joined again,
which is exact, because the part of a cell that one competitor wins is convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Competitors, Value
from whynet.models.piecewise_linear_plane_state import (
    NEAR,
    Cut,
    Limits,
    PlaneState,
    refined,
    taken,
)
from whynet.numerics.plane_cutting import cut_cells, refine
from whynet.numerics.plane_merging import groups_of, merge_cells, plain_vertices
from whynet.numerics.tournaments import open_units, winners

Array = np.ndarray[Any, Any]

_SPARE = 8
"""Parts of a tournament for each cell that is allowed after joining."""

_SPARE_VERTICES = 4
"""Vertices in a tournament for each that is allowed: only values of contested units are held."""


def units_of(state: PlaneState, inputs: Sequence[int], bends: Competitors) -> int:
    """Return how many units play, found from the values at one vertex."""
    first = torch.zeros(1, dtype=torch.int64)
    return int(bends.gather([taken(state.values[index], first) for index in inputs]).shape[1])


def cut_at_winners(
    state: PlaneState,
    units: slice,
    limits: Limits,
    *,
    inputs: Sequence[int],
    bends: Competitors,
    number: int,
    scale: Array,
) -> Cut:
    """Cut the cells where the winners of some units change; a `Cutter` with the rest bound.

    Args:
        state, units, limits: as in `Cutter`.
        inputs: the values that the competitors are read from.
        bends: how.
        number: the step that cuts.
        scale: float64 [U], about the largest size of each unit's competitors on the polygon.

    """
    gathered: Tensor = bends.gather([state.values[index] for index in inputs])[:, units]
    played = np.ascontiguousarray(gathered.numpy())
    contested, size = open_units(played, NEAR, scale[units])
    if len(contested) == 0:
        return Cut(state, state.count)
    held, size = np.ascontiguousarray(played[:, contested]), size[contested]
    cells = replace(state, values={})
    parents, done, full = np.arange(state.count), state.count, False
    made: list[Array] = []
    largest = held[:, :, 0]
    for rival in range(1, bends.count):
        gap = np.ascontiguousarray(held[:, :, rival] - largest)
        active = np.flatnonzero((gap.max(0) > 0) & (gap.min(0) < 0))
        _, vertices, offsets, corners, origins, cut_from, fresh, finished, crowded = cut_cells(
            np.ascontiguousarray(gap[:, active]), NEAR, size[active], cells.vertices,
            cells.offsets, cells.corners, cells.origins, number, _SPARE * limits.cells,
            _SPARE_VERTICES * limits.vertices,
        )  # fmt: skip
        unfinished = finished < cells.count
        cells = PlaneState(vertices, offsets, corners, origins, {})
        if unfinished:
            full = full or crowded
            done = int(parents[finished])
        parents = parents[cut_from]
        if unfinished:
            cells, parents = _first_of(cells, parents, done)
        if done == 0:
            return Cut(state, 0, full)
        if len(fresh):
            made.append(fresh)
            held = _refined(held, fresh)
        largest = held[:, :, : rival + 1].max(2)
    if not made and cells.count == state.count:
        return Cut(state, state.count)
    joined, kept = _joined(cells, parents, held, size, len(state.vertices))
    if joined.count + state.count - done > limits.cells:
        return Cut(state, 0, full=True)
    values = {index: _followed(value, made, kept) for index, value in state.values.items()}
    return Cut(replace(joined, values=values), done, full)


def _first_of(cells: PlaneState, parents: Array, done: int) -> tuple[PlaneState, Array]:
    """Return the cells that were cut from the first `done` ones, with all vertices."""
    count = int(np.searchsorted(parents, done))
    top = cells.offsets[count]
    return replace(
        cells,
        offsets=cells.offsets[: count + 1],
        corners=cells.corners[:top],
        origins=cells.origins[:top],
    ), parents[:count]


def _refined(held: Array, made: Array) -> Array:
    flat = np.ascontiguousarray(held.reshape(len(held), -1))
    return np.asarray(refine(flat, made)).reshape(-1, *held.shape[1:])


def _followed(value: Value, made: Sequence[Array], kept: Array) -> Value:
    """Return a value at the vertices that are left after all cuts."""
    for fresh in made:
        value = refined(value, fresh)
    return taken(value, torch.from_numpy(kept))


def _joined(
    cells: PlaneState, parents: Array, held: Array, scale: Array, before: int
) -> tuple[PlaneState, Array]:
    """Join parts with equal winners; return the cells, and the vertices that are left."""
    group = groups_of(parents, winners(held, NEAR, scale, cells.offsets, cells.corners))
    order = np.argsort(group, kind="stable")
    offsets, corners, origins = merge_cells(
        cells.offsets, cells.corners, cells.origins, order, group[order]
    )
    kept, offsets, corners, origins = plain_vertices(
        len(cells.vertices), before, offsets, corners, origins
    )
    return PlaneState(cells.vertices[kept], offsets, corners, origins, {}), kept
