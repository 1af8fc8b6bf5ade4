"""The compiled kernel of faces: boxes, volumes and sections against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whynet.numerics import face_cutting as faces


def cut(
    box: tuple[np.ndarray, ...], rows: np.ndarray, shifts: np.ndarray, most: int = 10**6
) -> tuple[np.ndarray, ...]:
    vertices, begin, size, pool, count, sides = box
    walls = np.column_stack([np.full(len(sides), -1), sides])
    names = np.stack([np.zeros(len(rows), int), np.arange(len(rows)), np.zeros(len(rows), int)], 1)
    found = faces.cut_faces(
        vertices @ rows.T - shifts, 1e-12, np.abs(shifts), vertices, begin, size, pool, count,
        walls, names, most,
    )  # fmt: skip
    return tuple(found)


def cube(dims: int) -> tuple[np.ndarray, ...]:
    return faces.box_faces(-np.ones(dims), np.ones(dims))


def volumes(found: tuple[np.ndarray, ...]) -> np.ndarray:
    _, vertices, *lists = found[:6]
    return np.asarray(faces.volumes_of(*lists, faces.centers_of(vertices, *lists)))


@pytest.mark.parametrize("dims", [1, 2, 3, 4, 6])
def test_a_box_has_its_faces(dims: int) -> None:
    """2^(D - k) C(D, k) faces of dimension k, each between two ends in k coordinates."""
    low, high = -np.arange(1.0, dims + 1), np.arange(2.0, dims + 2)
    vertices, begin, size, pool, count, sides = faces.box_faces(low, high)
    assert count.tolist() == [2 ** (dims - k) * math.comb(dims, k) for k in range(dims + 1)]
    centers = faces.centers_of(vertices, begin, size, pool, count)
    for facet, (axis, end) in enumerate(sides):
        assert centers[dims - 1, facet, axis] == pytest.approx((low, high)[end][axis])
    assert len(np.unique(sides, axis=0)) == 2 * dims
    volume = faces.volumes_of(begin, size, pool, count, centers)
    assert volume.tolist() == pytest.approx([float(np.prod(high - low))])
    beside = faces.cells_beside(begin, size, pool, count)
    assert sorted(beside.ravel().tolist()) == [-1] * 2 * dims + [0] * 2 * dims


@pytest.mark.parametrize("dims", [2, 3, 4, 5])
def test_the_order_of_coordinates_cuts_a_cube_into_simplices(dims: int) -> None:
    """x_i = x_j for all pairs: D! equal simplices that share the diagonal, all degenerate."""
    pairs = [(i, j) for i in range(dims) for j in range(i)]
    rows = np.array([np.eye(dims)[i] - np.eye(dims)[j] for i, j in pairs])
    found = cut(cube(dims), rows, np.zeros(len(rows)))
    assert found[-1] == faces.WHOLE
    count = found[5]
    assert count[-1] == math.factorial(dims)
    assert count[0] == 2**dims  # no new vertex
    assert (found[3][dims, : count[-1]] == dims + 1).all()  # each has D + 1 facets
    assert volumes(found) == pytest.approx(np.full(count[-1], 2**dims / math.factorial(dims)))
    offsets, corners = faces.corners_of(*found[2:6])
    assert (np.diff(offsets) == dims + 1).all()
    first = found[1][corners[: dims + 1]]
    assert abs(np.linalg.det(first[1:] - first[0])) == pytest.approx(2**dims)


@pytest.mark.parametrize("dims", [2, 3, 4])
def test_vertices_lie_on_their_walls_and_euler_holds(dims: int) -> None:
    random = np.random.default_rng(dims)
    rows = random.standard_normal((9, dims))
    shifts = random.uniform(-0.5, 0.5, 9)
    found = cut(cube(dims), rows, shifts)
    values, vertices, _, _, _, count, walls, made, done, status = found
    assert (status, done) == (faces.WHOLE, 9)
    assert np.abs(vertices @ rows.T - shifts - values).max() < 1e-13
    assert len(made) == count[0] - 2**dims
    assert sum((-1) ** k * int(count[k]) for k in range(dims + 1)) == 1
    assert volumes(found).sum() == pytest.approx(2.0**dims, rel=1e-13)
    centers = faces.centers_of(vertices, *found[2:6])[dims - 1, : count[dims - 1]]
    inner = walls[:, 0] == 0
    own = rows[walls[inner, 1]]
    assert np.abs((centers[inner] * own).sum(1) - shifts[walls[inner, 1]]).max() < 1e-13


def test_a_bound_stops_after_the_function_that_passes_it() -> None:
    rows, shifts = np.tile([[1.0, 0]], (9, 1)), np.linspace(-0.8, 0.8, 9)
    found = cut(cube(2), rows, shifts, most=4)
    assert (found[5][-1], found[-2], found[-1]) == (5, 4, faces.MANY)
    assert volumes(found).sum() == pytest.approx(4)


def test_signs_of_no_affine_function_are_noticed() -> None:
    vertices, begin, size, pool, count, sides = cube(2)
    walls, names = np.column_stack([np.full(4, -1), sides]), np.zeros((1, 3), int)
    # Opposite corners of a square agree, the others too: four walls would meet its border.
    values = np.prod(vertices, axis=1)[:, None]
    found = faces.cut_faces(
        values, 1e-12, np.zeros(1), vertices, begin, size, pool, count, walls, names, 99
    )
    assert found[-1] == faces.UNCLEAR
