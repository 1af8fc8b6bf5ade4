"""Cutting convex cells by the zero lines of many functions at once: the compiled kernel.

All functions are affine on every cell and given by their values at the vertices. A polygon is
taken from a stack, the first function with both signs at its corners cuts it, and both parts go
back with the functions that are left. Signs at a vertex are bits, so that the functions that cut
a polygon are found by a few words for each corner. Functions cut in ascending order in every cell,
so that the two cells beside an edge cut it at the same places in the same order; a hash of edges
hands the second cell the vertices of the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

_FREE = -1
_WORD = 32
"""Functions in a word of signs."""


@njit(cache=True)
def _slot(keys: Array, key: int) -> int:
    """Return where a key stands in an open-addressing table, or the free place for it."""
    mask = keys.size - 1
    place = (key * 0x2545F4914F6CDD1D >> 20) & mask
    while keys[place] != _FREE and keys[place] != key:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def _twice(keys: Array, found: Array) -> tuple[Array, Array]:
    more_keys = np.full(2 * keys.size, _FREE, np.int64)
    more_found = np.empty(2 * keys.size, np.int64)
    for i in range(keys.size):
        if keys[i] != _FREE:
            place = _slot(more_keys, keys[i])
            more_keys[place] = keys[i]
            more_found[place] = found[i]
    return more_keys, more_found


@njit(cache=True)
def _longer(array: Array, size: int) -> Array:
    more = np.empty(max(size, 2 * array.size), array.dtype)
    more[: array.size] = array
    return more


@njit(cache=True)
def _taller(array: Array) -> Array:
    more = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    more[: array.shape[0]] = array
    return more


@njit(cache=True)
def _tolerances(values: Array, near: float, scale: Array) -> Array:
    """Return the value below which a function counts as zero, float64 [U]."""
    result = np.zeros(values.shape[1])
    for v in range(values.shape[0]):
        for unit in range(values.shape[1]):
            size = abs(values[v, unit])
            result[unit] = size if size > result[unit] else result[unit]
    return near * (result + scale)


@njit(cache=True)
def _sign(values: Array, v: int, tolerance: Array, bits: Array, words: int) -> None:
    """Write the signs at a vertex: a word for each 32 functions above zero, then those below."""
    for word in range(words):
        above = below = 0
        for unit in range(word * _WORD, min(tolerance.size, (word + 1) * _WORD)):
            bit = 1 << (unit - word * _WORD)
            above |= bit if values[v, unit] > tolerance[unit] else 0
            below |= bit if values[v, unit] < -tolerance[unit] else 0
        bits[v, word], bits[v, words + word] = above, below


@njit(cache=True)
def _sign_between(
    one: int, two: int, values: Array, v: int, tolerance: Array, bits: Array, words: int
) -> None:
    """Write the signs at a point between two vertices: only those that differ are looked up."""
    for word in range(words):
        down = words + word
        above, below = bits[one, word] & bits[two, word], bits[one, down] & bits[two, down]
        mixed = bits[one, word] | bits[two, word] | bits[one, down] | bits[two, down]
        mixed &= ~(above | below)
        unit = word * _WORD
        bit = 1
        while mixed:
            if mixed & 1:
                above |= bit if values[v, unit] > tolerance[unit] else 0
                below |= bit if values[v, unit] < -tolerance[unit] else 0
            mixed >>= 1
            bit <<= 1
            unit += 1
        bits[v, word], bits[v, down] = above, below


@njit(cache=True)
def _cutter(bits: Array, words: int, corners: Array, first: int, size: int, start: int) -> int:
    """Return the first function from `start` on that has both signs at corners; -1 if none."""
    for word in range(start // _WORD, words):
        above = below = 0
        for k in range(first, first + size):
            above |= bits[corners[k], word]
            below |= bits[corners[k], words + word]
        both = above & below
        unit = word * _WORD
        if unit < start:
            both = (both >> (start - unit)) << (start - unit)
        if both:
            while not both & 1:
                both >>= 1
                unit += 1
            return unit
    return -1


@njit(cache=True, nogil=True)
def cut_cells(
    values: Array, near: float, scale: Array, vertices: Array, offsets: Array, corners: Array,
    origins: Array, number: int, most: int, most_vertices: int,
) -> tuple[Array, Array, Array, Array, Array, Array, Array, int, bool]:  # fmt: skip
    """Cut every cell by the zero lines of all functions, or the first cells where room ends.

    Args:
        values: float64 [V, U], the functions at the vertices.
        near: share of its largest value, with `scale` added, below which a function is zero.
        scale: float64 [U].
        vertices: float64 [V, 2].
        offsets: int64 [C + 1]; cell c has the corners `corners[offsets[c]:offsets[c + 1]]`.
        corners: int64 [K], counter-clockwise.
        origins: int64 [K], the step that made the edge from each corner to the next.
        number: the step that cuts now.
        most: cells above which it stops, those counted that are not cut yet.
        most_vertices: vertices above which it stops.

    Returns:
        `values`, `vertices`, `offsets`, `corners` and `origins` of the finer cells; int64 [C],
        the cell that each was cut from, ascending; float64 [N, 3] with the ends of the edge that
        each new vertex cuts, in the order they were made, and its position on it; how many cells
        were cut, the first ones, of which alone the parts are returned; and whether it stopped
        because of `most`.

    Cost: O(U) for every vertex, and U / 32 words for every corner of a cell that comes or goes.

    """
    units = values.shape[1]
    count = values.shape[0]
    room = 2 * count + 64
    new_values = np.empty((room, units))
    new_values[:count] = values
    tolerance = _tolerances(values, near, scale)
    words = (units + _WORD - 1) // _WORD
    bits = np.empty((room, 2 * words), np.int64)
    for v in range(count):
        _sign(new_values, v, tolerance, bits, words)
    new_vertices = np.empty((room, 2))
    new_vertices[:count] = vertices
    made = np.empty((64, 3))
    fresh = 0
    keys = np.full(256, _FREE, np.int64)
    found = np.empty(256, np.int64)
    out_corners = np.empty(2 * corners.size + 64, np.int64)
    out_origins = np.empty(2 * corners.size + 64, np.int64)
    out_offsets = np.empty(2 * offsets.size + 64, np.int64)
    out_offsets[0] = 0
    out_parents = np.empty(2 * offsets.size + 64, np.int64)
    cells, top_out = 0, 0
    pool_corners = np.empty(256, np.int64)
    pool_origins = np.empty(256, np.int64)
    stack = np.empty((64, 3), np.int64)  # first place in the pool, corners, next function
    ring = np.empty(64, np.int64)
    ring_origins = np.empty(64, np.int64)
    side = np.empty(64, np.int8)
    cross = np.empty(64, np.int64)
    given = offsets.size - 1
    old, done = count, given
    crowded = full = False
    for cell in range(given):
        before = (cells, top_out, count)
        begin = offsets[cell]
        size = offsets[cell + 1] - begin
        while size > pool_corners.size:
            pool_corners, pool_origins = _longer(pool_corners, 0), _longer(pool_origins, 0)
        for k in range(size):
            pool_corners[k] = corners[begin + k]
            pool_origins[k] = origins[begin + k]
        stack[0, 0], stack[0, 1], stack[0, 2] = 0, size, 0
        height = 1
        while height > 0:
            height -= 1
            first, size, start = stack[height, 0], stack[height, 1], stack[height, 2]
            unit = _cutter(bits, words, pool_corners, first, size, start)
            if unit < 0:
                if top_out + size > out_corners.size:
                    out_corners = _longer(out_corners, top_out + size)
                    out_origins = _longer(out_origins, top_out + size)
                for k in range(size):
                    out_corners[top_out + k] = pool_corners[first + k]
                    out_origins[top_out + k] = pool_origins[first + k]
                top_out += size
                cells += 1
                if cells + 1 > out_offsets.size:
                    out_offsets = _longer(out_offsets, cells + 1)
                if cells > out_parents.size:
                    out_parents = _longer(out_parents, cells)
                out_offsets[cells] = top_out
                out_parents[cells - 1] = cell
                if cells + given - 1 - cell > most:
                    full = True
                    break
                continue
            if count > most_vertices:
                crowded = True
                break
            word, bit = unit // _WORD, unit % _WORD
            while size > ring.size:
                ring, ring_origins = _longer(ring, 0), _longer(ring_origins, 0)
                side, cross = _longer(side, 0), _longer(cross, 0)
            for k in range(size):
                ring[k] = pool_corners[first + k]
                ring_origins[k] = pool_origins[first + k]
                above, below = bits[ring[k], word], bits[ring[k], words + word]
                side[k] = ((above >> bit) & 1) - ((below >> bit) & 1)
            for k in range(size):
                after = k + 1 if k + 1 < size else 0
                cross[k] = _FREE
                if side[k] * side[after] >= 0:
                    continue
                one, two = min(ring[k], ring[after]), max(ring[k], ring[after])
                key = one << 32 | two
                place = _slot(keys, key)
                if keys[place] == key:
                    cross[k] = found[place]
                    continue
                if count == new_values.shape[0]:
                    new_values, new_vertices = _taller(new_values), _taller(new_vertices)
                    bits = _taller(bits)
                if fresh == made.shape[0]:
                    made = _taller(made)
                a, b = new_values[one, unit], new_values[two, unit]
                share = a / (a - b)
                rest = 1 - share
                for i in range(units):
                    new_values[count, i] = rest * new_values[one, i] + share * new_values[two, i]
                new_values[count, unit] = 0.0
                _sign_between(one, two, new_values, count, tolerance, bits, words)
                for i in range(2):
                    p, q = new_vertices[one, i], new_vertices[two, i]
                    new_vertices[count, i] = rest * p + share * q
                made[fresh, 0], made[fresh, 1], made[fresh, 2] = one, two, share
                fresh += 1
                keys[place] = key
                found[place] = count
                cross[k] = count
                count += 1
                if 2 * fresh > keys.size:
                    keys, found = _twice(keys, found)
            at = first
            for way in (1, -1):
                while at + size + 2 > pool_corners.size:
                    pool_corners = _longer(pool_corners, 0)
                    pool_origins = _longer(pool_origins, 0)
                begin_part = at
                for k in range(size):
                    after = k + 1 if k + 1 < size else 0
                    if side[k] * way >= 0:
                        pool_corners[at] = ring[k]
                        # From a corner on the line into the other side the wall begins.
                        walled = side[k] == 0 and side[after] * way < 0
                        pool_origins[at] = number if walled else ring_origins[k]
                        at += 1
                    if cross[k] != _FREE:
                        pool_corners[at] = cross[k]
                        # An edge that leaves this side ends here, and the wall begins.
                        pool_origins[at] = number if side[k] * way > 0 else ring_origins[k]
                        at += 1
                if height == stack.shape[0]:
                    stack = _taller(stack)
                stack[height, 0], stack[height, 1] = begin_part, at - begin_part
                stack[height, 2] = unit + 1
                height += 1
        if full or crowded:
            # Parts of a cell that is not finished are forgotten, with their vertices.
            done = cell
            cells, top_out, count = before
            break
    return (
        new_values[:count], new_vertices[:count], out_offsets[: cells + 1],
        out_corners[:top_out], out_origins[:top_out], out_parents[:cells], made[: count - old],
        done, full,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def refine(values: Array, made: Array) -> Array:
    """Add rows for new vertices to values at the old ones, [V, U]; `made` as by `cut_cells`."""
    count = values.shape[0]
    result = np.empty((count + made.shape[0], values.shape[1]))
    result[:count] = values
    for k in range(made.shape[0]):
        one, two, share = int(made[k, 0]), int(made[k, 1]), made[k, 2]
        for i in range(values.shape[1]):
            result[count + k, i] = (1 - share) * result[one, i] + share * result[two, i]
    return result


@njit(cache=True, nogil=True)
def ends_of(values: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest value of each column of a row-major array, in a pass."""
    low, high = values[0].copy(), values[0].copy()
    for row in range(1, values.shape[0]):
        for column in range(values.shape[1]):
            low[column] = min(low[column], values[row, column])
            high[column] = max(high[column], values[row, column])
    return low, high


@njit(cache=True, nogil=True)
def neighbors_of(offsets: Array, corners: Array) -> Array:
    """Return the cell across each edge, int64 [K]; -1 where there is none."""
    most = 0
    for corner in corners:
        most = max(most, corner)
    starts = np.zeros(most + 2, np.int64)
    for corner in corners:
        starts[corner + 1] += 1
    for v in range(most + 1):
        starts[v + 1] += starts[v]
    filled = starts[:-1].copy()
    # The edges that leave each vertex: where to, and in which cell.
    to = np.empty(corners.size, np.int64)
    cell_of = np.empty(corners.size, np.int64)
    for cell in range(offsets.size - 1):
        for k in range(offsets[cell], offsets[cell + 1]):
            after = k + 1 if k + 1 < offsets[cell + 1] else offsets[cell]
            place = filled[corners[k]]
            to[place], cell_of[place] = corners[after], cell
            filled[corners[k]] += 1
    result = np.full(corners.size, -1, np.int64)
    for cell in range(offsets.size - 1):
        for k in range(offsets[cell], offsets[cell + 1]):
            after = corners[k + 1 if k + 1 < offsets[cell + 1] else offsets[cell]]
            for place in range(starts[after], starts[after + 1]):
                if to[place] == corners[k]:
                    result[k] = cell_of[place]
                    break
    return result


@njit(cache=True, nogil=True)
def maps_of(vertices: Array, offsets: Array, corners: Array, values: Array) -> tuple[Array, Array]:
    """Read the affine function of each cell from the values at its widest triangle.

    Returns:
        float64 [C, 3, O] as in `PlaneCells`, and float64 [C], the least height of the triangle:
        the round-off of the gradient is that of the values divided by it.

    """
    cells, outputs = offsets.size - 1, values.shape[1]
    maps = np.empty((cells, 3, outputs))
    heights = np.empty(cells)
    for cell in range(cells):
        begin, end = offsets[cell], offsets[cell + 1]
        # A long side first: the corner farthest from the first one, then the one off that line.
        p = corners[begin]
        for _ in range(2):
            far, q = -1.0, p
            for k in range(begin, end):
                x = vertices[corners[k], 0] - vertices[p, 0]
                y = vertices[corners[k], 1] - vertices[p, 1]
                if x * x + y * y > far:
                    far, q = x * x + y * y, corners[k]
            p, q = q, p
        x1, y1 = vertices[q, 0] - vertices[p, 0], vertices[q, 1] - vertices[p, 1]
        wide, r, area = -1.0, p, 0.0
        for k in range(begin, end):
            x2 = vertices[corners[k], 0] - vertices[p, 0]
            y2 = vertices[corners[k], 1] - vertices[p, 1]
            if abs(x1 * y2 - x2 * y1) > wide:
                area = x1 * y2 - x2 * y1
                wide, r = abs(area), corners[k]
        x2, y2 = vertices[r, 0] - vertices[p, 0], vertices[r, 1] - vertices[p, 1]
        far = x1 * x1 + y1 * y1
        heights[cell] = wide / np.sqrt(far) if far > 0 else 0.0
        for o in range(outputs):
            d1, d2 = values[q, o] - values[p, o], values[r, o] - values[p, o]
            gx = (d1 * y2 - d2 * y1) / area if area != 0 else 0.0
            gy = (d2 * x1 - d1 * x2) / area if area != 0 else 0.0
            maps[cell, 0, o], maps[cell, 1, o] = gx, gy
            maps[cell, 2, o] = values[p, o] - gx * vertices[p, 0] - gy * vertices[p, 1]
    return maps, heights
