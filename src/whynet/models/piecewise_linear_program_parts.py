"""Convex parts of a box, cut by linear programs: a ball inside, and some of their points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from whynet.numerics.polytopes import farthest_point, inscribed_ball

_SMALLER = 0.1
"""Share of its parent's ball below which a part gets the largest ball by a linear program."""


@dataclass(frozen=True)
class Part:
    """A convex set: half-spaces and what made them, a ball inside, and some points of it."""

    normals: np.ndarray
    limits: np.ndarray
    walls: np.ndarray
    center: np.ndarray
    radius: float
    points: np.ndarray


@dataclass(frozen=True)
class Wall:
    """An affine function, of unit slope: normal @ x + shift; and what made it."""

    normal: np.ndarray
    shift: float
    name: tuple[int, int, int]


def cuts(part: Part, wall: Wall, thinnest: float) -> tuple[bool, np.ndarray]:
    """Return whether a wall leaves a ball of the least radius on both sides; and points found."""
    seen = np.zeros((0, len(part.center)))
    height = float(wall.normal @ part.center + wall.shift)
    if abs(height) < part.radius / 2 and part.radius >= 4 * thinnest:
        return True, seen
    far = -1.0 if height > 0 else 1.0
    if _ball_beyond(part, wall, far)[1] >= thinnest:
        return True, seen
    toward = far * wall.normal
    point = farthest_point(part.normals, part.limits, toward, part.center, part.radius)
    reach = far * float(wall.normal @ point + wall.shift)
    found = point[None]
    if reach <= thinnest:
        return False, found
    if _ball_beyond(replace(part, points=found), wall, far)[1] >= thinnest:
        return True, found
    return _largest(part, wall, far, point)[1] >= thinnest, found


def halves(part: Part, wall: Wall, thinnest: float) -> list[Part]:
    """Return the two parts beside a wall that cuts."""
    halves = []
    heights = part.points @ wall.normal + wall.shift
    for side in (1.0, -1.0):
        center, radius = _ball_beyond(part, wall, side)
        if radius < max(thinnest, _SMALLER * part.radius):
            inside = np.vstack([part.points, center])
            start = inside[int((side * (inside @ wall.normal + wall.shift)).argmax())]
            center, radius = _largest(part, wall, side, start)
        halves.append(
            Part(
                np.vstack([part.normals, -side * wall.normal]),
                np.append(part.limits, side * wall.shift),
                np.vstack([part.walls, wall.name]),
                center,
                radius,
                part.points[side * heights >= 0],
            )
        )
    return halves


def _ball_beyond(part: Part, wall: Wall, side: float) -> tuple[np.ndarray, float]:
    """Return a ball on one side of a wall: the known one, or one on the way to a point beyond."""
    height = side * float(wall.normal @ part.center + wall.shift)
    if height >= part.radius:
        return part.center, part.radius
    heights = side * (part.points @ wall.normal + wall.shift)
    if len(heights) == 0 or heights.max() <= max(height, 0):
        return part.center, max(height, 0.0)
    best = int(heights.argmax())
    share = (part.radius - height) / (part.radius - height + float(heights[best]))
    return (1 - share) * part.center + share * part.points[best], (1 - share) * part.radius


def _largest(part: Part, wall: Wall, side: float, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the largest ball of a part on one side of a wall; `start` is a point there."""
    normals = np.vstack([part.normals, -side * wall.normal])
    return inscribed_ball(normals, np.append(part.limits, side * wall.shift), start)
