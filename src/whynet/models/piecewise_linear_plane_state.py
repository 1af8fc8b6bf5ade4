"""A polygon while a network is followed in it: cells, and the network's values at their corners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Value
from whynet.numerics.plane_cutting import refine

NEAR = 1e-12
"""Share of the largest value of a unit within which it is on its level."""


@dataclass
class PlaneState:
    """The cells so far, and the values of the network at their vertices.

    Attributes:
        vertices: float64 [V, 2].
        offsets: int64 [C + 1], as in `PlaneCells`, and so the next two.
        corners: int64 [K].
        origins: int64 [K].
        values: number of a value to what it is at every vertex, [V, ...].

    """

    vertices: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    origins: np.ndarray
    values: dict[int, Value]

    @property
    def count(self) -> int:
        """How many cells there are."""
        return len(self.offsets) - 1


class Limits(NamedTuple):
    """Where cutting stops.

    Attributes:
        cells: most cells, those counted that are not cut yet.
        vertices: most vertices that are held at once.

    """

    cells: int
    vertices: int


class Cut(NamedTuple):
    """What came of cutting.

    Attributes:
        state: the parts of the first `done` cells.
        done: how many cells were cut.
        full: whether it stopped because of too many cells; else, where cells are left, because of
            too many vertices.

    """

    state: PlaneState
    done: int
    full: bool = False


Cutter = Callable[[PlaneState, slice, Limits], Cut]
"""Cuts the cells by some units, as far as limits allow."""


def refined(value: Value, made: np.ndarray) -> Value:
    """Add what a value is at new vertices, `made` as by `cut_cells`."""
    if not isinstance(value, Tensor):
        return tuple(refined(item, made) for item in value)
    flat = np.ascontiguousarray(value.reshape(len(value), -1).numpy())
    return torch.from_numpy(refine(flat, made)).reshape(-1, *value.shape[1:])


def taken(value: Value, kept: Tensor) -> Value:
    """Return what a value is at some vertices."""
    if not isinstance(value, Tensor):
        return tuple(taken(item, kept) for item in value)
    return value[kept]


def part_of(state: PlaneState, first: int, end: int) -> tuple[PlaneState, np.ndarray]:
    """Return some cells with their vertices alone, and which vertices those are, ascending."""
    begin, stop = state.offsets[first], state.offsets[end]
    used = np.zeros(len(state.vertices), dtype=bool)
    used[state.corners[begin:stop]] = True
    kept = np.flatnonzero(used)
    numbers = np.cumsum(used) - 1
    where = torch.from_numpy(kept)
    return PlaneState(
        state.vertices[kept],
        state.offsets[first : end + 1] - begin,
        numbers[state.corners[begin:stop]],
        state.origins[begin:stop].copy(),
        {index: taken(value, where) for index, value in state.values.items()},
    ), kept


def cut_by_first(state: PlaneState, cut: Cutter, units: slice, limits: Limits, parts: int) -> Cut:
    """Cut by the first units, up to that which makes more cells than allowed.

    Args:
        state: the cells.
        cut: how.
        units: too many of them.
        limits: cells above which it stops, and vertices.
        parts: into how many one unit can cut a cell.

    """
    begin, block = units.start, 2 ** ((units.stop - units.start).bit_length() - 1)
    while block:
        found = cut(state, slice(begin, min(begin + block, units.stop)), limits)
        if not found.full and found.done == state.count:
            state, begin = found.state, begin + block
        block //= 2
    # The last one may pass the bound: it is what shows that there are more cells.
    last = cut(state, slice(begin, begin + 1), Limits(parts * limits.cells, limits.vertices))
    return last if last.done == state.count else Cut(state, state.count, full=True)
