"""The interpolator nearest to the start: theory, experiment, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias import linear_regression
from whynet.concepts.implicit_bias.claims import min_norm_interpolation as module
from whynet.concepts.implicit_bias.theory.minimum_norm import after_flow, nearest_interpolator
from whynet.core.claim import grid_of


@pytest.mark.parametrize(
    ("start", "limit"), [((0, 0), (0.2, 0.4)), ((1, 0), (1, 0)), ((0, 1), (-0.2, 0.6))]
)
def test_the_catalogues_closed_forms(
    start: tuple[float, float], limit: tuple[float, float]
) -> None:
    found = nearest_interpolator(np.array([[1.0, 2.0]]), np.array([1.0]), np.array(start))
    np.testing.assert_allclose(found, limit, atol=1e-15)


def test_the_limit_interpolates_and_no_interpolator_is_nearer() -> None:
    generator = np.random.default_rng(0)
    x, y, start = (
        generator.normal(size=(5, 12)),
        generator.normal(size=5),
        generator.normal(size=12),
    )
    limit = nearest_interpolator(x, y, start)
    np.testing.assert_allclose(x @ limit, y, atol=1e-12)
    null = np.eye(12) - np.linalg.pinv(x) @ x
    for _ in range(200):
        other = limit + null @ generator.normal(size=12)
        assert np.linalg.norm(other - start) >= np.linalg.norm(limit - start)


def test_flow_starts_at_the_start_ends_at_the_limit_and_solves_its_equation() -> None:
    generator = np.random.default_rng(1)
    x, y, start = generator.normal(size=(4, 7)), generator.normal(size=4), generator.normal(size=7)
    np.testing.assert_allclose(after_flow(x, y, start, 0.0), start, atol=1e-12)
    limit = nearest_interpolator(x, y, start)
    np.testing.assert_allclose(after_flow(x, y, start, 1e4), limit, atol=1e-12)
    step, time = 1e-5, 0.3
    slope = (after_flow(x, y, start, time + step) - after_flow(x, y, start, time - step)) / step / 2
    here = after_flow(x, y, start, time)
    np.testing.assert_allclose(slope, -x.T @ (x @ here - y), atol=1e-7)


def test_gradient_descent_is_at_the_limit_and_its_controls_are_not() -> None:
    record = claim("min-norm-interpolation").run("smoke")
    assert record.verdict.state == "supported"
    assert {j.state for j in record.verdict.controls.values()} == {"refuted"}
    assert record.verdict.controls.keys() == {"adam", "weight-decay"}


def test_a_control_has_the_data_and_the_start_of_the_claim() -> None:
    grid = grid_of("min-norm-interpolation", module.CLAIM, "smoke")
    own = linear_regression.regressions(grid.cells(), shared=module.CHANGED)
    for control in module.CLAIM.controls:
        cells = grid.under(control).cells()
        other = linear_regression.regressions(cells, shared=module.CHANGED)
        for name in ("inputs", "targets", "start"):
            np.testing.assert_array_equal(getattr(own, name), getattr(other, name))


def test_wrong_weights_flip_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "trained", lambda problems, *rest: 1.01 * linear_regression.trained(problems, *rest)
    )
    record = claim("min-norm-interpolation").run("smoke", controls=False)
    assert record.verdict.state == "refuted"


def test_too_few_steps_decide_nothing() -> None:
    record = claim("min-norm-interpolation").run("smoke", steps=30, controls=False)
    assert record.verdict.state in ("inconclusive", "refuted")
    assert record.verdict.state != "supported"


def distances(generator: np.random.Generator, least: float) -> Tables:
    """Distances of 20 runs from the predicted solution, of at least so much."""
    values = least * np.exp(np.abs(generator.normal(size=20)))
    tables = {"distance": ("seed", values)}, {"distance": ("seed", np.zeros(20))}
    return xr.Dataset(tables[0]), xr.Dataset(tables[1])


MADE_UP = (
    at_null("distances from 1.01e-8 on, past the band", lambda g: distances(g, 1.01e-8)),
    at_null("distances from 1e-4 on", lambda g: distances(g, 1e-4)),
    holds("distances from 1e-10 on", lambda g: distances(g, 1e-10), 0.95),
    fails("distances from 0.1 on", lambda g: distances(g, 0.1), 0.95),
)


def test_cells_of_a_group_do_not_disturb_each_other() -> None:
    cells = grid_of("min-norm-interpolation", module.CLAIM, "smoke", {"steps": (300,)}).cells()
    together = [float(v["norm"]) for v in module.experiment(cells)]
    alone = [float(module.experiment([cell])[0]["norm"]) for cell in cells]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
