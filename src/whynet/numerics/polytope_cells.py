"""A box cut into convex cells of any dimension, with an affine function on each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

_NEAR = 1e-9
"""Distance of a vertex from its half-spaces, in the largest coordinate."""


@dataclass(frozen=True)
class Corners:
    """The vertices of cells.

    Attributes:
        vertices: float64 [V, D], shared by the cells beside them.
        offsets: int64 [C + 1].
        corners: int64 [K]: cell c has the vertices `corners[offsets[c]:offsets[c + 1]]`, in no
            order.
        volumes: float64 [C].

    """

    vertices: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    volumes: np.ndarray


@dataclass(frozen=True)
class PolytopeCells:
    """The subdivision of a box by a piecewise-linear function of D coordinates.

    Cell c is {x: normals[k] @ x <= limits[k] for all k from offsets[c] to offsets[c + 1]}.

    Attributes:
        offsets: int64 [C + 1].
        normals: float64 [K, D], of unit length, outward.
        limits: float64 [K].
        walls: int64 [K, 3], the step of the network, its unit and which of its levels made the
            half-space (of the largest of several: which competitor, the later one of the two); of
            a side of the box -1, the coordinate, and 0 (low) or 1 (high).
        neighbors: int64 [K], the cell across; -1 at the border, -2 where it is not known.
        centers: float64 [C, D], a point inside.
        radii: float64 [C], of a ball around it inside the cell, not always the largest.
        maps: float64 [C, D + 1, O]: on cell c the outputs are x @ maps[c, :D] + maps[c, D].
        corners: the vertices, where they were followed; else None, and half-spaces may be
            redundant.
        complete: whether the whole network was followed; else the cells are a coarser
            subdivision and their number is a lower bound.

    """

    offsets: np.ndarray
    normals: np.ndarray
    limits: np.ndarray
    walls: np.ndarray
    neighbors: np.ndarray
    centers: np.ndarray
    radii: np.ndarray
    maps: np.ndarray
    corners: Corners | None
    complete: bool = True


def kept_cells(cells: PolytopeCells, kept: np.ndarray) -> PolytopeCells:
    """Return some of the cells, bool [C]; neighbors that are gone are not known."""
    counts = np.diff(cells.offsets)
    rows = np.repeat(kept, counts)
    number = np.append(np.where(kept, np.cumsum(kept) - 1, -2), [-2, -1])  # -2 and -1 stay
    corners = cells.corners
    if corners is not None:
        each = np.diff(corners.offsets)
        corners = Corners(
            corners.vertices,
            np.concatenate([[0], np.cumsum(each[kept])]),
            corners.corners[np.repeat(kept, each)],
            corners.volumes[kept],
        )
    return PolytopeCells(
        np.concatenate([[0], np.cumsum(counts[kept])]),
        cells.normals[rows], cells.limits[rows], cells.walls[rows],
        number[cells.neighbors[rows]], cells.centers[kept], cells.radii[kept], cells.maps[kept],
        corners, cells.complete,
    )  # fmt: skip


def merged_cells(cells: PolytopeCells, same: np.ndarray) -> PolytopeCells:
    """Join cells across some of their half-spaces, bool [K]; each union has to be convex.

    Neighbors and vertices of the cells have to be known.
    """
    owner = np.repeat(np.arange(len(cells.centers)), np.diff(cells.offsets))
    pairs = (np.ones(int(same.sum())), (owner[same], cells.neighbors[same]))
    graph = coo_matrix(pairs, shape=(len(cells.centers),) * 2)
    groups, label = connected_components(graph, directed=False)
    across = np.append(label, -1)[cells.neighbors]
    kept = np.flatnonzero(label[owner] != across)
    # Between two unions there is one hyperplane; towards the border there is one for each side.
    names = np.where(across[kept, None] < 0, cells.walls[kept], -1)
    keys = np.column_stack([label[owner[kept]], across[kept], names])
    first = np.unique(keys, axis=0, return_index=True)[1]
    rows = kept[first]
    offsets = np.searchsorted(keys[first, 0], np.arange(groups + 1))
    corners = cells.corners
    assert corners is not None
    volumes = np.bincount(label, corners.volumes)
    weighted = [np.bincount(label, corners.volumes * axis) for axis in cells.centers.T]
    centers = np.stack(weighted, 1) / volumes[:, None]
    normals, limits = cells.normals[rows], cells.limits[rows]
    room = limits - (normals * centers[keys[first, 0]]).sum(1)
    leader = np.unique(label, return_index=True)[1]
    return PolytopeCells(
        offsets, normals, limits, cells.walls[rows], across[rows], centers,
        np.minimum.reduceat(room, offsets[:-1]), cells.maps[leader],
        _merged_corners(corners, label, volumes, (offsets, normals, limits)), cells.complete,
    )  # fmt: skip


def _merged_corners(
    corners: Corners,
    label: np.ndarray,
    volumes: np.ndarray,
    rows: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> Corners:
    """Return the vertices of unions: those of their parts that lie on at least D half-spaces."""
    offsets, normals, limits = rows
    owner = np.repeat(label, np.diff(corners.offsets))
    pairs = np.unique(np.stack([owner, corners.corners], 1), axis=0)
    touched = np.zeros(len(pairs), dtype=np.int64)
    near = _NEAR * np.abs(corners.vertices).max(initial=0.0)
    for k in range(int(np.diff(offsets).max())):
        row = offsets[pairs[:, 0]] + k
        there = row < offsets[pairs[:, 0] + 1]
        row = np.where(there, row, 0)
        gap = limits[row] - (normals[row] * corners.vertices[pairs[:, 1]]).sum(1)
        touched += there & (gap <= near)
    pairs = pairs[touched >= corners.vertices.shape[1]]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(volumes) + 1))
    return Corners(corners.vertices, starts, pairs[:, 1], volumes)


def locate(cells: PolytopeCells, points: np.ndarray) -> np.ndarray:
    """Return a cell that each point, [N, D], lies in, or the one it violates least, int64 [N].

    Cost: points times half-spaces.

    """
    found = np.zeros(len(points), dtype=np.int64)
    block = max(1, 2**22 // max(1, len(cells.limits)))
    for begin in range(0, len(points), block):
        some = slice(begin, begin + block)
        beyond = points[some] @ cells.normals.T - cells.limits
        found[some] = np.maximum.reduceat(beyond, cells.offsets[:-1], axis=1).argmin(1)
    return found


def walls_between(cells: PolytopeCells) -> np.ndarray:
    """Return the two cells beside each wall, int64 [walls, 2], each wall once."""
    owner = np.repeat(np.arange(len(cells.centers)), np.diff(cells.offsets))
    once = owner < cells.neighbors
    return np.stack([owner[once], cells.neighbors[once]], 1)


def linear_regions(cells: PolytopeCells, tolerance: float = 1e-9) -> np.ndarray:
    """Merge neighboring cells whose affine maps are equal; returns the region of each, int64 [C].

    Args:
        cells: the subdivision, with known neighbors.
        tolerance: gradients that differ by less than this share of the largest are equal.

    """
    one, two = walls_between(cells).T
    jump = np.abs(cells.maps[one, :-1] - cells.maps[two, :-1]).max(axis=(1, 2), initial=0)
    same = jump <= tolerance * np.abs(cells.maps[:, :-1]).max(initial=0.0)
    pairs = (np.ones(int(same.sum())), (one[same], two[same]))
    graph = coo_matrix(pairs, shape=(len(cells.centers),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)
