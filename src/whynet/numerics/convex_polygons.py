"""Convex polygons: one checked form, whatever order and repetition the corners come in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whynet.core.errors import InputError

_FLAT = 1e-12
"""Share of the squared extent below which an area is none, and of it a corner's turn."""


def convex_polygon(corners: Any, argument: str = "polygon") -> np.ndarray:
    """Return the corners of a convex polygon counter-clockwise, without needless ones.

    Args:
        corners: [P, 2], in either order; corners that repeat or do not turn are dropped.
        argument: how the caller calls it.

    Returns:
        float64 [at most P, 2].

    Raises:
        InputError: they are not finite, have no area, or are not the corners of a convex polygon
            in their order.

    """
    wanted = "the corners of a convex polygon, in order, as an array [corners, 2]"
    try:
        points = np.array(corners, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(argument, "no array of numbers", wanted) from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise InputError(argument, f"an array of shape {list(points.shape)}", wanted)
    if not np.isfinite(points).all():
        raise InputError(argument, "corners that are not finite", "finite corners")
    extent = float(np.ptp(points, axis=0).max())
    middle = points.mean(0)
    here = points - middle
    there = np.roll(here, -1, axis=0)
    area = float((here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]).sum()) / 2
    if abs(area) <= _FLAT * extent**2:
        raise InputError(
            argument, "a polygon without area (its corners lie on a line)", "one with an area"
        )
    if area < 0:
        points, here = points[::-1], here[::-1]
    keep = np.linalg.norm(here - np.roll(here, 1, axis=0), axis=1) > _FLAT * extent
    points = points[keep]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    angles = np.arctan2(turn, (before * after).sum(1))
    if (turn < -_FLAT * extent**2).any():
        corner = points[int(turn.argmin())]
        raise InputError(
            argument,
            f"a polygon that turns inward at ({corner[0]:.6g}, {corner[1]:.6g})",
            "a convex polygon, such as the hull of these corners",
        )
    if abs(float(angles.sum()) - 2 * math.pi) > 1e-6:
        raise InputError(argument, "a polygon that winds around more than once", "a convex polygon")
    return np.ascontiguousarray(points[turn > _FLAT * extent**2])
