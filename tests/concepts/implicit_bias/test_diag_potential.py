"""The potential of diagonal linear networks: theory, flow, experiment, verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from scipy.integrate import quad, solve_ivp
from scipy.optimize import brentq, minimize
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias.claims import diag_potential as module
from whynet.concepts.implicit_bias.diagonal_networks import flowed
from whynet.concepts.implicit_bias.theory import diagonal_potential as theory
from whynet.core.errors import InputError

ROW, AIM = np.array([[1.0, 2.0]]), np.array([1.0])


@pytest.mark.parametrize(
    ("depth", "alpha", "limit"),
    [
        (2, 1.0, (0.199211, 0.400394)),
        (2, 0.1, (0.066858, 0.466571)),
        (2, 1e-3, (0.000707, 0.499647)),
        (2, 10.0, (0.2, 0.4)),
        (3, 0.1, (0.00526363, 0.49736819)),
    ],
)
def test_the_catalogues_closed_forms(depth: int, alpha: float, limit: tuple[float, float]) -> None:
    np.testing.assert_allclose(theory.flow_limit(ROW, AIM, alpha, depth), limit, atol=1e-6)


def test_the_catalogues_values_of_the_potential() -> None:
    found = theory.two_layer_potential([1.0, 2.0])
    np.testing.assert_allclose(found, (0.2451438476, 0.9343200493), atol=1e-10)


def test_the_two_layer_potential_is_the_integral_of_the_inverse_link() -> None:
    for end in (0.3, 5.0):
        area = quad(lambda b: brentq(lambda z: theory.link(2, z) - b, 0, 20), 0, end)[0]
        assert theory.two_layer_potential(end) == pytest.approx(area, rel=1e-7)


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_slope_and_integral_belong_to_the_link(depth: int) -> None:
    z, step = np.linspace(-0.9, 0.9, 7), 1e-6
    rise = (theory.link(depth, z + step) - theory.link(depth, z - step)) / step / 2
    np.testing.assert_allclose(theory.link_slope(depth, z), rise, rtol=1e-6)
    area = [quad(lambda s: float(theory.link(depth, s)), 0, end)[0] for end in z]
    np.testing.assert_allclose(theory.link_integral(depth, z), area, rtol=1e-9, atol=1e-12)


def test_the_limit_minimizes_the_potential_among_solutions() -> None:
    generator = np.random.default_rng(0)
    x, y, alpha = generator.normal(size=(4, 9)), generator.normal(size=4), 0.3
    limit = theory.flow_limit(x, y, alpha, 2)
    np.testing.assert_allclose(x @ limit, y, atol=1e-9)
    null = np.linalg.svd(x)[2][4:]
    least = np.linalg.lstsq(x, y, rcond=None)[0]
    found = minimize(
        lambda c: theory.two_layer_potential((least + null.T @ c) / alpha**2).sum(),
        np.zeros(5), method="BFGS", options={"gtol": 1e-9},
    )  # fmt: skip
    np.testing.assert_allclose(least + null.T @ found.x, limit, atol=1e-5)


def test_many_problems_at_once_are_each_solved_as_alone() -> None:
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(5, 4, 9)), generator.normal(size=(5, 4))
    alpha = np.array([1.0, 0.3, 0.1, 0.03, 3.0])
    for depth in (2, 3, 4):
        together = theory.flow_limit(x, y, alpha, depth)
        alone = [theory.flow_limit(*one, depth) for one in zip(x, y, alpha, strict=True)]
        np.testing.assert_allclose(together, alone, atol=1e-8)


def test_what_cannot_be_solved_is_said() -> None:
    with pytest.raises(InputError, match="full row rank"):
        theory.flow_limit(np.ones((2, 3)), np.array([1.0, 2.0]), 0.1, 3)


@pytest.mark.parametrize("depth", [2, 3])
def test_the_flow_is_that_of_another_integrator(depth: int) -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 3, 5)), generator.normal(size=(2, 3))
    speed = generator.uniform(0.5, 2, size=(2, 5))
    start = generator.uniform(0.3, 0.6, size=(2, 5))
    ours = flowed(x, y, start, speed, depth, residual=0, tolerance=1e-7, until=0.5)
    for member in range(2):

        def field(_: float, state: np.ndarray, member: int = member) -> np.ndarray:
            u, v = np.split(state, 2)
            pull = x[member].T @ (x[member] @ (u**depth - v**depth) - y[member])
            pull = depth * speed[member] * pull
            return np.concatenate([-(u ** (depth - 1)) * pull, v ** (depth - 1) * pull])

        both = np.concatenate([start[member]] * 2)
        end = solve_ivp(field, (0, 0.5), both, rtol=1e-10, atol=1e-12).y[:, -1]
        u, v = np.split(end, 2)
        np.testing.assert_allclose(ours.weights[member], u**depth - v**depth, atol=1e-5)


def test_the_flow_ends_where_the_potential_is_least_and_its_controls_do_not() -> None:
    record = claim("diag-potential").run("smoke")
    assert record.verdict.state == "supported", record.verdict.sentence
    states = {name: found.state for name, found in record.verdict.controls.items()}
    assert states == {"uneven-start": "refuted", "uneven-speed": "refuted"}
    figure = Figure()
    module.draw(figure, record.dataset, record.predicted)
    assert figure.axes


def test_wrong_weights_flip_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def scaled(*given: object, **named: object) -> object:
        found = flowed(*given, **named)  # type: ignore[arg-type]
        return replace(found, weights=1.01 * found.weights)

    monkeypatch.setattr(module, "flowed", scaled)
    record = claim("diag-potential").run("smoke", controls=False)
    assert record.verdict.state == "refuted"


def test_shuffled_members_flip_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    def shuffled(*given: object, **named: object) -> object:
        found = flowed(*given, **named)  # type: ignore[arg-type]
        return replace(found, weights=np.roll(found.weights, 1, axis=0))

    monkeypatch.setattr(module, "flowed", shuffled)
    record = claim("diag-potential").run("smoke", controls=False)
    assert record.verdict.state == "refuted"


def distances(generator: np.random.Generator, median: float) -> Tables:
    """Distances of 20 seeds from the predicted limit."""
    values = median * np.exp(0.3 * generator.standard_normal((2, 20)))
    dims = ("alpha", "seed")
    table = {"distance": (dims, values), "residual": (dims, np.full((2, 20), 1e-6))}
    return xr.Dataset(table, {"alpha": [1.0, 0.1]}), xr.Dataset({"distance": 0.0})


MADE_UP = (
    at_null("median distance 1.001e-3, past the band", lambda g: distances(g, 1.001e-3)),
    holds("median distance 0.6e-3, inside", lambda g: distances(g, 0.6e-3), 0.95),
    fails("median distance 1.5e-3", lambda g: distances(g, 1.5e-3), 0.95),
)


def test_runs_that_did_not_arrive_decide_nothing() -> None:
    table = xr.Dataset(
        {"distance": ("seed", np.zeros(20)), "residual": ("seed", np.full(20, 1e-2))}
    )
    assert module.judge(table, table).state == "inconclusive"


def test_cells_of_a_group_do_not_disturb_each_other() -> None:
    from whynet.core.claim import grid_of

    cells = grid_of("diag-potential", module.CLAIM, "smoke", seeds=2).cells()[:2]
    together = [float(v["l1"]) for v in module.experiment(cells)]
    alone = [float(module.experiment([cell])[0]["l1"]) for cell in cells]
    np.testing.assert_allclose(together, alone, rtol=1e-9)
