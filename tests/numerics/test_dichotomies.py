"""Dichotomies of points, counted and enumerated."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.numerics.dichotomies import dichotomies


def test_on_a_line_they_are_first_and_last_parts() -> None:
    x = np.array([0.3, -1.0, 2.0, 0.5])
    found = dichotomies(np.stack([x, np.ones(4)], 1))
    ranks = np.argsort(np.argsort(x))
    parts = [ranks < cut for cut in range(5)] + [ranks >= cut for cut in range(5)]
    assert {tuple(row) for row in found.tolist()} == {tuple(row.tolist()) for row in parts}
    assert len(found) == 8


@pytest.mark.parametrize(
    ("count", "dimension", "number"),
    # Of half spaces in the plane and in space with their offsets, numbers of the catalogue.
    [(6, 2, 12), (6, 3, 32), (8, 3, 58), (10, 3, 92), (7, 4, 84), (3, 5, 8), (4, 4, 16), (5, 1, 2)],
)
def test_their_number_is_covers_and_no_random_normal_finds_another(
    count: int, dimension: int, number: int
) -> None:
    generator = np.random.default_rng(count)
    points = generator.standard_normal((count, dimension))
    found = dichotomies(points)
    assert found.shape == (number, count)
    assert len(np.unique(found, axis=0)) == number
    drawn = np.unique(generator.standard_normal((20_000, dimension)) @ points.T > 0, axis=0)
    known = {row.tobytes() for row in found}
    assert {row.tobytes() for row in drawn} <= known
    assert len(drawn) > 0.8 * number


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (np.ones(3), "points: .*shape"),
        (np.full((3, 2), np.nan), "finite"),
        (np.array([[1.0, 2.0], [2.0, 4.0], [0.0, 1.0]]), "general position"),
        (np.array([[1.0, 2.0], [2.0, 4.0]]), "general position"),
        (np.ones((60, 9)), "fewer"),
    ],
)
def test_bad_points_are_refused(points: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        dichotomies(points)
