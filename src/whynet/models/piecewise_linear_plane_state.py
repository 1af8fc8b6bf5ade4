"""A polygon while a network is followed in it: cells, and the network's values at their corners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def refined(value: Value, made: np.ndarray) -> Value:
    """Add what a value is at new vertices, `made` as by `cut_cells`."""
    if not isinstance(value, Tensor):
        return tuple(refined(item, made) for item in value)
    flat = np.ascontiguousarray(value.reshape(len(value), -1).numpy())
    return torch.from_numpy(refine(flat, made)).reshape(-1, *value.shape[1:])


Cut = Callable[[PlaneState, slice, int], PlaneState | None]
"""Cuts the cells by some units, and returns None where they become more than a number."""


def cut_within(
    state: PlaneState, cut: Cut, units: int, most: int, parts: int
) -> tuple[PlaneState, bool]:
    """Cut by all units; or by the first ones, up to that which makes more than `most` cells.

    Args:
        state: the cells.
        cut: how.
        units: how many there are.
        most: cells above which it stops.
        parts: into how many one unit can cut a cell.

    Returns:
        The cells, and whether all units have cut them. A new state, so that an interruption
        leaves the old one whole.

    """
    finer = cut(state, slice(0, units), most)
    if finer is not None:
        return finer, True
    begin, block = 0, 2 ** (units.bit_length() - 1)
    while block:
        finer = cut(state, slice(begin, min(begin + block, units)), most)
        if finer is not None:
            state, begin = finer, begin + block
        block //= 2
    last = cut(state, slice(begin, begin + 1), parts * most)
    return (state if last is None else last), False
