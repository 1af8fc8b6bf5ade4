"""Level sets and decision boundaries on a subdivided polygon: exact segments, joined to lines.

Inside a cell all outputs are affine, so that the set where two of them tie is a chord of the cell,
cut to where no third one is larger. Values belong to vertices, so that two cells agree on where a
chord crosses the edge between them, whatever the round-off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_measures import (
    cell_of_corner,
    evaluate_maps,
    following,
    vertex_values,
)

_SAME_POINT = 1e-11
"""Share of the polygon's extent within which two ends are one point."""

_TIE = 1e-12
"""Share of the largest value within which two values are equal."""


@dataclass(frozen=True)
class Boundary:
    """Where the largest of several affine functions changes.

    Attributes:
        segments: float64 [N, 2, 2], start and end of every straight piece.
        cells: int64 [N], the cell of each.
        pairs: int64 [N, 2], which two functions tie there; of one output, class 0 is where it is
            at most the level, class 1 where it is above.
        lines: the same as polylines, float64 [points, 2] each; a closed one ends where it began.
        components: number of connected components.

    """

    segments: np.ndarray
    cells: np.ndarray
    pairs: np.ndarray
    lines: tuple[np.ndarray, ...]
    components: int

    @property
    def length(self) -> float:
        """Total length."""
        return float(np.linalg.norm(self.segments[:, 1] - self.segments[:, 0], axis=1).sum())


def level_set(cells: PlaneCells, output: int, level: float) -> Boundary:
    """Return the set where an output crosses a level.

    Where the output equals the level on a whole cell, that cell counts as below it.

    Args:
        cells: the subdivision.
        output: which output.
        level: the level.

    """
    return decision_boundary(replace(cells, maps=cells.maps[:, :, output : output + 1]), level)


def decision_boundary(cells: PlaneCells, level: float = 0.0) -> Boundary:
    """Return where the largest output changes; of one output, where it crosses `level`.

    Where outputs tie on a whole cell, the first of them counts as the largest, as in argmax.

    Cost: a pass over the corners for each pair of outputs that are both largest near some cell.
    """
    maps = cells.maps
    if maps.shape[2] == 1:
        maps = np.concatenate([np.zeros_like(maps), maps], axis=2)
        maps[:, 2, 0] = level
    cells = replace(cells, maps=maps)
    values = vertex_values(cells)
    at_corner = values[cells.corners]
    # A function that is below another one at all corners of a cell is nowhere largest in it.
    floor = np.minimum.reduceat(at_corner, cells.offsets[:-1]).max(1)
    near = np.maximum.reduceat(at_corner, cells.offsets[:-1]) >= floor[:, None]
    together = near.T.astype(np.float32) @ near.astype(np.float32)
    parts = [
        _chords(cells, values, near[:, one] & near[:, two], int(one), int(two))
        for one, two in np.argwhere(np.triu(together, 1) > 0)
    ]
    empty = np.zeros((0, 2, 2)), np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
    segments, found, pairs = (
        np.concatenate([part[i] for part in parts]) if parts else empty[i] for i in range(3)
    )
    special = _special(cells, segments, found)
    for index in np.flatnonzero(special):
        pairs[index] = _beside(cells, segments[index], int(found[index]))
    real = pairs[:, 0] != pairs[:, 1]
    segments, found, pairs = segments[real], found[real], pairs[real]
    if len(segments) == 0:
        return Boundary(*empty, (), 0)
    nodes = _nodes(segments, _SAME_POINT * float(np.ptp(cells.vertices, axis=0).max()))
    # Two outputs that are equal to one another tie twice with a third.
    _, once = np.unique(np.sort(nodes, 1), axis=0, return_index=True)
    kept = np.sort(once[nodes[once, 0] != nodes[once, 1]])
    segments, nodes = segments[kept], nodes[kept]
    graph = coo_matrix((np.ones(len(nodes)), nodes.T), shape=(int(nodes.max(initial=-1)) + 1,) * 2)
    used = connected_components(graph, directed=False)[1][nodes[:, 0]]
    return Boundary(
        segments, found[kept], pairs[kept], _lines(segments, nodes), len(np.unique(used))
    )


def _chords(
    cells: PlaneCells, values: np.ndarray, wanted: np.ndarray, one: int, two: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the chords of the wanted cells on which two functions tie and none is larger."""
    owner, after = cell_of_corner(cells), following(cells.offsets)
    gap = values[:, one] - values[:, two]
    above = gap[cells.corners] >= 0
    # A line crosses the border of a convex cell twice; corners of a cell stand side by side.
    crossing = np.flatnonzero((above != above[after]) & wanted[owner])
    points: list[np.ndarray] = []
    for edges in (crossing[::2], crossing[1::2]):
        a, b = cells.corners[edges], cells.corners[after[edges]]
        low, high = np.minimum(a, b), np.maximum(a, b)
        weight = (gap[low] / (gap[low] - gap[high]))[:, None]
        points.append((1 - weight) * cells.vertices[low] + weight * cells.vertices[high])
    inside = owner[crossing[::2]]
    start, stop = (evaluate_maps(cells.maps[inside], point) for point in points)
    tolerance = _TIE * float(np.abs(values).max())
    leads = []
    for value in (start, stop):
        lead = np.minimum(value[:, [one]], value[:, [two]]) - value
        lead[:, [one, two]] = 0.0
        leads.append(np.where(np.abs(lead) <= tolerance, 0.0, lead))
    begin, end = leads
    with np.errstate(divide="ignore", invalid="ignore"):
        place = begin / (begin - end)
    low = np.where((begin < 0) & (end >= 0), place, 0.0).max(1)
    high = np.where((begin >= 0) & (end < 0), place, 1.0).min(1)
    kept = (low < high) & ~((begin < 0) & (end < 0)).any(1)
    span = points[1] - points[0]
    segments = np.stack([points[0] + t[:, None] * span for t in (low, high)], 1)
    return segments[kept], inside[kept], np.tile([one, two], (int(kept.sum()), 1))


def _special(cells: PlaneCells, segments: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Say where more than two functions tie along a chord, or a chord is an edge of its cell."""
    if len(segments) == 0:
        return np.zeros(0, dtype=bool)
    middle = segments.mean(1)
    values = evaluate_maps(cells.maps[found], middle)
    largest = values.max(1, keepdims=True)
    tied = (values >= largest - _SAME_POINT * (1 + np.abs(largest))).sum(1)
    along = segments[:, 1] - segments[:, 0]
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.maximum(np.linalg.norm(along, axis=1), 1e-300)[:, None]
    counts = np.diff(cells.offsets)[found]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    owner = np.repeat(np.arange(len(found)), counts)
    corner = np.arange(len(owner)) - starts[owner] + cells.offsets[found][owner]
    away = ((cells.vertices[cells.corners[corner]] - middle[owner]) * normal[owner]).sum(1)
    room = np.minimum(np.maximum.reduceat(away, starts), -np.minimum.reduceat(away, starts))
    near = _SAME_POINT * float(np.ptp(cells.vertices, axis=0).max())
    return np.asarray((tied > 2) | (room <= near))


def _beside(cells: PlaneCells, segment: np.ndarray, cell: int) -> tuple[int, int]:
    """Return which function leads on each side of a chord, ascending; (0, 0) at the border."""
    middle, along = segment.mean(0), segment[1] - segment[0]
    normal = np.array([-along[1], along[0]]) / max(float(np.linalg.norm(along)), 1e-300)
    near = _SAME_POINT * float(np.ptp(cells.vertices, axis=0).max())
    begin, stop = int(cells.offsets[cell]), int(cells.offsets[cell + 1])
    corners = cells.vertices[cells.corners[begin:stop]]
    leaders = []
    for side in (normal, -normal):
        here = cell
        if ((corners - middle) @ side).max() <= near:
            ahead = np.roll(corners, -1, axis=0)
            flat = (np.abs((corners - middle) @ side) <= near) & (
                np.abs((ahead - middle) @ side) <= near
            )
            between = ((corners - middle) * (ahead - middle)).sum(1)
            edge = int(np.where(flat, between, np.inf).argmin())
            here = int(cells.neighbors[begin + edge])
            if here < 0:
                return 0, 0
        values = evaluate_maps(cells.maps[[here]], middle[None])[0]
        tie = values >= values.max() - _SAME_POINT * (1 + abs(float(values.max())))
        slope = np.where(tie, side @ cells.maps[here, :2], -np.inf)
        leaders.append(int((slope >= slope.max() - _TIE * (1 + abs(float(slope.max())))).argmax()))
    return min(leaders), max(leaders)


def _nodes(segments: np.ndarray, distance: float) -> np.ndarray:
    """Number the ends so that ends within a distance have one number: int64 [N, 2]."""
    ends = segments.reshape(-1, 2)
    pairs = cKDTree(ends).query_pairs(distance, output_type="ndarray")
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(len(ends),) * 2)
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels, dtype=np.int64).reshape(-1, 2)


def _lines(segments: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, ...]:
    """Join segments into polylines, from branching or end to branching or end."""
    touching: dict[int, list[int]] = {}
    for index, pair in enumerate(nodes.tolist()):
        for node in pair:
            touching.setdefault(node, []).append(index)
    left = set(range(len(segments)))
    branching = [node for node, around in touching.items() if len(around) != 2]
    lines = []
    for begin in [*branching, *touching]:
        for first in touching[begin]:
            if first not in left:
                continue
            at, index = begin, first
            points: list[np.ndarray] = []
            while True:
                left.discard(index)
                side = int(nodes[index, 0] != at)
                if not points:
                    points.append(segments[index, side])
                points.append(segments[index, 1 - side])
                at = int(nodes[index, 1 - side])
                onward = [i for i in touching[at] if i in left]
                if at == begin or len(touching[at]) != 2 or not onward:
                    break
                index = onward[0]
            if at == begin:
                points[-1] = points[0]
            lines.append(np.stack(points))
    return tuple(lines)
