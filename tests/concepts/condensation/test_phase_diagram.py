"""Regimes of initialization scales: theory, flows, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.integrate import solve_ivp
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.condensation import two_layer_flow as networks
from whynet.concepts.condensation.claims import phase_diagram as module
from whynet.concepts.condensation.theory.phase_boundary import boundary, exponents, scales, slope

CATALOG = {
    (0.5, 0.0): -0.5, (0.75, 0.0): -0.25, (0.5, 0.5): -1.5, (0.5, -0.5): -0.5, (1.5, 1.5): -2.0,
    (1.0, 0.5): -1.0, (1.5, 0.75): -0.5, (1.0, 0.0): 0.0, (2.0, 1.0): 0.0, (1.0, -1.0): 0.0,
    (1.25, 0.0): 0.125, (1.75, 0.0): 0.375, (2.0, 0.0): 0.5, (1.5, 0.25): 0.125,
    (1.5, -0.25): 0.375, (1.25, -1.0): 0.25, (1.5, -1.0): 0.5,
}  # fmt: skip


@pytest.mark.parametrize(("point", "wanted"), CATALOG.items())
def test_slopes_have_the_sign_of_the_side_they_lie_on(
    point: tuple[float, float], wanted: float
) -> None:
    gamma, other = point
    assert slope(gamma, other) == pytest.approx(wanted)
    assert np.sign(slope(gamma, other)) == np.sign(gamma - boundary(other))
    assert exponents(*scales(gamma, other, 300.0), 300.0) == pytest.approx(point)


def test_slopes_vanish_on_the_boundary_and_nowhere_else() -> None:
    for other in np.linspace(-1.5, 1.5, 13):
        for gamma in np.linspace(0.1, 3.0, 30):
            assert np.sign(slope(gamma, other)) == np.sign(gamma - boundary(other))
        assert slope(boundary(other), other) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("gamma", "other"), [(0.75, 0.0), (1.5, 0.0), (1.25, 0.5)])
def test_flows_are_those_of_another_integrator_in_plain_units(gamma: float, other: float) -> None:
    """SciPy follows the weights themselves until they fit; distances agree within 6 %."""
    width = 50
    generator = np.random.default_rng(3)
    inner, outer = generator.standard_normal((width, 2)), generator.standard_normal(width)
    first, second = scales(gamma, other, width)
    points = np.stack([networks.INPUTS, np.ones(4)], 1)
    aim = np.array(networks.TARGETS)

    def gap(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, w = state[:width], state[width:].reshape(width, 2)
        hidden = np.maximum(points @ w.T, 0)
        return hidden, hidden @ a - aim

    def field(_: float, state: np.ndarray) -> np.ndarray:
        hidden, miss = gap(state)
        slopes = (hidden > 0) * state[:width] * (miss[:, None] / 4)
        return -np.concatenate([hidden.T @ miss / 4, (slopes.T @ points).ravel()])

    def fitted(_: float, state: np.ndarray) -> float:
        return float((gap(state)[1] ** 2).mean() / 2 - networks.FITTED)

    fitted.terminal = True  # type: ignore[attr-defined]
    start = np.concatenate([first * outer, second * inner.ravel()])
    found = solve_ivp(field, (0, 3000), start, events=fitted, rtol=1e-4, atol=1e-8)
    assert found.status == 1
    end = found.y[width:, -1].reshape(width, 2)
    wanted = np.linalg.norm(end - second * inner) / np.linalg.norm(second * inner)
    done = networks.flows([(outer, inner)] * 2, np.array([[first, second]] * 2))
    assert done.distance == pytest.approx([wanted] * 2, rel=0.06)
    assert (done.loss <= networks.FITTED).all()


def test_crossings_are_the_last_passages_from_below() -> None:
    rows = np.array([[-1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 2.0, -1.0], [3.0, -1.0, 1.0, -2.0],
                     [4.0, 1.0, 1.0, -1.0]])  # fmt: skip
    found = module.crossings(np.array([0.0, 1.0, 2.0, 4.0]), rows)
    np.testing.assert_allclose(found[:2], [0.5, 3.0])
    assert np.isnan(found[2:]).all()


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, Tables]]:
    return run("phase-diagram")


def test_rows_whose_band_leaves_the_grid_place_no_boundary() -> None:
    gammas, others = np.arange(0.5, 2.01, 0.25), np.array([0.0, 0.5, 0.9])
    edges = np.array([boundary(other) for other in others])
    found = xr.DataArray(
        (gammas[:, None] - edges)[..., None] * np.ones(3), dims=("gamma", "gamma_prime", "seed"),
        coords={"gamma": gammas, "gamma_prime": others},
    )  # fmt: skip
    known = xr.Dataset({"boundary": (("gamma", "gamma_prime"), np.tile(edges, (len(gammas), 1)))})
    rows = module._away(found, known)
    assert set(rows) == {0.0, 0.5}  # at 0.9 the boundary is at 1.9, and the grid ends at 2
    np.testing.assert_allclose(list(rows.values()), 0, atol=1e-12)
    rows = module._away(-found, known)
    np.testing.assert_allclose(list(rows.values()), 1.5)


def test_the_smallest_grid_is_supported_and_its_control_refuted(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_measurements_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    absolute = measured.assign(distance=measured["distance"] / measured["width"])
    assert module.judge(absolute, predicted).state == "refuted"
    turned = measured["distance"].copy(data=measured["distance"].values[::-1])
    assert module.judge(measured.assign(distance=turned), predicted).state == "refuted"
    unfitted = measured.assign(loss=measured["loss"] * 0 + 2e-4)
    assert module.judge(unfitted, predicted).state == "inconclusive"
    assert module.judge(measured.isel(width=[0]), predicted).state == "not applicable"
    assert module.judge(measured.isel(gamma=[0]), predicted.isel(gamma=[0])).state == (
        "not applicable"
    )


def diagram(generator: np.random.Generator, moved: float, noise: float = 0.05) -> Tables:
    """Slopes that grow evenly across a boundary moved by so much in γ."""
    dims, shape, coords = frame("phase-diagram", "small")
    points = [(g, h) for g in coords["gamma"] for h in coords["gamma_prime"]]
    away = [g - moved - boundary(h) for g, h in points]
    true = 0.5 * np.reshape(away, (shape[0], shape[1]))
    seeds = true[..., None] + noise * generator.normal(size=(*true.shape, shape[-1]))
    widths = np.asarray(coords["width"], dtype=float)[:, None]
    distance = widths ** seeds[:, :, None, :]
    table = xr.Dataset(
        {"distance": (dims, distance[:, :, :, None]), "loss": (dims, np.full(shape, 5e-5))}, coords
    )
    named = [(boundary(h), np.sign(g - boundary(h)), slope(g, h)) for g, h in points]
    tiled = [np.reshape(v, true.shape)[:, :, None, None, None] for v in zip(*named, strict=True)]
    known = {
        name: (dims, np.broadcast_to(values, shape))
        for name, values in zip(("boundary", "side", "slope"), tiled, strict=True)
    }
    return table, xr.Dataset(known, coords)


MADE_UP = (
    at_null("boundary 0.151 too far in γ, past the band", lambda g: diagram(g, 0.151)),
    at_null("boundary 0.151 too near", lambda g: diagram(g, -0.151)),
    holds("boundary 0.03 too near, inside", lambda g: diagram(g, -0.03)),
    fails("boundary 0.4 too far", lambda g: diagram(g, 0.4)),
)
