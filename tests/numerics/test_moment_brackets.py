"""Brackets of a measure from its Gauss rule: against linear programs, and held by measures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from whynet.numerics.moment_brackets import cumulative_bounds


def gauss(points: np.ndarray, masses: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The Gauss rule of a measure by Lanczos in float64, full reorthogonalization."""
    rows = [np.sqrt(masses / masses.sum())]
    alphas, betas = [], []
    for step in range(steps):
        image = points * rows[-1]
        alphas.append(rows[-1] @ image)
        for _ in range(2):
            image = image - np.stack(rows).T @ (np.stack(rows) @ image)
        if step + 1 < steps:
            betas.append(np.linalg.norm(image))
            rows.append(image / betas[-1])
    nodes, turned = np.linalg.eigh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))
    return nodes, masses.sum() * turned[0] ** 2


def by_linear_program(
    nodes: np.ndarray, weights: np.ndarray, place: float, grid: np.ndarray
) -> tuple[float, float]:
    """Least and most that a measure on a grid has at or below a place, given 2 m - 1 moments."""
    held = np.append(grid, [place, *nodes])
    degree = 2 * len(nodes) - 2
    moments = np.polynomial.chebyshev.chebvander(nodes, degree).T @ weights
    known = np.polynomial.chebyshev.chebvander(held, degree).T
    below = (held <= place).astype(float)
    strictly = (held < place).astype(float)
    least = linprog(strictly, A_eq=known, b_eq=moments, method="highs")
    most = linprog(-below, A_eq=known, b_eq=moments, method="highs")
    assert least.success and most.success
    return float(least.fun), float(-most.fun)


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_brackets_are_as_narrow_as_moments_allow(steps: int) -> None:
    random = np.random.default_rng(steps)
    points, masses = np.sort(random.uniform(-1, 1, 40)), random.exponential(1, 40)
    nodes, weights = gauss(points, masses, steps)
    grid = np.linspace(-1.6, 1.6, 1201)
    for place in (-1.3, -0.4, 0.05, 0.7, 1.2):
        low, high = (end[0, 0] for end in cumulative_bounds(nodes[None], weights[None], [place]))
        least, most = by_linear_program(nodes, weights, place, grid)
        # On a grid the extreme measures are nearly reached, and never passed.
        assert low <= least + 1e-9 and high >= most - 1e-9
        assert low == pytest.approx(least, abs=0.02 * masses.sum())
        assert high == pytest.approx(most, abs=0.02 * masses.sum())


def test_a_heavy_spike_beside_the_place_is_told_from_it() -> None:
    """The spike at zero that every Hessian has; sums of whole weights could not leave it out."""
    points = np.concatenate([np.linspace(-0.1, -0.01, 30), np.zeros(900), np.linspace(0, 1, 70)])
    masses = np.ones(len(points))
    nodes, weights = gauss(points, masses, 20)
    place = -0.02
    low, high = (end[0, 0] for end in cumulative_bounds(nodes[None], weights[None], [place]))
    true = float((points <= place).sum())
    assert low <= true <= high
    assert high - low < 25
    passed = int(np.searchsorted(nodes, place))
    # What whole weights on both sides would leave open.
    assert weights[passed - 1] + weights[passed] > 4 * (high - low)


def test_places_at_and_beside_nodes_zeros_among_weights_and_runs_of_their_own() -> None:
    random = np.random.default_rng(0)
    points, masses = np.sort(random.uniform(-1, 1, 30)), np.full(30, 1 / 30)
    nodes, weights = gauss(points, masses, 6)
    places = np.concatenate([nodes, nodes + 1e-15, nodes - 1e-13, [-5.0, 5.0]])
    low, high = (end[0] for end in cumulative_bounds(nodes[None], weights[None], places))
    true = (points[:, None] <= places).mean(0)
    assert (low <= true + 1e-9).all() and (true <= high + 1e-9).all()
    sums = np.cumsum(weights)
    np.testing.assert_allclose(low[:6], sums - weights, atol=1e-9)  # the Gauss rule itself
    np.testing.assert_allclose(high[:6], sums, atol=1e-9)
    # An entry without weight is no node, wherever it stands.
    padded = np.insert(nodes, 3, nodes[3]), np.insert(weights, 3, 0.0)
    both = (
        np.stack([padded[0], np.append(nodes, nodes[-1])]),
        np.stack([padded[1], np.append(weights, 0.0)]),
    )
    for one, other in zip(cumulative_bounds(*both, places), (low, high), strict=True):
        np.testing.assert_allclose(one, np.stack([other, other]), atol=1e-9)


def test_moments_of_another_measure_do_not_bracket_this_one() -> None:
    """The control: the rule of a measure that is moved by a tenth of its length."""
    points, masses = np.linspace(-1, 1, 200), np.full(200, 1 / 200)
    nodes, weights = gauss(points + 0.2, masses, 20)
    places = np.linspace(-0.9, 0.9, 19)
    low, high = (end[0] for end in cumulative_bounds(nodes[None], weights[None], places))
    true = (points[:, None] <= places).mean(0)
    assert np.mean((low <= true) & (true <= high)) < 0.1
