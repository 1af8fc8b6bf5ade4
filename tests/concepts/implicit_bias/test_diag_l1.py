"""The ℓ1 limit of diagonal networks: theory, experiment, verdict."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias.claims import diag_l1 as module
from whynet.concepts.implicit_bias.theory.basis_pursuit import basis_pursuit, rate
from whynet.concepts.implicit_bias.theory.diagonal_potential import flow_limit
from whynet.core.errors import InputError


def test_the_catalogues_solution_and_its_certificate() -> None:
    found = basis_pursuit(np.array([[1.0, 2.0]]), np.array([1.0]))
    np.testing.assert_allclose(found.weights, [0.0, 0.5], atol=1e-12)
    assert found.off_support == pytest.approx(0.5)


def test_the_norm_is_least_among_all_vertices() -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        x, y = generator.standard_normal((3, 7)), generator.standard_normal(3)
        norms = [
            np.abs(np.linalg.solve(x[:, chosen], y)).sum()
            for chosen in map(list, combinations(range(7), 3))
        ]
        found = basis_pursuit(x, y)
        np.testing.assert_allclose(x @ found.weights, y, atol=1e-12)
        assert np.abs(found.weights).sum() == pytest.approx(min(norms), rel=1e-9)
        on = np.flatnonzero(found.weights)
        dual = np.linalg.solve(x[:, on].T, np.sign(found.weights[on]))
        off = np.delete(np.arange(7), on)
        assert found.off_support == pytest.approx(np.abs(x[:, off].T @ dual).max(), rel=1e-9)


def test_equations_without_a_solution_are_refused() -> None:
    with pytest.raises(InputError, match="without a solution"):
        basis_pursuit(np.ones((2, 3)), np.array([1.0, 2.0]))


def test_the_rate_of_the_smallest_example() -> None:
    """`X = (1, 2)`, `y = 1`: with c = 1/2 the distance falls as α for two layers, as α³ for 3."""
    row, aim = np.array([[1.0, 2.0]]), np.array([1.0])
    for depth, expected in ((2, 1.0), (3, 3.0), (4, 4.0)):
        small = [1e-2, 1e-3] if depth == 2 else [0.02, 0.01]
        gaps = [np.linalg.norm(flow_limit(row, aim, a, depth) - [0.0, 0.5]) for a in small]
        slope = np.log(gaps[0] / gaps[1]) / np.log(small[0] / small[1])
        assert rate(depth, 0.5) == expected
        assert slope == pytest.approx(expected, abs=0.06)


@pytest.fixture(scope="module")
def record() -> Any:
    return claim("diag-l1").run("smoke")


def test_exponents_are_as_predicted_and_not_under_controls(record: Any) -> None:
    assert record.verdict.state == "supported", record.verdict.sentence
    states = {name: found.state for name, found in record.verdict.controls.items()}
    assert states == dict.fromkeys(("repeated-feature", "uneven-start", "large-start"), "refuted")
    figure = Figure()
    module.draw(figure, record.dataset, record.predicted)
    assert figure.axes


def test_wrong_measurements_flip_the_verdict(record: Any) -> None:
    measured, predicted = (t.drop_vars("state") for t in (record.dataset, record.predicted))
    assert module.judge(measured * 1.2, predicted).state == "refuted"
    exchanged = measured.isel(depth=[1, 0]).assign_coords(depth=measured.coords["depth"])
    assert module.judge(exchanged, predicted).state == "refuted"
    # At two layers each problem has its own exponent: another problem's does not do.
    two = {"depth": [2]}
    shuffled = measured.sel(two).roll(seed=1)
    gaps = shuffled["exponent"] - predicted.sel(two)["exponent"]
    assert float(np.abs(gaps).median()) > module.BAND


def exponents(generator: np.random.Generator, median: float) -> Tables:
    """Exponents of 20 problems, apart from the predicted ones by a median."""
    zero = xr.Dataset({"exponent": (("depth", "seed"), np.zeros((2, 20)))}, {"depth": [2, 3]})
    values = median + 0.04 * generator.standard_normal((2, 20))
    return zero.copy(data={"exponent": values}), zero


MADE_UP = (
    at_null("exponents 0.151 too low, past the band", lambda g: exponents(g, -0.151)),
    at_null("exponents 0.151 too high", lambda g: exponents(g, 0.151)),
    holds("exponents 0.09 too low, inside", lambda g: exponents(g, -0.09), 0.95),
    fails("exponents 0.22 too low", lambda g: exponents(g, -0.22), 0.95),
)
