"""Equal rows are those that comparing all pairs finds, in float64 and float32 round-off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whynet.numerics import equal_rows as module
from whynet.numerics.equal_rows import equal_rows


def by_all_pairs(rows: np.ndarray, tolerance: float) -> np.ndarray:
    """Let each row, from the first, take those left that agree with it."""
    leader = np.full(len(rows), -1)
    for first, row in enumerate(rows):
        if leader[first] < 0:
            same = (np.abs(rows - row) <= tolerance * np.maximum(1.0, np.abs(row))).all(1)
            leader[same & (leader < 0)] = first
    return leader


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    features=st.sampled_from([1, 3, 70]),
    tolerance=st.sampled_from([2.0**-44, 2.0**-18, 0.02]),
    step=st.sampled_from([0.0, 0.4, 0.99, 1.01, 3.0]),
)
def test_groups_are_those_of_all_pairs(
    seed: int, features: int, tolerance: float, step: float
) -> None:
    """Copies off by less and by more than the tolerance, in one entry, among rows close to them."""
    generator = np.random.default_rng(seed)
    origin = generator.integers(0, 12, 90)
    rows = generator.standard_normal((12, features))[origin]
    rows[generator.random(90) < 0.2] *= 100
    moved = generator.integers(0, features, 90)
    size = step * tolerance * np.maximum(1.0, np.abs(rows[np.arange(90), moved]))
    rows[np.arange(90), moved] += size * generator.choice([-1.0, 0.0, 0.0, 1.0], 90)
    assert np.array_equal(equal_rows(rows, tolerance), by_all_pairs(rows, tolerance))


@pytest.mark.parametrize("tolerance", [2.0**-44, 2.0**-18])
def test_rows_that_are_all_different_are_hardly_compared_in_full(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with the tolerance of float32, which adds up over the features of a projection."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((1500, 1500))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    compared: list[int] = []
    group = module._group_run

    def counted(rows: np.ndarray, left: np.ndarray, tol: float, leader: np.ndarray) -> None:
        compared.append(len(left))
        group(rows, left, tol, leader)

    monkeypatch.setattr(module, "_group_run", counted)
    assert np.array_equal(equal_rows(rows, tolerance), np.arange(1500))
    assert sum(compared) < 30
