"""Polytopes by half-spaces: inscribed balls, facets and projections, by small linear programs.

A polytope is `normals @ x <= limits` with rows of unit length. Programs are solved by HiGHS
(Huangfu and Hall 2018, doi:10.1007/s12532-017-0130-5) inside SciPy, in coordinates in which an
inscribed ball has radius one, so that its tolerances are relative to the polytope.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog, nnls

_TIGHT = 1e-10
"""What HiGHS may violate, in units of the inscribed ball."""

_REDUNDANT = 1e-8
"""How far beyond a half-space, in units of the inscribed ball, the others may reach without it."""

_WELL_INSIDE = 1e-2
"""Distance of a point of a facet from its border, in units of the inscribed ball, that will do."""


_COMPARABLE = 0.05
"""Radius, in the units of a program, at which its tolerance is fine enough for the ball."""


def _solve(
    cost: np.ndarray, rows: np.ndarray, limits: np.ndarray, equal: np.ndarray | None = None
) -> np.ndarray | None:
    """Return the x that makes `cost @ x` least under `rows @ x <= limits`; None if unbounded."""
    options = {"primal_feasibility_tolerance": _TIGHT, "dual_feasibility_tolerance": _TIGHT}
    message = ""
    # Presolving cannot always tell what is unbounded from what is empty.
    for presolve in (True, False):
        found = linprog(
            cost,
            A_ub=rows,
            b_ub=limits,
            A_eq=None if equal is None else equal[None],
            b_eq=None if equal is None else np.zeros(1),
            bounds=(None, None),
            method="highs",
            options=options | {"presolve": presolve},
        )
        if found.status == 0:
            return np.asarray(found.x)
        if found.status == 3:
            return None
        message = found.message
    raise ArithmeticError(f"HiGHS stopped: {message}")


def inscribed_ball(
    normals: np.ndarray, limits: np.ndarray, start: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return center and radius of a largest ball inside a polytope (the Chebyshev center).

    Args:
        normals: float64 [M, D], rows of unit length.
        limits: float64 [M].
        start: float64 [D], a point of the polytope.

    Returns:
        `start` and infinity where there is no largest ball.

    Cost: one linear program of D + 1 variables, two where `start` is near to walls.

    """
    center, radius = np.asarray(start, dtype=np.float64), 0.0
    if len(limits) == 0:
        return center, np.inf
    room = np.sort(np.maximum(limits - normals @ center, 0))
    scale = float(room[min(len(center), len(room) - 1)]) or float(room[-1]) or 1.0
    for _ in range(2):
        rows = np.column_stack([normals, np.ones(len(normals))])
        cost = np.zeros(len(center) + 1)
        cost[-1] = -1
        found = _solve(cost, rows, (limits - normals @ center) / scale)
        if found is None:
            return np.asarray(start, dtype=np.float64), np.inf
        moved = center + scale * found[:-1]
        inside = float((limits - normals @ moved).min())
        if inside <= radius:
            break
        center, radius = moved, inside
        if inside > _COMPARABLE * scale:
            break
        scale = inside
    return center, radius


def farthest_point(
    normals: np.ndarray, limits: np.ndarray, toward: np.ndarray, center: np.ndarray, radius: float
) -> np.ndarray:
    """Return the point of a bounded polytope that is farthest in a direction.

    Args:
        normals: float64 [M, D], rows of unit length.
        limits: float64 [M].
        toward: float64 [D], of unit length.
        center: float64 [D], the center of a ball inside.
        radius: float, its radius; it sets the scale.

    Cost: one linear program.

    """
    found = _solve(-toward, normals, (limits - normals @ center) / radius)
    assert found is not None  # it is bounded
    return np.asarray(center + radius * found)


def facets(
    normals: np.ndarray, limits: np.ndarray, center: np.ndarray, radius: float
) -> np.ndarray:
    """Return the half-spaces that bound a polytope: without them it would be larger.

    Clarkson's algorithm (1994, doi:10.1109/SFCS.1994.365723): each half-space is compared with
    those known to be needed; where it cuts something off, a ray from the inside to there first
    meets one that is needed.

    Args:
        normals: float64 [M, D], rows of unit length.
        limits: float64 [M].
        center: float64 [D], the center of a ball inside.
        radius: float, its radius, above zero and finite or infinite.

    Returns:
        int64, rows in ascending order; of coinciding ones one.

    Cost: at most M plus the number of facets linear programs, of as many rows as facets.

    """
    random = np.random.default_rng(0)
    scale = radius if np.isfinite(radius) else 1.0
    room = (limits - normals @ center) / scale
    needed = _met_by_rays(normals, room, random)
    open_rows = [int(row) for row in np.argsort(room) if row not in needed]
    for row in open_rows:
        # Each turn finds one more that is needed, or settles this row.
        while row not in needed:
            known = np.array(sorted(needed), dtype=np.int64)
            rows = np.vstack([normals[known], normals[row]])
            bounds = np.append(room[known], room[row] + 1)
            far = _solve(-normals[row], rows, bounds)
            assert far is not None  # its own row, moved out by one, bounds it
            if normals[row] @ far <= room[row] + _REDUNDANT:
                break
            fresh = _first_met(normals, room, far, random) - needed
            if not fresh:
                break  # cut off by less than round-off can tell
            needed |= fresh
    return np.array(sorted(needed), dtype=np.int64)


def _near_center(random: np.random.Generator, size: int) -> np.ndarray:
    """Return a point at a quarter of the radius: rays from there meet no two rows at once."""
    drawn = np.asarray(random.standard_normal(size))
    return np.asarray(0.25 * drawn / np.linalg.norm(drawn))


def _met_by_rays(normals: np.ndarray, room: np.ndarray, random: np.random.Generator) -> set[int]:
    """Return rows that rays along all normals, from near the center, meet first."""
    start = _near_center(random, normals.shape[1])
    left = room - normals @ start
    found: set[int] = set()
    block = max(1, 2**22 // max(1, len(normals)))
    for begin in range(0, len(normals), block):
        speed = normals[begin : begin + block] @ normals.T
        with np.errstate(divide="ignore"):
            times = np.where(speed > 0, left / speed, np.inf)
        found.update(times.argmin(1).tolist())
    return found


def _first_met(
    normals: np.ndarray, room: np.ndarray, target: np.ndarray, random: np.random.Generator
) -> set[int]:
    """Return the row that a ray from a random point near the center to `target` meets first."""
    start = _near_center(random, len(target))
    speed = normals @ (target - start)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.where(speed > 0, (room - normals @ start) / speed, np.inf)
    return {int(times.argmin())}


def facet_ball(
    normals: np.ndarray, limits: np.ndarray, facet: int, center: np.ndarray, radius: float
) -> tuple[np.ndarray, float]:
    """Return center and radius of a ball of D - 1 dimensions inside a facet.

    The foot of the perpendicular from `center` where it lies well inside, else the largest ball.

    Args:
        normals: float64 [M, D], rows of unit length.
        limits: float64 [M].
        facet: row of the facet.
        center: float64 [D], the center of a ball inside the polytope.
        radius: float, its radius; it sets the scale.

    Returns:
        The radius is at most 0 where the row is no facet; infinite, with a point of the facet as
        center, where there is no largest ball.

    Cost: at most one linear program.

    """
    scale = radius if np.isfinite(radius) and radius > 0 else 1.0
    own = normals[facet]
    foot = center + (limits[facet] - own @ center) * own
    inside = normals - np.outer(normals @ own, own)
    lengths = np.linalg.norm(inside, axis=1)
    others = lengths > 1e-9
    rows = np.column_stack([inside[others], lengths[others]])
    room = (limits - normals @ foot) / scale
    if (room[~others] < -_REDUNDANT).any():
        return foot, -np.inf
    if not others.any():
        return foot, np.inf
    margin = float((room[others] / lengths[others]).min())
    if margin > _WELL_INSIDE:
        return foot, scale * margin
    cost = np.zeros(len(own) + 1)
    cost[-1] = -1
    found = _solve(cost, rows, room[others], np.append(own, 0.0))
    if found is None:
        # Any ball will do, so one of the scale of the cell is asked for.
        cap = np.append(np.zeros(len(own)), 1.0)
        found = _solve(
            cost, np.vstack([rows, cap]), np.append(room[others], 1), np.append(own, 0.0)
        )
        assert found is not None
        return foot + scale * found[:-1], np.inf
    return foot + scale * found[:-1], scale * float(found[-1])


def nearest_point(
    normals: np.ndarray, limits: np.ndarray, point: np.ndarray
) -> tuple[np.ndarray, float] | None:
    """Return the point of a polytope that is nearest to a point, and how far it is.

    Least-distance programming by non-negative least squares (Lawson and Hanson 1974, chapter 23):
    finite and right to round-off.

    Args:
        normals: float64 [M, D], rows of unit length.
        limits: float64 [M].
        point: float64 [D].

    Returns:
        None where the polytope is empty.

    Cost: one non-negative least-squares problem of D + 1 equations and as many unknowns as rows
        that the point violates or nearly does.

    """
    room = limits - normals @ point
    if (room >= 0).all():
        return point, 0.0
    scale = float(-room.min())
    matrix = np.vstack([-normals.T, -room[None] / scale])
    target = np.zeros(len(point) + 1)
    target[-1] = 1
    weights, _ = nnls(matrix, target, maxiter=50 * max(10, len(limits)))
    rest = matrix @ weights - target
    if -rest[-1] <= 1e-12:
        return None
    step = scale * rest[:-1] / -rest[-1]
    return point + step, float(np.linalg.norm(step))
