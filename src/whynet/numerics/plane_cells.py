"""A polygon cut into convex cells, with an affine function on each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlaneCells:
    """The subdivision of a convex polygon by a piecewise-linear function of two coordinates.

    Cell c has the corners `corners[offsets[c]:offsets[c + 1]]`, counter-clockwise; its edge k
    runs from corner k to the next one of the cell.

    Attributes:
        vertices: float64 [V, 2].
        offsets: int64 [C + 1].
        corners: int64 [K], vertices of the cells.
        neighbors: int64 [K], the cell across each edge; -1 at the border of the polygon.
        origins: int64 [K], the step of the network whose unit made the wall; -1 at the border.
        maps: float64 [C, 3, O]: on cell c the outputs are maps[c, 0] x + maps[c, 1] y +
            maps[c, 2].
        complete: whether the whole network was followed; else the cells are a coarser
            subdivision and their number is a lower bound.
        interrupted: whether that was because somebody interrupted.

    """

    vertices: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    neighbors: np.ndarray
    origins: np.ndarray
    maps: np.ndarray
    complete: bool = True
    interrupted: bool = False
