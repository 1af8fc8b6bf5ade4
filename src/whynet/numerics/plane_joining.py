"""Subdivisions of neighboring parts of a polygon joined to one.

Parts are cut on their own, so that an edge between two of them gets its vertices twice, in opposite
directions. Vertices of the two sides are paired in their order along the edge. Where the sides
differ, because one was not cut to the end or a value was within round-off of zero, pairs are those
within a distance, and what has no partner becomes a corner of the cell across as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

Array = np.ndarray[Any, Any]

SHARED = -2
"""Origins of edges between parts are `SHARED` minus the number of the edge."""


@dataclass(frozen=True)
class Part:
    """The cells of a part; vertices are named, and those that parts had in common share a name.

    Attributes:
        vertices: float64 [V, 2].
        names: int64 [V].
        offsets: int64 [C + 1], as in `PlaneCells`, and so the next two.
        corners: int64 [K], places in `vertices`.
        origins: int64 [K], or `SHARED` minus the number of the shared edge that it is a piece of.
        maps: float64 [C, 3, O].

    """

    vertices: Array
    names: Array
    offsets: Array
    corners: Array
    origins: Array
    maps: Array


@dataclass(frozen=True)
class SharedEdges:
    """Edges along which parts were taken from each other.

    Attributes:
        origins: int64 [E], what made each.
        ends: int64 [E, 2], names of its ends, counter-clockwise in one of the parts.
        places: float64 [E, 2, 2], where they are.

    """

    origins: Array
    ends: Array
    places: Array


def join_parts(
    parts: Sequence[Part], shared: SharedEdges, near: float
) -> tuple[Array, Array, Array, Array, Array]:
    """Join all parts of a polygon.

    Args:
        parts: the parts.
        shared: the edges between them.
        near: distance within which two vertices of one edge are the same, where its sides have
            different numbers of vertices.

    Returns:
        `vertices`, `offsets`, `corners`, `origins` and `maps` as in `PlaneCells`; cells in the
        order of the parts.

    Cost: linear in the corners, with sorting of those on shared edges.

    """
    names = np.concatenate([part.names[part.corners] for part in parts])
    origins = np.concatenate([part.origins for part in parts])
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    maps = np.concatenate([part.maps for part in parts])
    known = max(int(names.max()), int(shared.ends.max(initial=0))) + 1
    where = np.zeros((known, 2))
    for part in parts:
        named = part.names < known  # the others are no corners of any cell
        where[part.names[named]] = part.vertices[named]
    ascending, descending = _sides(names, origins, sizes, shared, where)
    kept, dropped, corner, name, order = _paired(*ascending, *descending, near)
    alias = np.arange(known)
    alias[dropped] = kept
    added = np.lexsort([order, corner])
    corner, name = corner[added], alias[name[added]]
    held = np.flatnonzero(origins <= SHARED)
    origins[held] = shared.origins[SHARED - origins[held]]
    owner = np.repeat(np.arange(len(sizes)), sizes)
    sizes += np.bincount(owner[corner], minlength=len(sizes))
    names = np.insert(alias[names], corner + 1, name)
    origins = np.insert(origins, corner + 1, origins[corner])
    # In the order in which cells have them, which names need not be in.
    appears = np.full(known, len(names))
    np.minimum.at(appears, names, np.arange(len(names)))
    used = np.flatnonzero(appears < len(names))
    used = used[np.argsort(appears[used])]
    numbers = np.empty(known, dtype=np.int64)
    numbers[used] = np.arange(len(used))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return where[used], offsets, numbers[names], origins, maps


_Side = tuple[Array, Array, Array, Array]


def _sides(
    names: Array, origins: Array, sizes: Array, shared: SharedEdges, where: Array
) -> tuple[_Side, _Side]:
    """Return the pieces of shared edges, those in the direction of the edge and the others.

    Each side holds, ordered by edge and place, the number of the edge, how far its tail is along
    it, its place in `names` and the name of its tail.
    """
    ends = np.cumsum(sizes)
    after = np.arange(1, len(names) + 1)
    after[ends - 1] = ends - sizes
    piece = np.flatnonzero(origins <= SHARED)
    edge = SHARED - origins[piece]
    start = shared.places[edge, 0]
    along = shared.places[edge, 1] - start
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    tail = ((where[names[piece]] - start) * along).sum(1)
    head = ((where[names[after[piece]]] - start) * along).sum(1)
    sides = []
    for one in (np.flatnonzero(head > tail), np.flatnonzero(head <= tail)):
        # Heads decide where tails are at one place, so that the order is that of the chain.
        one = one[np.lexsort([head[one], tail[one], edge[one]])]
        sides.append((edge[one], tail[one], piece[one], names[piece[one]]))
    return sides[0], sides[1]


@njit(cache=True, nogil=True)
def _paired(
    up_edge: Array, up_at: Array, up_corner: Array, up_name: Array,
    down_edge: Array, down_at: Array, down_corner: Array, down_name: Array, near: float,
) -> tuple[Array, Array, Array, Array, Array]:  # fmt: skip
    """Pair the vertices of both sides of all edges; arguments as by `_sides`.

    The first piece of an ascending side and the last of a descending one begin at an end of the
    edge, which the sides share already.

    Returns:
        Names that stay and those that they replace, in pairs; then of each vertex that the other
        side lacks: the corner of `names` after which it goes there, its name, and where it goes
        among those of one corner.

    """
    room = up_edge.size + down_edge.size
    kept, dropped = np.empty(room, np.int64), np.empty(room, np.int64)
    corner, name = np.empty(room, np.int64), np.empty(room, np.int64)
    order = np.empty(room, np.int64)
    pairs = lone = i = j = 0
    while i < up_edge.size:
        i_end, j_end, edge = i, j, up_edge[i]
        while i_end < up_edge.size and up_edge[i_end] == edge:
            i_end += 1
        while j_end < down_edge.size and down_edge[j_end] == edge:
            j_end += 1
        equal = i_end - i == j_end - j
        i += 1
        while i < i_end or j < j_end - 1:
            both = i < i_end and j < j_end - 1
            if both and (equal or abs(up_at[i] - down_at[j]) <= near):
                kept[pairs], dropped[pairs] = up_name[i], down_name[j]
                pairs += 1
                i += 1
                j += 1
            elif i < i_end and (not both or up_at[i] < down_at[j]):
                corner[lone], name[lone], order[lone] = down_corner[j], up_name[i], -lone
                lone += 1
                i += 1
            else:
                corner[lone], name[lone], order[lone] = up_corner[i - 1], down_name[j], lone
                lone += 1
                j += 1
        i, j = i_end, j_end
    return kept[:pairs], dropped[:pairs], corner[:lone], name[:lone], order[:lone]
