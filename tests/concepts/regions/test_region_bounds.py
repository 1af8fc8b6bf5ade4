"""Counts of regions against enumerations by linear programs and along lines."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog
from tests.models.test_piecewise_linear_maxima import Maxout

import whynet
from whynet.concepts.regions.random_networks import relu_network
from whynet.concepts.regions.theory.region_bounds import (
    central_arrangement_regions,
    expected_cells_bound,
    generic_arrangement_regions,
    maxout_layer_regions,
    maxout_upper_bound,
    montufar_lower_bound,
    montufar_upper_bound,
    serra_upper_bound,
)
from whynet.core.errors import InputError


def _has_interior(rows: np.ndarray, limits: np.ndarray) -> bool:
    """Tell whether rows @ x <= limits has an interior point, by its largest slack up to one."""
    dimension = rows.shape[1]
    objective = np.append(np.zeros(dimension), -1.0)
    found = linprog(
        objective,
        np.column_stack([rows, np.ones(len(rows))]),
        limits,
        bounds=[(None, None)] * dimension + [(None, 1.0)],
    )
    return bool(found.x[-1] > 1e-7)


def _enumerate_maxout(weights: np.ndarray, biases: np.ndarray) -> int:
    """Count the choices of a winning piece per unit that hold on an open set."""
    units, rank, _ = weights.shape
    count = 0
    for winners in product(range(rank), repeat=units):
        pairs = [(u, w, k) for u, w in enumerate(winners) for k in range(rank) if k != w]
        rows = np.array([weights[u, k] - weights[u, w] for u, w, k in pairs])
        limits = np.array([biases[u, w] - biases[u, k] for u, w, k in pairs])
        count += _has_interior(rows, limits)
    return count


@pytest.mark.parametrize(("units", "inputs"), [(3, 2), (5, 2), (4, 3), (2, 3)])
@pytest.mark.parametrize("central", [False, True])
def test_arrangements_equal_their_enumeration(units: int, inputs: int, central: bool) -> None:
    rng = np.random.default_rng([units, inputs])
    weights = np.zeros((units, 2, inputs))
    weights[:, 1] = rng.normal(size=(units, inputs))
    biases = np.zeros((units, 2))
    biases[:, 1] = 0.0 if central else rng.normal(size=units)
    count = central_arrangement_regions if central else generic_arrangement_regions
    assert count(units, inputs) == _enumerate_maxout(weights, biases)
    assert maxout_layer_regions(inputs, [2] * units) == generic_arrangement_regions(units, inputs)


@pytest.mark.parametrize(("units", "rank", "inputs"), [(1, 3, 2), (2, 3, 2), (3, 3, 1)])
def test_maxout_layers_reach_their_bound_and_do_not_pass_it(
    units: int, rank: int, inputs: int
) -> None:
    rng = np.random.default_rng(0)
    counts = [
        _enumerate_maxout(rng.normal(size=(units, rank, inputs)), rng.normal(size=(units, rank)))
        for _ in range(12)
    ]
    bound = maxout_layer_regions(inputs, [rank] * units)
    assert max(counts) <= bound
    if inputs == 2:
        assert max(counts) == bound
    assert maxout_layer_regions(2, [3, 4]) == 1 + 2 + 3 + 6


def _patterns_on_a_line(rng: np.random.Generator, widths: tuple[int, ...]) -> int:
    values, fan = np.linspace(-20.0, 20.0, 4001)[:, None], 1
    patterns = []
    for width in widths:
        values = values @ rng.normal(size=(fan, width)) + rng.normal(size=width)
        patterns.append(values > 0)
        values, fan = np.maximum(values, 0), width
    return len(np.unique(np.concatenate(patterns, 1), axis=0))


def test_upper_bounds_hold_for_every_network_and_are_ordered() -> None:
    rng = np.random.default_rng(1)
    for widths in [(2, 2), (3, 3), (4, 2, 3)]:
        most = max(_patterns_on_a_line(rng, widths) for _ in range(20))
        assert most <= serra_upper_bound(1, widths) <= montufar_upper_bound(1, widths)
        assert montufar_lower_bound(1, widths) <= serra_upper_bound(1, widths)


def test_published_values() -> None:
    assert serra_upper_bound(1, [2, 2, 2]) == 27
    assert serra_upper_bound(2, [4, 4]) == 121
    assert (serra_upper_bound(2, [3, 2, 3]), montufar_upper_bound(2, [3, 2, 3])) == (100, 196)
    assert (serra_upper_bound(4, [2, 4]), montufar_upper_bound(4, [2, 4])) == (22, 44)
    assert montufar_lower_bound(2, [8, 8, 8]) == 9472
    assert montufar_lower_bound(1, [2, 2, 2]) == 12


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_maxout_networks_stay_below_their_bound(rank: int) -> None:
    net = Maxout(3, 2, count=rank)
    regions = whynet.regions.subdivide(net, whynet.regions.Plane.box(-50, 50))
    assert isinstance(regions, whynet.regions.PlaneRegions)
    assert 3 < regions.count <= maxout_upper_bound(2, [3, 2], rank)
    by_hand = (1 + 3 * (rank - 1) + 3 * (rank - 1) ** 2) * (1 + 2 * (rank - 1) + (rank - 1) ** 2)
    assert maxout_upper_bound(2, [3, 2], rank) == by_hand
    assert maxout_upper_bound(3, [4, 2, 5], 2) == montufar_upper_bound(3, [4, 2, 5])


def test_the_mean_count_of_cells_is_below_its_bound() -> None:
    """One hidden layer of normal weights and biases: the gradient of a unit is its weight."""
    inputs, units, seeds, side = 2, 12, 40, 2.0
    counts = []
    for seed in range(seeds):
        net = relu_network(np.random.default_rng(seed), inputs, [units], 0.5)
        regions = whynet.regions.subdivide(net, whynet.regions.Plane.box(-side, side))
        assert isinstance(regions, whynet.regions.PlaneRegions)
        counts.append(regions.count)
    # E |w|^4 of two normal weights of variance 1 is 8; the density of a bias is largest at 0.
    bound = expected_cells_bound(units, inputs, 8**0.25, 1 / (0.5 * (2 * np.pi) ** 0.5))
    assert 0 < np.mean(counts) <= bound * (2 * side) ** 2
    # By the count of lowest corners a factor of 4 in the place of 32 will do, with E |w|^2 = 2.
    sharper = (4 / 32) ** 2 * expected_cells_bound(units, inputs, 2**0.5, 2 * (2 * np.pi) ** -0.5)
    assert np.mean(counts) <= sharper * (2 * side) ** 2 < bound * (2 * side) ** 2
    assert expected_cells_bound(3, 4, 1.0, 1.0) == 8
    assert expected_cells_bound(4, 2, 0.5, 0.25) == (32 * 0.125 * 4) ** 2 / 2
    for bad in ({"gradient": 0.0, "density": 1.0}, {"gradient": 1.0, "density": float("inf")}):
        with pytest.raises(InputError, match="positive finite"):
            expected_cells_bound(4, 2, **bad)


def test_a_layer_narrower_than_the_input_is_refused() -> None:
    with pytest.raises(InputError, match="widths"):
        montufar_lower_bound(3, [2, 4])
    with pytest.raises(InputError, match="ranks"):
        maxout_layer_regions(2, [])
