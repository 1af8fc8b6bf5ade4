"""Exact numbers of a piecewise-affine function on a subdivided polygon: areas, integrals, extrema.

All are sums over cells of closed forms: an affine function integrates to area times its value at
the centroid, has its extrema at corners, and a constant gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from whynet.numerics.plane_cells import PlaneCells


@dataclass(frozen=True)
class Extrema:
    """Smallest and largest value of each output over the polygon, and where.

    Attributes:
        smallest: float64 [O].
        smallest_at: float64 [O, 2], a point where it is taken.
        largest: float64 [O].
        largest_at: float64 [O, 2].

    """

    smallest: np.ndarray
    smallest_at: np.ndarray
    largest: np.ndarray
    largest_at: np.ndarray


def following(offsets: np.ndarray) -> np.ndarray:
    """Return, for each corner, the index of the next corner of its cell: int64 [K]."""
    after = np.arange(1, offsets[-1] + 1)
    after[offsets[1:] - 1] = offsets[:-1]
    return after


def cell_of_corner(cells: PlaneCells) -> np.ndarray:
    """Return the cell of each corner, int64 [K]."""
    return np.repeat(np.arange(len(cells.offsets) - 1), np.diff(cells.offsets))


def areas_and_centroids(cells: PlaneCells) -> tuple[np.ndarray, np.ndarray]:
    """Return area, float64 [C], and centroid, float64 [C, 2], of every cell.

    Coordinates are taken relative to a corner of the cell, so that a small cell far from the
    origin keeps its relative accuracy.
    """
    start = cells.offsets[:-1]
    anchor = cells.vertices[cells.corners[start]]
    here = cells.vertices[cells.corners] - anchor[cell_of_corner(cells)]
    there = here[following(cells.offsets)]
    cross = here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]
    areas = np.add.reduceat(cross, start) / 2
    moments = np.add.reduceat((here + there) * cross[:, None], start, axis=0) / 6
    flat = areas <= 0
    centers = np.add.reduceat(here, start, axis=0) / np.diff(cells.offsets)[:, None]
    shift = np.where(flat[:, None], centers, moments / np.where(flat, 1.0, areas)[:, None])
    return areas, anchor + shift


def evaluate_maps(maps: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Evaluate affine maps, [N, 3, O], at one point each, [N, 2]: float64 [N, O]."""
    return np.asarray(
        maps[:, 0] * points[:, :1] + maps[:, 1] * points[:, 1:] + maps[:, 2], dtype=np.float64
    )


def vertex_values(cells: PlaneCells) -> np.ndarray:
    """Return the outputs at the vertices, float64 [V, O], each by one of the cells around it."""
    owner = np.zeros(len(cells.vertices), dtype=np.int64)
    owner[cells.corners] = cell_of_corner(cells)
    return evaluate_maps(cells.maps[owner], cells.vertices)


def integrals(cells: PlaneCells) -> np.ndarray:
    """Return the integral of every output over the polygon, float64 [O]."""
    areas, centers = areas_and_centroids(cells)
    return np.asarray(areas @ evaluate_maps(cells.maps, centers))


def gradient_norms(cells: PlaneCells) -> np.ndarray:
    """Return the norm of the gradient of every output on every cell, float64 [C, O]."""
    return np.asarray(np.hypot(cells.maps[:, 0], cells.maps[:, 1]))


def gradient_norm_integrals(cells: PlaneCells) -> np.ndarray:
    """Return the integral of the gradient's norm of every output, its variation: float64 [O]."""
    return np.asarray(areas_and_centroids(cells)[0] @ gradient_norms(cells))


def slopes(cells: PlaneCells) -> np.ndarray:
    """Return the largest singular value of the Jacobian of every cell, float64 [C]."""
    first, second = cells.maps[:, 0], cells.maps[:, 1]
    a, b, c = (first**2).sum(1), (first * second).sum(1), (second**2).sum(1)
    return np.asarray(np.sqrt((a + c + np.hypot(a - c, 2 * b)) / 2))


def lipschitz_constant(cells: PlaneCells) -> float:
    """Return the exact Lipschitz constant over the polygon, Euclidean norm on both sides.

    The polygon is convex and the function continuous, so that it is the largest over the cells
    of the norm of their Jacobians.
    """
    return float(slopes(cells).max())


def extrema(cells: PlaneCells) -> Extrema:
    """Return the extrema of every output, which are taken at vertices."""
    values = vertex_values(cells)
    low, high = values.argmin(0), values.argmax(0)
    columns = np.arange(values.shape[1])
    return Extrema(
        values[low, columns], cells.vertices[low], values[high, columns], cells.vertices[high]
    )


def inner_walls(cells: PlaneCells) -> tuple[np.ndarray, np.ndarray]:
    """Return edge (index of its corner) and length of every wall between two cells, each once."""
    owner = cell_of_corner(cells)
    edges = np.flatnonzero(cells.neighbors > owner)
    ends = [vertices[edges] for vertices in edge_ends(cells)]
    lengths = np.linalg.norm(cells.vertices[ends[0]] - cells.vertices[ends[1]], axis=1)
    return edges, lengths


def wall_length(cells: PlaneCells) -> float:
    """Return the total length of the walls inside the polygon."""
    return float(inner_walls(cells)[1].sum())


def linear_regions(cells: PlaneCells, tolerance: float = 1e-9) -> np.ndarray:
    """Merge neighboring cells whose affine maps are equal; returns the region of each cell.

    Args:
        cells: the subdivision.
        tolerance: gradients that differ by less than this share of the largest are equal; the
            function is continuous, so that maps with equal gradients agree across a wall.

    Returns:
        int64 [C]; `max + 1` is the number of linear regions, connected sets on which the
        function is affine.

    """
    edges, _ = inner_walls(cells)
    one, two = cell_of_corner(cells)[edges], cells.neighbors[edges]
    jump = np.abs(cells.maps[one, :2] - cells.maps[two, :2]).max(axis=(1, 2))
    scale = float(np.abs(cells.maps[:, :2]).max(initial=0.0))
    same = jump <= tolerance * scale
    count = len(cells.offsets) - 1
    graph = coo_matrix((np.ones(int(same.sum())), (one[same], two[same])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def locate(cells: PlaneCells, points: np.ndarray) -> np.ndarray:
    """Return the cell of each point, int64 [N]; -1 outside the polygon.

    Args:
        cells: the subdivision.
        points: float64 [N, 2]; on a wall, one of the cells beside it is returned.

    Cost: points times edges.

    """
    start, stop = (cells.vertices[x] for x in edge_ends(cells))
    along = stop - start
    length = np.linalg.norm(along, axis=1)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.where(length > 0, length, 1)[:, None]
    level = (normal * start).sum(1)
    level[length == 0] = -np.inf
    allowed = -1e-9 * float(np.ptp(cells.vertices, axis=0).max())
    found = []
    for some in np.array_split(points, max(1, len(points) * len(level) // 4_000_000)):
        inside = np.minimum.reduceat(some @ normal.T - level, cells.offsets[:-1], axis=1)
        best = inside.argmax(1)
        found.append(np.where(inside.max(1) >= allowed, best, -1))
    return np.concatenate(found)


def edge_ends(cells: PlaneCells) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices at the start and the end of every edge, int64 [K] each."""
    return cells.corners, cells.corners[following(cells.offsets)]
