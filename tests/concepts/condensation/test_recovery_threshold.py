"""Recovery of low-rank matrices by deep factorization: experiment and verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.concepts.condensation.claims import recovery_threshold as module
from whynet.core.claim import Cell, grid_of
from whynet.core.errors import InputError


def cell(seed: int = 0, **changes: float) -> Cell:
    parameters = {"size": 3, "rank": 1, "equations": 8, "start": 0.3, **changes}
    return Cell("recovery-threshold", 1, parameters, seed)


def test_the_flow_ends_where_another_integrator_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 400)
    own = cell()
    matrix, seen, factors = module.problem_of(own)
    assert np.linalg.matrix_rank(matrix) == 1 and np.linalg.norm(matrix) == pytest.approx(1)

    def field(_: float, flat: np.ndarray) -> np.ndarray:
        low, middle, high = flat.reshape(3, 3, 3)
        whole = high @ middle @ low
        residual = seen @ (whole - matrix).ravel()
        slope = (seen.T @ residual).reshape(3, 3) / len(seen)
        parts = (middle.T @ high.T @ slope, high.T @ slope @ low.T, slope @ low.T @ middle.T)
        return -np.stack(parts).ravel()

    end = solve_ivp(field, (0, 2000), factors.ravel(), method="LSODA", rtol=1e-8, atol=1e-10)
    low, middle, high = end.y[:, -1].reshape(3, 3, 3)
    away = float(np.linalg.norm(high @ middle @ low - matrix))
    found = module.experiment([own, own])[0]
    assert found["loss"] <= module.FITTED
    assert float(found["error"]) == pytest.approx(away, abs=0.02)


def test_a_control_and_more_equations_keep_the_matrix_and_the_directions() -> None:
    matrix, seen, factors = module.problem_of(cell())
    other = module.problem_of(cell(start=0.6, equations=11))
    np.testing.assert_array_equal(other[0], matrix)
    np.testing.assert_array_equal(other[1][:8], seen)
    np.testing.assert_allclose(other[2], 2 * factors)


def test_a_rank_above_the_size_is_refused() -> None:
    with pytest.raises(InputError, match="rank: found 4; wanted at most 3"):
        module.predict([cell(rank=4)])


@pytest.fixture(scope="module")
def smoke() -> Any:
    return run("recovery-threshold")


def test_few_equations_do_and_a_large_start_does_not(smoke: Any) -> None:
    verdict, tables = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {name: j.state for name, j in verdict.controls.items()} == {"large-start": "refuted"}
    assert (tables[""][1]["threshold"] == 7).all()


def test_wrong_measurements_flip_the_verdict(smoke: Any) -> None:
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    exchanged = measured.isel(equations=[1, 0]).assign_coords(equations=measured["equations"])
    assert module.judge(exchanged, predicted).state == "refuted"
    later = predicted.assign(threshold=2 * predicted["threshold"])
    assert module.judge(measured, later).state == "inconclusive"


def shares(generator: np.random.Generator, above: float, below: float) -> Tables:
    """Recovered or not, with chances above 1.5 times and below the predicted size."""
    grid = grid_of("recovery-threshold", module.CLAIM, "small")
    dims, seeds = ["equations", "seed"], 40
    sizes = np.array(grid.axes["equations"])
    chance = np.where(sizes >= 22.5, above, np.where(sizes < 15, below, 0.5))
    hits = (generator.random((len(sizes), seeds)) < chance[:, None]).astype(float)
    coords = {"equations": sizes}
    least = np.full((len(sizes), seeds), 15.0)
    predicted = xr.Dataset({"threshold": (dims, least)}, coords)
    return xr.Dataset({"recovered": (dims, hits)}, coords), predicted


MADE_UP = (
    at_null("half recovered from 1.5 O on", lambda g: shares(g, 0.5, 0.0)),
    at_null("half recovered below O", lambda g: shares(g, 0.9, 0.5)),
    holds("85 % above, none below", lambda g: shares(g, 0.85, 0.0)),
    fails("20 % above, none below", lambda g: shares(g, 0.2, 0.0)),
)


def test_the_figure_is_drawn_without_a_warning(smoke: Any) -> None:
    figure = Figure(layout="constrained")
    module.draw(figure, *(table.drop_vars("state") for table in smoke[1][""]))
    figure.canvas.draw()
    assert all(axes.has_data() for axes in figure.axes)
