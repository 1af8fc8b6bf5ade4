"""What a small picture of a subdivided polygon needs: convex parts, each of one color."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whynet.numerics.plane_boundaries import decision_boundary
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_classes import class_parts
from whynet.numerics.plane_measures import areas_and_centroids, evaluate_maps

Array = np.ndarray[Any, Any]

NO_CLASS = -1

_DIGITS = 5
"""Decimal digits, of the polygon's extent or of the largest value, that are kept: more than anybody
sees."""


@dataclass(frozen=True, eq=False)
class PlanePicture:
    """A subdivided polygon, as far as a small picture shows it.

    Attributes:
        polygon: float64 [P, 2], its corners.
        cells: how many cells there are; a lower bound where not `complete`.
        complete: whether the whole network was followed.
        offsets: int64 [N + 1]: part n has the corners `corners[offsets[n]:offsets[n + 1]]`.
        corners: float64 [K, 2], rounded. Parts are cells, cut along the decision boundary.
        classes: int64 [N], the class that is predicted, `NO_CLASS` where there are no classes.
        values: float64 [N], at the middle of a part: by how much the class leads, or the first
            output where there are no classes; rounded. 0 where not `complete`.
        boundary: float64 [S, 2, 2], segments of the decision boundary, rounded.

    """

    polygon: Array
    cells: int
    complete: bool
    offsets: Array
    corners: Array
    classes: Array
    values: Array
    boundary: Array


def picture_of(cells: PlaneCells, polygon: Array, classes: bool = True) -> PlanePicture:
    """Return the picture of a subdivision.

    Args:
        cells: the subdivision.
        polygon: float64 [P, 2].
        classes: whether the largest output is a class.

    Cost: that of `class_parts` and `decision_boundary`, where there are classes.

    """
    count = len(cells.offsets) - 1
    extent = float(np.ptp(polygon, axis=0).max())
    offsets, corners = cells.offsets, cells.vertices[cells.corners]
    number, values = np.full(count, NO_CLASS), np.zeros(count)
    boundary = np.zeros((0, 2, 2))
    if cells.complete and classes:
        parts = class_parts(cells)
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts.polygons])])
        corners, number = np.concatenate(parts.polygons), parts.classes
        middles = np.add.reduceat(corners, offsets[:-1]) / np.diff(offsets)[:, None]
        values = _lead(evaluate_maps(cells.maps[parts.cells], middles))
        boundary = decision_boundary(cells).segments
    elif cells.complete:
        values = evaluate_maps(cells.maps, areas_and_centroids(cells)[1])[:, 0]
    return PlanePicture(
        np.asarray(polygon, dtype=np.float64), count, cells.complete, offsets,
        _rounded(corners, extent), number, _rounded(values, float(np.abs(values).max())),
        _rounded(boundary, extent),
    )  # fmt: skip


def _lead(values: Array) -> Array:
    if values.shape[1] == 1:
        return np.abs(values[:, 0])
    top = np.partition(values, -2, axis=1)[:, -2:]
    return np.asarray(top[:, 1] - top[:, 0])


def _rounded(values: Array, largest: float) -> Array:
    if largest == 0:
        return values
    return np.asarray(np.round(values, _DIGITS - 1 - int(np.floor(np.log10(largest)))))
