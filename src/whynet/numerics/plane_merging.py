"""Joining cells of a polygon whose union is convex."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]


@njit(cache=True, nogil=True)
def groups_of(parents: Array, labels: Array) -> Array:
    """Number cells so that those of one parent with equal labels have the same number.

    Args:
        parents: int64 [C], ascending.
        labels: integers [C, U].

    Returns:
        int64 [C], numbers from 0 on; those of a parent follow each other.

    Cost: cells of a parent squared, times U where labels are equal.

    """
    count, units = labels.shape
    group = np.empty(count, np.int64)
    chief = np.empty(count, np.int64)  # the first cell of each group
    groups = first = 0
    for cell in range(count):
        if cell == 0 or parents[cell] != parents[cell - 1]:
            first = groups
        found = -1
        for candidate in range(first, groups):
            same = True
            for unit in range(units):
                if labels[cell, unit] != labels[chief[candidate], unit]:
                    same = False
                    break
            if same:
                found = candidate
                break
        if found < 0:
            found = groups
            chief[groups] = cell
            groups += 1
        group[cell] = found
    return group


@njit(cache=True, nogil=True)
def merge_cells(
    offsets: Array, corners: Array, origins: Array, order: Array, group: Array
) -> tuple[Array, Array, Array]:
    """Join the cells of each group: edges that two of them share go, the others make one ring.

    Args:
        offsets: int64 [C + 1], as in `PlaneCells`, and so the next two.
        corners: int64 [K].
        origins: int64 [K].
        order: int64 [C], the cells, those of a group one after the other.
        group: int64 [C], ascending, the group of each cell of `order`.

    Returns:
        `offsets`, `corners` and `origins` of the groups, in their order. Vertices on a straight
        wall stay.

    Cost: edges of a group squared.

    """
    out_offsets = np.zeros(order.size + 1, np.int64)
    out_corners = np.empty(corners.size, np.int64)
    out_origins = np.empty(corners.size, np.int64)
    tails, heads = np.empty(corners.size, np.int64), np.empty(corners.size, np.int64)
    made = np.empty(corners.size, np.int64)
    cells = top = at = 0
    while at < order.size:
        size, this = 0, group[at]
        alone = at + 1 == order.size or group[at + 1] != this
        while at < order.size and group[at] == this:
            begin, end = offsets[order[at]], offsets[order[at] + 1]
            for k in range(begin, end):
                tails[size] = corners[k]
                heads[size] = corners[k + 1 if k + 1 < end else begin]
                made[size] = origins[k]
                size += 1
            at += 1
        if not alone:
            left = 0
            for k in range(size):
                shared = False
                for other in range(size):
                    if tails[other] == heads[k] and heads[other] == tails[k]:
                        shared = True
                        break
                if not shared:
                    # Places before `k` are looked at no more as `k`, but as others: keep a copy.
                    out_corners[top + left] = k
                    left += 1
            ring = out_corners[top : top + left].copy()
            size = left
            tails[:size], heads[:size], made[:size] = tails[ring], heads[ring], made[ring]
        place = 0
        for _ in range(size):
            out_corners[top], out_origins[top] = tails[place], made[place]
            top += 1
            for other in range(size):
                if tails[other] == heads[place]:
                    place = other
                    break
        cells += 1
        out_offsets[cells] = top
    return out_offsets[: cells + 1], out_corners[:top], out_origins[:top]


def plain_vertices(
    count: int, before: int, offsets: Array, corners: Array, origins: Array
) -> tuple[Array, Array, Array, Array]:
    """Drop new vertices that no edge needs: used by none, or on a straight wall of two cells.

    Args:
        count: vertices.
        before: how many of them, the first ones, stay in any case.
        offsets: int64 [C + 1], as in `PlaneCells`, and so the next two.
        corners: int64 [K].
        origins: int64 [K].

    Returns:
        The vertices that are left, int64, ascending; and `offsets`, `corners`, `origins` in their
        numbers.

    """
    last = np.zeros(len(corners), dtype=bool)
    last[offsets[1:] - 1] = True
    heads = np.append(corners[1:], corners[0])
    heads[last] = corners[offsets[:-1]]
    edges = np.unique(np.minimum(corners, heads) << 32 | np.maximum(corners, heads))
    degree = np.bincount(edges >> 32, minlength=count)
    degree += np.bincount(edges & 0xFFFFFFFF, minlength=count)
    stays = (degree > 2) | (np.arange(count) < before)
    held = stays[corners]
    sizes = np.add.reduceat(held.astype(np.int64), offsets[:-1])
    numbers = np.cumsum(stays) - 1
    return (
        np.flatnonzero(stays),
        np.concatenate([[0], np.cumsum(sizes)]),
        numbers[corners[held]],
        origins[held],
    )
