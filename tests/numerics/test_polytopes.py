"""Balls, facets and projections of polytopes against closed forms and independent programs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from whynet.numerics.polytopes import facet_ball, facets, inscribed_ball, nearest_point


def cube(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.vstack([np.eye(size), -np.eye(size)]), np.ones(2 * size)


def around(rows: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows, of unit length, inside a cube of side 4."""
    lengths = np.linalg.norm(rows, axis=1)
    normals, room = cube(rows.shape[1])
    return np.vstack([rows / lengths[:, None], normals]), np.append(limits / lengths, 2 * room)


def drawn(seed: int, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return around(random.standard_normal((count, size)), random.uniform(0.2, 2, count))


def program(cost: np.ndarray, rows: np.ndarray, limits: np.ndarray) -> float:
    """An independent program in plain coordinates, by the simplex method."""
    found = linprog(cost, A_ub=rows, b_ub=limits, bounds=(None, None), method="highs-ds")
    return float(found.fun) if found.status == 0 else -np.inf


def needed(normals: np.ndarray, limits: np.ndarray) -> list[int]:
    """Rows without which the polytope is larger; every one of a coinciding pair looks needless."""
    found = []
    for row in range(len(limits)):
        others = np.arange(len(limits)) != row
        reach = -program(-normals[row], normals[others], limits[others])
        if reach > limits[row] + 1e-7:
            found.append(row)
    return found


@pytest.mark.parametrize(("seed", "size", "count"), [(0, 2, 9), (1, 3, 14), (2, 6, 30)])
def test_ball_and_facets_against_programs(seed: int, size: int, count: int) -> None:
    normals, limits = drawn(seed, size, count)
    center, radius = inscribed_ball(normals, limits, np.zeros(size))
    rows = np.column_stack([normals, np.ones(len(normals))])
    assert radius == pytest.approx(-program(-np.eye(size + 1)[-1], rows, limits), rel=1e-7)
    assert (limits - normals @ center).min() == pytest.approx(radius, rel=1e-9)
    bounding = facets(normals, limits, center, radius)
    assert bounding.tolist() == needed(normals, limits)
    assert 0 < len(bounding) < len(limits)
    for row in range(len(limits)):
        where, reach = facet_ball(normals, limits, row, center, radius)
        if row in bounding:
            assert reach > 0
            others = np.arange(len(limits)) != row
            assert normals[row] @ where == pytest.approx(limits[row], abs=1e-9)
            assert (normals[others] @ where < limits[others]).all()
        else:
            assert reach <= 1e-7


def test_scale_does_not_matter() -> None:
    normals, limits = drawn(3, 3, 12)
    for scale in (1e-8, 1e7):
        center, radius = inscribed_ball(normals, scale * limits, np.zeros(3))
        assert radius / scale == pytest.approx(inscribed_ball(normals, limits, np.zeros(3))[1])
        assert facets(normals, scale * limits, center, radius).tolist() == needed(normals, limits)


def test_a_simplex() -> None:
    size = 4
    normals = np.vstack([-np.eye(size), np.full((1, size), size**-0.5)])
    limits = np.append(np.zeros(size), size**-0.5)
    center, radius = inscribed_ball(normals, limits, np.full(size, 1 / 9))
    expected = 1 / (size + size**0.5)
    assert radius == pytest.approx(expected)
    assert center == pytest.approx(np.full(size, expected))
    assert facets(normals, limits, center, radius).tolist() == [0, 1, 2, 3, 4]


def test_coinciding_and_touching_half_spaces() -> None:
    normals, limits = cube(3)
    touching = np.ones((1, 3)) / 3**0.5  # meets the cube in one corner
    normals, limits = np.vstack([normals[[0]], normals, touching]), np.append(limits, [1, 3**0.5])
    found = facets(normals, limits, np.zeros(3), 1.0)
    assert len(found) == 6
    assert len({0, 1} & set(found)) == 1
    assert 7 not in found


def test_what_is_unbounded() -> None:
    normals, limits = cube(2)
    half = slice(0, 1)
    assert inscribed_ball(normals[half], limits[half], np.zeros(2))[1] == np.inf
    assert inscribed_ball(normals[[0, 2]], limits[[0, 2]], np.array([0.5, 7]))[1] == 1
    assert facets(normals[half], limits[half], np.zeros(2), np.inf).tolist() == [0]
    assert facet_ball(normals[half], limits[half], 0, np.zeros(2), np.inf)[1] == np.inf


def closest(normals: np.ndarray, limits: np.ndarray, point: np.ndarray) -> float:
    """The least distance over all sets of active rows, by brute force."""
    best = np.inf
    for size in range(normals.shape[1] + 1):
        for rows in itertools.combinations(range(len(limits)), size):
            part = normals[list(rows)]
            step = np.linalg.pinv(part) @ (limits[list(rows)] - part @ point) if rows else 0
            if (normals @ (point + step) <= limits + 1e-9).all():
                best = min(best, float(np.linalg.norm(step)))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_nearest_points_against_all_active_sets(seed: int, whole: bool) -> None:
    random = np.random.default_rng(seed)
    rows, limits = random.standard_normal((5, 3)), random.uniform(-0.5, 1, 5)
    if whole:
        rows, limits = np.round(2 * rows), np.round(2 * limits)
        rows[~rows.any(1)] = 1
    normals, limits = around(rows, limits)
    point = 3 * random.standard_normal(3)
    found, expected = nearest_point(normals, limits, point), closest(normals, limits, point)
    if found is None:
        assert expected == np.inf
    else:
        assert found[1] == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert (normals @ found[0] <= limits + 1e-9).all()


def test_an_empty_polytope_has_no_nearest_point() -> None:
    normals, limits = cube(2)
    empty = np.vstack([normals, [[1.0, 0]]]), np.append(limits, -1.5)
    assert nearest_point(*empty, np.array([3.0, 2])) is None
    assert nearest_point(normals, limits, np.array([3.0, 2])) is not None
