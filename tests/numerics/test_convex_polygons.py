"""Convex polygons in one form, and the sentence for those that are none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from whynet.core.errors import InputError
from whynet.numerics.convex_polygons import convex_polygon

SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_order_repetition_and_flat_corners_make_no_difference() -> None:
    messy = [[0, 1], [1, 1], [1, 1], [1, 0.5], [1, 0], [0, 0]]
    found = convex_polygon(messy)
    assert len(found) == 4
    assert {tuple(row) for row in found.tolist()} == {tuple(map(float, row)) for row in SQUARE}
    here, there = found, np.roll(found, -1, axis=0)
    assert (here[:, 0] * there[:, 1] - here[:, 1] * there[:, 0]).sum() == 2  # counter-clockwise


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 1e3])
def test_a_polygon_of_any_size_and_place_is_kept(scale: float, shift: float) -> None:
    angles = np.arange(9) * 2 * math.pi / 9
    corners = scale * (shift + np.stack([np.cos(angles), np.sin(angles)], 1))
    assert np.array_equal(convex_polygon(corners), corners)


PENTAGRAM = [[math.cos(4 * math.pi * k / 5), math.sin(4 * math.pi * k / 5)] for k in range(5)]


@pytest.mark.parametrize(
    ("corners", "words"),
    [
        ([[0, 0], [2, 0], [0.5, 0.5], [0, 2]], r"turns inward at \(0.5, 0.5\)"),
        (PENTAGRAM, "winds around more than once"),
        ([[0, 0], [1, 1], [2, 2]], "without area"),
        ([[0, 0], [0, 0], [0, 0]], "without area"),
        ([[0, 0], [1, 1]], r"shape \[2, 2\]"),
        ([[0, 0, 0]] * 4, r"shape \[4, 3\]"),
        ([[0, 0], [1, math.nan], [1, 1]], "not finite"),
        ("square", "no array of numbers"),
    ],
)
def test_what_is_no_convex_polygon_gets_one_sentence(corners: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        convex_polygon(corners)
