"""Units that are the largest of several numbers: whose winner is open, and who wins where."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True)
def open_units(values: Array, near: float, scale: Array) -> tuple[Array, Array]:
    """Return the units that no competitor wins at all points.

    Args:
        values: float64 [V, U, k], of the competitors.
        near: share of a unit's size within which a number counts as the largest.
        scale: float64 [U], the least size of each unit.

    Returns:
        int64, the units whose winner is open, and float64 [U], the sizes: the largest value of
        any competitor, or `scale`.

    """
    points, units, count = values.shape
    size = scale.copy()
    for v in range(points):
        for unit in range(units):
            for k in range(count):
                size[unit] = max(size[unit], abs(values[v, unit, k]))
    wins = np.ones((units, count), np.bool_)
    for v in range(points):
        for unit in range(units):
            best = values[v, unit, 0]
            for k in range(1, count):
                best = max(best, values[v, unit, k])
            least = best - near * size[unit]
            for k in range(count):
                if values[v, unit, k] < least:
                    wins[unit, k] = False
    found = np.empty(units, np.int64)
    top = 0
    for unit in range(units):
        decided = False
        for k in range(count):
            decided = decided or wins[unit, k]
        if not decided:
            found[top] = unit
            top += 1
    return found[:top].copy(), size


@njit(cache=True, nogil=True)
def winners(values: Array, near: float, size: Array, offsets: Array, corners: Array) -> Array:
    """Return each unit's first winner at the center of each cell, int16 [C, U].

    Args:
        values: float64 [V, U, k], of the competitors.
        near: share of a unit's size within which a number counts as the largest.
        size: float64 [U].
        offsets: int64 [C + 1], as in `PlaneCells`.
        corners: int64 [K].

    """
    _, units, count = values.shape
    found = np.empty((offsets.size - 1, units), np.int16)
    center = np.empty(count)
    for cell in range(offsets.size - 1):
        begin, end = offsets[cell], offsets[cell + 1]
        for unit in range(units):
            best = -np.inf
            for k in range(count):
                center[k] = 0.0
                for corner in range(begin, end):
                    center[k] += values[corners[corner], unit, k]
                center[k] /= end - begin
                best = max(best, center[k])
            winner = 0
            while center[winner] < best - near * size[unit]:
                winner += 1
            found[cell, unit] = winner
    return found
