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

from whynet.numerics.plane_cutting import neighbors_of

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


@dataclass(frozen=True)
class Border:
    """What joining has to know of a part: its size, and its pieces of shared edges.

    Attributes:
        cells: how many cells it has.
        corners: how many corners these have together.
        edges: int64 [N], number of the shared edge of each piece.
        places: int64 [N], where the piece begins in `Part.corners`.
        names: int64 [N, 2], of its ends.
        ends: float64 [N, 2, 2], where they are.

    """

    cells: int
    corners: int
    edges: Array
    places: Array
    names: Array
    ends: Array


def border_of(part: Part) -> Border:
    """Return the border of a part."""
    places = np.flatnonzero(part.origins <= SHARED)
    after = np.arange(1, len(part.corners) + 1)
    after[part.offsets[1:] - 1] = part.offsets[:-1]
    ends = np.stack([part.corners[places], part.corners[after[places]]], 1)
    return Border(
        len(part.offsets) - 1, len(part.corners), SHARED - part.origins[places], places,
        part.names[ends], part.vertices[ends],
    )  # fmt: skip


@dataclass(frozen=True)
class Joined:
    """A part of the joined table: rows that follow those of the parts before.

    Attributes:
        vertices: float64 [V, 2], those that no part before had.
        sizes: int64 [C], corners of each cell.
        corners: int64 [K], numbers of vertices of the whole table.
        neighbors: int64 [K], cells of the whole table; -1 where the cell across is of another
            part, or there is none.
        origins: int64 [K].
        maps: float64 [C, 3, O].
        points: float64 [K, 2], where the corners are.
        shared: int64 [N], places in `corners` of edges across which another part lies.

    """

    vertices: Array
    sizes: Array
    corners: Array
    neighbors: Array
    origins: Array
    maps: Array
    points: Array
    shared: Array


class Joining:
    """Joins parts one after the other, so that no two of them need be held at once.

    Vertices of shared edges are paired before, by the borders of all parts.

    Args:
        borders: of all parts, in their order.
        shared: the edges between them.
        near: distance within which two vertices of one edge are the same, where its sides have
            different numbers of vertices.

    """

    def __init__(self, borders: Sequence[Border], shared: SharedEdges, near: float) -> None:
        self.shared = shared
        base = np.concatenate([[0], np.cumsum([border.corners for border in borders])])
        self.corner_base = base
        self.cell_base = np.concatenate([[0], np.cumsum([border.cells for border in borders])])
        edges, names, ends = (
            np.concatenate([getattr(border, name) for border in borders])
            for name in ("edges", "names", "ends")
        )
        places = np.concatenate([one.places + at for one, at in zip(borders, base, strict=False)])
        ascending, descending = _sides(edges, places, names, ends, shared)
        kept, dropped, corner, name, order = _paired(*ascending, *descending, near)
        by_name = np.argsort(dropped)
        self.dropped, self.kept = dropped[by_name], kept[by_name]
        added = np.lexsort([order, corner])
        self.added_corners, self.added_names = corner[added], self._alias(name[added])
        # All that parts have in common; every name stands at a place of its own part.
        self.names = np.unique(np.concatenate([self._alias(names.ravel()), self.added_names]))
        self.places = np.zeros((len(self.names), 2))
        own = np.flatnonzero(self._alias(names.ravel()) == names.ravel())
        at = np.searchsorted(self.names, names.ravel()[own])
        self.places[at] = ends.reshape(-1, 2)[own]
        self.numbers = np.full(len(self.names), -1)
        self.vertices = self.parts = self.corners = 0
        self._waiting: list[Array] = []

    def joined(self, part: Part) -> Joined:
        """Return the rows of the next part."""
        base, cells = self.corner_base[self.parts], self.cell_base[self.parts]
        ends = self.corner_base[self.parts : self.parts + 2]
        begin, stop = np.searchsorted(self.added_corners, ends)
        added = self.added_corners[begin:stop] - base
        ids = np.insert(part.corners, added + 1, len(part.names) + np.arange(len(added)))
        names = self._alias(np.concatenate([part.names, self.added_names[begin:stop]]))
        ids = self._once(ids, names)
        before = np.insert(part.origins, added + 1, part.origins[added])
        held = np.flatnonzero(before <= SHARED)
        origins = before.copy()
        origins[held] = self.shared.origins[SHARED - before[held]]
        owner = np.repeat(np.arange(len(part.offsets) - 1), np.diff(part.offsets))
        sizes = np.diff(part.offsets) + np.bincount(owner[added], minlength=len(part.offsets) - 1)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        where, vertices, points = self._numbered(ids, names, part.vertices)
        corners = where[ids]
        neighbors = neighbors_of(offsets, ids)
        neighbors[neighbors >= 0] += cells
        after = np.arange(1, len(ids) + 1)
        after[offsets[1:] - 1] = offsets[:-1]
        owner = np.repeat(np.arange(len(sizes)), sizes)
        edges = (held + self.corners, corners[held], corners[after[held]], owner[held] + cells)
        self._waiting.append(np.stack(edges))
        self.parts += 1
        self.corners += len(ids)
        return Joined(vertices, sizes, corners, neighbors, origins, part.maps, points[ids], held)

    def across(self) -> tuple[Array, Array]:
        """Return where `corners` begin an edge to another part, and the cell there, ascending."""
        place, tail, head, cell = np.concatenate(self._waiting, axis=1)
        forth, back = tail * (self.vertices + 1) + head, head * (self.vertices + 1) + tail
        order = np.argsort(forth)
        at = np.minimum(np.searchsorted(forth[order], back), max(0, len(forth) - 1))
        met = np.flatnonzero(forth[order][at] == back) if len(forth) else at
        return place[met], cell[order[at[met]]]

    def _alias(self, names: Array) -> Array:
        if len(self.dropped) == 0:
            return names
        at = np.minimum(np.searchsorted(self.dropped, names), len(self.dropped) - 1)
        return np.where(self.dropped[at] == names, self.kept[at], names)

    def _once(self, ids: Array, names: Array) -> Array:
        """Let vertices of one name, that parts have in common, be one."""
        common, _ = self._common(names)
        found, first, group = np.unique(names[common], return_index=True, return_inverse=True)
        if len(found) == len(common):
            return ids
        single = np.arange(len(names))
        single[common] = common[first[group]]
        return np.asarray(single[ids])

    def _common(self, names: Array) -> tuple[Array, Array]:
        """Return which of some names parts have in common, and their places among those."""
        at = np.searchsorted(self.names, names)
        common = np.flatnonzero(at < len(self.names))
        common = common[self.names[at[common]] == names[common]]
        return common, at[common]

    def _numbered(self, ids: Array, names: Array, own: Array) -> tuple[Array, Array, Array]:
        """Number the vertices of a part in the order in which its cells have them; of the only
        part, as it has them.

        Returns:
            The number of each, the places of those that are new, and of all.

        """
        points = np.zeros((len(names), 2))
        points[: len(own)] = own
        several = len(self.corner_base) > 2
        listed = _in_order(ids, len(names)) if several else np.arange(len(names))
        common, at = self._common(names[listed])
        common = listed[common]
        points[common] = self.places[at]
        numbers = np.full(len(names), -1)
        numbers[common] = self.numbers[at]
        fresh = listed[numbers[listed] < 0]
        numbers[fresh] = self.vertices + np.arange(len(fresh))
        self.numbers[at] = numbers[common]
        self.vertices += len(fresh)
        return numbers, points[fresh], points


def join_parts(
    parts: Sequence[Part], shared: SharedEdges, near: float
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Join all parts of a polygon.

    Args:
        parts: the parts, of which there are several.
        shared: the edges between them.
        near: as in `Joining`.

    Returns:
        `vertices`, `offsets`, `corners`, `neighbors`, `origins` and `maps` as in `PlaneCells`;
        cells in the order of the parts.

    Cost: linear in the corners, with sorting of those on shared edges.

    """
    joining = Joining([border_of(part) for part in parts], shared, near)
    rows = [joining.joined(part) for part in parts]
    vertices, sizes, corners, neighbors, origins, maps = (
        np.concatenate([getattr(row, name) for row in rows])
        for name in ("vertices", "sizes", "corners", "neighbors", "origins", "maps")
    )
    places, cells = joining.across()
    neighbors[places] = cells
    return vertices, np.concatenate([[0], np.cumsum(sizes)]), corners, neighbors, origins, maps


_Side = tuple[Array, Array, Array, Array]


def _sides(
    edge: Array, piece: Array, names: Array, ends: Array, shared: SharedEdges
) -> tuple[_Side, _Side]:
    """Return the pieces of shared edges, those in the direction of the edge and the others.

    Each side holds, ordered by edge and place, the number of the edge, how far its tail is along
    it, its place among the corners of all parts and the name of its tail.
    """
    start = shared.places[edge, 0]
    along = shared.places[edge, 1] - start
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    tail = ((ends[:, 0] - start) * along).sum(1)
    head = ((ends[:, 1] - start) * along).sum(1)
    sides: list[_Side] = []
    for one in (np.flatnonzero(head > tail), np.flatnonzero(head <= tail)):
        # Heads decide where tails are at one place, so that the order is that of the chain.
        one = one[np.lexsort([head[one], tail[one], edge[one]])]
        sides.append((edge[one], tail[one], piece[one], names[one, 0]))
    return sides[0], sides[1]


@njit(cache=True, nogil=True)
def _in_order(ids: Array, size: int) -> Array:
    """Return the different numbers below `size` in the order in which they first stand in `ids`."""
    seen = np.zeros(size, np.bool_)
    listed = np.empty(size, np.int64)
    count = 0
    for one in ids:
        if not seen[one]:
            seen[one] = True
            listed[count] = one
            count += 1
    return listed[:count]


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
