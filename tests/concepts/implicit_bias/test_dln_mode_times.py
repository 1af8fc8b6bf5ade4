"""Modes of deep linear networks: theory, experiment, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias.claims import dln_mode_times as module
from whynet.concepts.implicit_bias.theory import linear_modes as theory
from whynet.numerics.effective_rank import entropic_rank, nuclear_rank


@pytest.mark.parametrize(
    ("depth", "alpha", "times"),
    [(2, 0.01, (0.58, 1.08, 4.61)), (3, 0.1, (0.96, 1.90, 9.15)), (4, 0.2, (1.24, 2.48, 12.2))],
)
def test_the_catalogues_half_times(depth: int, alpha: float, times: tuple[float, ...]) -> None:
    found = [theory.half_time(own, alpha**depth, depth) for own in (10.0, 5.0, 1.0)]
    np.testing.assert_allclose(found, times, rtol=0.02)


def test_two_layers_have_a_closed_form() -> None:
    for eigenvalue in (10.0, 5.0, 1.0):
        exact = np.log(eigenvalue / 1e-4 - 1) / (2 * eigenvalue)
        found = theory.half_time(eigenvalue, 1e-4, 2)
        assert found == pytest.approx(exact, rel=1e-9)
        times = np.array([0.0, 0.3 * exact, exact, 3 * exact])
        curve = theory.strengths([eigenvalue], 1e-4, 2, times)[:, 0]
        closed = theory.two_layer_strength(eigenvalue, 1e-4, times)
        np.testing.assert_allclose(curve, closed, rtol=1e-6)
        assert closed[2] == pytest.approx(eigenvalue / 2)


def test_deep_networks_from_a_tiny_start_wait_as_the_catalogue_says() -> None:
    alpha, depth, eigenvalue = 1e-4, 3, 2.0
    found = theory.half_time(eigenvalue, alpha**depth, depth)
    assert found == pytest.approx(1 / alpha / eigenvalue, rel=1e-2)


def test_a_mode_is_at_its_half_at_its_half_time() -> None:
    for depth in (3, 4):
        time = theory.half_time(5.0, 1e-3, depth)
        found = theory.strengths([5.0, 1.0, 0.0], 1e-3, depth, [0.0, time])[1]
        assert found[0] == pytest.approx(2.5, rel=1e-5)
        assert found[2] < 1e-3 < found[1] < 0.5


def test_the_modes_are_those_of_the_whole_product() -> None:
    """The flow of all entries of three factors, by SciPy, has these strengths."""
    generator = np.random.default_rng(0)
    basis = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    aims, depth = np.array([4.0, 2.0, 1.0, 0.0]), 3
    matrix = (basis * aims) @ basis.T

    def field(_: float, state: np.ndarray) -> np.ndarray:
        one, two, three = state.reshape(3, 4, 4)
        pull = three @ two @ one - matrix
        parts = [two.T @ three.T @ pull, three.T @ pull @ one.T, pull @ one.T @ two.T]
        return -np.stack(parts).ravel()

    start = np.stack([0.2 * np.eye(4)] * depth).ravel()
    end = solve_ivp(field, (0, 1.5), start, rtol=1e-9, atol=1e-12).y[:, -1].reshape(3, 4, 4)
    found = np.diag(basis.T @ end[2] @ end[1] @ end[0] @ basis)
    expected = theory.strengths(aims, 0.2**3, depth, [0.0, 1.5])[1]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_effective_ranks_of_the_catalogue() -> None:
    assert entropic_rank([1.0, 1.0, 1.0, 1.0]) == pytest.approx(4)
    assert entropic_rank([10.0, 5.0, 0.0]) == pytest.approx(1.8899, abs=1e-4)
    assert entropic_rank([10.0, 5.0, 1.0]) == pytest.approx(
        2.29452, abs=1e-5
    )  # the catalogue: 2.2951
    np.testing.assert_allclose(nuclear_rank([[10.0, 5.0, 1.0], [3.0, 0.0, 0.0]]), [1.6, 1.0])


@pytest.fixture(scope="module")
def record() -> Any:
    return claim("dln-mode-times").run("smoke")


def test_modes_are_learned_when_predicted_and_not_under_controls(record: Any) -> None:
    assert record.verdict.state == "supported", record.verdict.sentence
    states = {name: found.state for name, found in record.verdict.controls.items()}
    assert states == {"indefinite": "refuted", "random-start": "refuted"}
    figure = Figure()
    module.draw(figure, record.dataset, record.predicted)
    assert figure.axes


def _with(record: Any, change: Mapping[str, Any]) -> str:
    measured = record.dataset.drop_vars("state").assign(change)
    return module.judge(measured, record.predicted.drop_vars("state")).state


def test_wrong_measurements_flip_the_verdict(record: Any) -> None:
    measured = record.dataset
    assert _with(record, {}) == "supported"
    late = {"half_times": 1.2 * measured["half_times"]}
    assert _with(record, late) == "refuted"
    exchanged = {"half_times": measured["half_times"].isel(half_times_0=[1, 0, 2])}
    assert _with(record, exchanged) == "refuted"
    shuffled = {"entropic_rank": measured["entropic_rank"].isel(entropic_rank_0=[2, 1, 0])}
    assert _with(record, shuffled) == "refuted"


def times(generator: np.random.Generator, median: float) -> Tables:
    """Half times of three modes over the predicted ones, of which one is off."""
    ones = {n: (("seed", f"{n}_0"), np.ones((10, 3))) for n in ("entropic_rank", "nuclear_rank")}
    found = 1 + 0.04 * generator.standard_normal((10, 3))
    found[:, 1] += median - 1
    table = {**ones, "half_times": (("seed", "half_times_0"), found)}
    predicted = {**ones, "half_times": (("seed", "half_times_0"), np.ones((10, 3)))}
    return xr.Dataset(table), xr.Dataset(predicted)


MADE_UP = (
    at_null("one mode's time 1.101 of the predicted, past the band", lambda g: times(g, 1.101)),
    holds("one mode's time 1.02 of the predicted, inside", lambda g: times(g, 1.02)),
    fails("one mode's time 1.25 of the predicted", lambda g: times(g, 1.25)),
)
