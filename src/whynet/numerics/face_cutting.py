"""Cutting a polytope, with its faces of all dimensions, by many functions: the compiled kernel.

A polytope is a list of faces of every dimension, each by the faces one dimension lower that bound
it; vertices are those of dimension 0. A function that is affine on every cell is given by its
values at the vertices. A face with both signs at its vertices is cut: the part above keeps its
number, the part below and the section between get new ones. Faces are shared by the cells beside
them and are cut once, so that cells fit together whatever the round-off; positions decide nothing
but signs at vertices.

Lists of all dimensions stand in one array, a row for each: `begin[k, f]` and `size[k, f]` say where
in `pool[k]` the faces stand that bound face f of dimension k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

WHOLE, MANY, UNCLEAR = 0, 1, 2
"""How cutting ended: by all functions; at more than the bound of cells; where signs at vertices
are those of no affine function, which is round-off at a tolerance that is too small."""

_ABOVE, _BELOW, _ON, _CUT = 1, -1, 0, 2


@njit(cache=True)
def _wider(array: Array, size: int) -> Array:
    more = np.zeros((array.shape[0], max(size, 2 * array.shape[1])), array.dtype)
    more[:, : array.shape[1]] = array
    return more


@njit(cache=True)
def _taller(array: Array) -> Array:
    more = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    more[: array.shape[0]] = array
    return more


@njit(cache=True, nogil=True)
def cut_faces(
    values: Array, near: float, scale: Array, vertices: Array, begin: Array, size: Array,
    pool: Array, count: Array, walls: Array, names: Array, most: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, Array, int, int]:  # fmt: skip
    """Cut every cell of D dimensions by the zero sets of all functions, one after another.

    Args:
        values: float64 [V, U], the functions at the vertices.
        near: share of its largest value, with `scale` added, below which a function is zero.
        scale: float64 [U].
        vertices: float64 [V, D].
        begin: int64 [D + 1, F].
        size: int64 [D + 1, F].
        pool: int64 [D + 1, P].
        count: int64 [D + 1], how many faces there are of each dimension.
        walls: int64 [F, W], what made each face of dimension D - 1.
        names: int64 [U, W], what to write there for walls of each function.
        most: cells above which it stops.

    Returns:
        `values`, `vertices`, `begin`, `size`, `pool`, `count` and `walls` of the finer cells;
        float64 [N, 3] with the ends of the edge that each new vertex cuts, in the order they were
        made, and its position on it; by how many functions was cut; and `WHOLE`, `MANY` or
        `UNCLEAR`. The arguments are left as they are.

    Cost: for each function that has both signs, a pass over the bounds of all faces; the finer
    lists.

    """
    top_dim = vertices.shape[1]
    units, fresh, status = values.shape[1], 0, WHOLE
    count = count.copy()
    room = 2 * count.max() + 64
    # A copy without the lists that earlier cuts left behind.
    total = np.zeros(top_dim + 1, np.int64)
    for k in range(1, top_dim + 1):
        for f in range(count[k]):
            total[k] += size[k, f]
    new_begin = np.zeros((top_dim + 1, room), np.int64)
    new_size = np.zeros((top_dim + 1, room), np.int64)
    new_pool = np.zeros((top_dim + 1, 2 * total.max() + 64), np.int64)
    top = np.zeros(top_dim + 1, np.int64)
    for k in range(1, top_dim + 1):
        for f in range(count[k]):
            new_begin[k, f], new_size[k, f] = top[k], size[k, f]
            for j in range(size[k, f]):
                new_pool[k, top[k] + j] = pool[k, begin[k, f] + j]
            top[k] += size[k, f]
    new_walls = np.zeros((room, walls.shape[1]), np.int64)
    new_walls[: count[top_dim - 1]] = walls[: count[top_dim - 1]]
    new_values = np.empty((room, units))
    new_values[: count[0]] = values
    new_vertices = np.empty((room, top_dim))
    new_vertices[: count[0]] = vertices
    made = np.empty((64, 3))
    state = np.zeros((top_dim + 1, room), np.int64)
    other = np.zeros((top_dim + 1, room), np.int64)
    section = np.zeros((top_dim + 1, room), np.int64)
    stamp = np.zeros((top_dim + 1, room), np.int64)
    mark, done = 0, 0
    for unit in range(units):
        largest = 0.0
        for v in range(count[0]):
            largest = max(largest, abs(new_values[v, unit]))
        tolerance = near * (largest + scale[unit])
        some_above, some_below = False, False
        for v in range(count[0]):
            value = new_values[v, unit]
            state[0, v] = _ABOVE if value > tolerance else (_BELOW if value < -tolerance else _ON)
            some_above |= value > tolerance
            some_below |= value < -tolerance
        if not (some_above and some_below):
            done += 1
            continue
        old = count.copy()
        for k in range(1, top_dim + 1):
            for f in range(old[k]):
                first, faces = new_begin[k, f], new_size[k, f]
                above, below = False, False
                for j in range(first, first + faces):
                    held = state[k - 1, new_pool[k, j]]
                    above |= held > 0
                    below |= held in (_BELOW, _CUT)
                if not (above and below):
                    state[k, f] = _ABOVE if above else (_BELOW if below else _ON)
                    continue
                if max(count[k], count[k - 1]) + 1 >= new_begin.shape[1]:
                    more = 2 * new_begin.shape[1]
                    new_begin, new_size = _wider(new_begin, more), _wider(new_size, more)
                    state, other = _wider(state, more), _wider(other, more)
                    section, stamp = _wider(section, more), _wider(stamp, more)
                    new_walls = _taller(new_walls)
                    new_values, new_vertices = _taller(new_values), _taller(new_vertices)
                wanted = 2 * faces + 2
                if k > 1:
                    for j in range(first, first + faces):
                        wanted += new_size[k - 1, new_pool[k, j]]
                if max(top[k], top[k - 1]) + wanted > new_pool.shape[1]:
                    new_pool = _wider(new_pool, max(top[k], top[k - 1]) + wanted)
                middle, below_part = count[k - 1], count[k]
                count[k - 1] += 1
                count[k] += 1
                state[k, f], state[k - 1, middle] = _CUT, _ON
                other[k, f], section[k, f] = below_part, middle
                if k == 1:
                    # Ends in ascending order, so that the place does not depend on the edge's way.
                    one = min(new_pool[1, first], new_pool[1, first + 1])
                    two = max(new_pool[1, first], new_pool[1, first + 1])
                    a, b = new_values[one, unit], new_values[two, unit]
                    share = a / (a - b)
                    rest = 1 - share
                    for i in range(units):
                        p, q = new_values[one, i], new_values[two, i]
                        new_values[middle, i] = rest * p + share * q
                    new_values[middle, unit] = 0.0
                    for i in range(top_dim):
                        p, q = new_vertices[one, i], new_vertices[two, i]
                        new_vertices[middle, i] = rest * p + share * q
                    if fresh == made.shape[0]:
                        made = _taller(made)
                    made[fresh, 0], made[fresh, 1], made[fresh, 2] = one, two, share
                    fresh += 1
                else:
                    # The section is bounded by the sections of what is cut, and by what lies on
                    # the zero set already, which two of the faces share.
                    mark += 1
                    place = top[k - 1]
                    new_begin[k - 1, middle] = place
                    for j in range(first, first + faces):
                        g = new_pool[k, j]
                        if state[k - 1, g] == _CUT:
                            new_pool[k - 1, place] = section[k - 1, g]
                            place += 1
                            continue
                        for i in range(
                            new_begin[k - 1, g], new_begin[k - 1, g] + new_size[k - 1, g]
                        ):
                            h = new_pool[k - 1, i]
                            if state[k - 2, h] == _ON and stamp[k - 2, h] != mark:
                                stamp[k - 2, h] = mark
                                new_pool[k - 1, place] = h
                                place += 1
                    new_size[k - 1, middle] = place - top[k - 1]
                    top[k - 1] = place
                    if new_size[k - 1, middle] < k or (k == 2 and new_size[k - 1, middle] != 2):
                        status = UNCLEAR
                if k == top_dim:
                    for i in range(names.shape[1]):
                        new_walls[middle, i] = names[unit, i]
                elif k == top_dim - 1:
                    new_walls[below_part] = new_walls[f]
                for way in (_ABOVE, _BELOW):
                    place = top[k]
                    for j in range(first, first + faces):
                        g = new_pool[k, j]
                        held = state[k - 1, g]
                        if held == _CUT:
                            new_pool[k, place] = g if way == _ABOVE else other[k - 1, g]
                            place += 1
                        elif held == way:
                            new_pool[k, place] = g
                            place += 1
                        elif held == _ON and k > 1:
                            status = UNCLEAR  # a face on the zero set, and both signs around it
                    new_pool[k, place] = middle
                    place += 1
                    part = f if way == _ABOVE else below_part
                    new_begin[k, part], new_size[k, part] = top[k], place - top[k]
                    top[k] = place
        done += 1
        if status == WHOLE and count[top_dim] > most:
            status = MANY
        if status != WHOLE:
            break
    widest, longest = count.max(), top.max()
    return (
        new_values[: count[0]].copy(), new_vertices[: count[0]].copy(),
        new_begin[:, :widest].copy(), new_size[:, :widest].copy(), new_pool[:, :longest].copy(),
        count, new_walls[: count[top_dim - 1]].copy(), made[:fresh].copy(), done, status,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def centers_of(vertices: Array, begin: Array, size: Array, pool: Array, count: Array) -> Array:
    """Return a point inside every face, float64 [D + 1, F, D]: the mean of those of its bounds."""
    top_dim = vertices.shape[1]
    centers = np.zeros((top_dim + 1, begin.shape[1], top_dim))
    centers[0, : count[0]] = vertices[: count[0]]
    for k in range(1, top_dim + 1):
        for f in range(count[k]):
            for j in range(begin[k, f], begin[k, f] + size[k, f]):
                for i in range(top_dim):
                    centers[k, f, i] += centers[k - 1, pool[k, j], i] / size[k, f]
    return centers


@njit(cache=True, nogil=True)
def volumes_of(begin: Array, size: Array, pool: Array, count: Array, centers: Array) -> Array:
    """Return the volume of every cell, float64 [C].

    Dimension by dimension: the volume of a face is the sum over its bounds of their volume times
    their distance from a point inside, over the dimension. Distances are taken off an orthonormal
    basis of each bound.
    """
    top_dim = centers.shape[2]
    lower_bases = np.empty((count[0], 0, top_dim))
    lower_volumes = np.ones(count[0])
    rest = np.empty(top_dim)
    for k in range(1, top_dim + 1):
        bases, volumes = np.empty((count[k], k, top_dim)), np.zeros(count[k])
        for f in range(count[k]):
            highest = -1.0
            for j in range(begin[k, f], begin[k, f] + size[k, f]):
                g = pool[k, j]
                for i in range(top_dim):
                    rest[i] = centers[k, f, i] - centers[k - 1, g, i]
                for _ in range(2):  # once more, against round-off
                    for b in range(k - 1):
                        along = 0.0
                        for i in range(top_dim):
                            along += lower_bases[g, b, i] * rest[i]
                        for i in range(top_dim):
                            rest[i] -= along * lower_bases[g, b, i]
                height = np.sqrt((rest * rest).sum())
                volumes[f] += height * lower_volumes[g] / k
                if height > highest:
                    highest = height
                    for b in range(k - 1):
                        bases[f, b] = lower_bases[g, b]
                    if height > 0:
                        bases[f, k - 1] = rest / height
                    else:
                        bases[f, k - 1] = 0.0
        lower_bases, lower_volumes = bases, volumes
    return lower_volumes


@njit(cache=True, nogil=True)
def cells_beside(begin: Array, size: Array, pool: Array, count: Array) -> Array:
    """Return the cells beside each face of dimension D - 1, int64 [F, 2]; -1 where none is."""
    top_dim = count.size - 1
    beside = np.full((count[top_dim - 1], 2), -1, np.int64)
    for cell in range(count[top_dim]):
        for j in range(begin[top_dim, cell], begin[top_dim, cell] + size[top_dim, cell]):
            facet = pool[top_dim, j]
            beside[facet, 0 if beside[facet, 0] < 0 else 1] = cell
    return beside


@njit(cache=True, nogil=True)
def corners_of(begin: Array, size: Array, pool: Array, count: Array) -> tuple[Array, Array]:
    """Return offsets, int64 [C + 1], and vertices of all cells, int64 [K]."""
    top_dim = count.size - 1
    seen = [np.full(count[k], -1, np.int64) for k in range(top_dim)]
    offsets = np.zeros(count[top_dim] + 1, np.int64)
    found = np.empty(64, np.int64)
    filled = 0
    stack = np.empty((64, 2), np.int64)
    for cell in range(count[top_dim]):
        stack[0, 0], stack[0, 1] = top_dim, cell
        height = 1
        while height > 0:
            height -= 1
            k, f = stack[height, 0], stack[height, 1]
            if k == 0:
                if filled == found.size:
                    longer = np.empty(2 * filled, np.int64)
                    longer[:filled] = found
                    found = longer
                found[filled] = f
                filled += 1
                continue
            for j in range(begin[k, f], begin[k, f] + size[k, f]):
                g = pool[k, j]
                if seen[k - 1][g] == cell:
                    continue
                seen[k - 1][g] = cell
                if height == stack.shape[0]:
                    stack = _taller(stack)
                stack[height, 0], stack[height, 1] = k - 1, g
                height += 1
        offsets[cell + 1] = filled
    return offsets, found[:filled].copy()


def box_faces(low: Array, high: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Return a box as one cell with all its faces.

    Returns:
        `vertices`, `begin`, `size`, `pool`, `count` as in `cut_faces`, and int64 [2 D, 2] with
        coordinate and side (0 low, 1 high) of each face of dimension D - 1.

    """
    dims = len(low)
    # A face has in each coordinate the low end, the high end, or both: digits 0, 1, 2.
    digits = np.array(np.unravel_index(np.arange(3**dims), (3,) * dims)).T
    rank = (digits == 2).sum(1)
    number = np.zeros(3**dims, dtype=np.int64)
    count = np.bincount(rank, minlength=dims + 1)
    for k in range(dims + 1):
        number[rank == k] = np.arange(count[k])
    weights = 3 ** np.arange(dims)[::-1]
    begin, size = (np.zeros((dims + 1, count.max()), dtype=np.int64) for _ in range(2))
    pool = np.zeros((dims + 1, int((2 * np.arange(dims + 1) * count).max())), dtype=np.int64)
    for k in range(1, dims + 1):
        own = digits[rank == k]
        lower = [
            np.where(own == 2, -weights * (2 - end), 0)[own == 2].reshape(len(own), k)
            for end in (0, 1)
        ]
        codes = np.concatenate([(own @ weights)[:, None] + part for part in lower], 1)
        pool[k, : codes.size] = number[codes].ravel()
        begin[k, : len(own)], size[k, : len(own)] = 2 * k * np.arange(len(own)), 2 * k
    corners = digits[rank == 0]
    sides = digits[rank == dims - 1]
    axis = (sides != 2).argmax(1)
    walls = np.stack([axis, sides[np.arange(len(sides)), axis]], 1)
    return np.where(corners == 1, high, low).astype(float), begin, size, pool, count, walls
