"""Splines as the limit of wide networks of one input: theory, networks, verdict."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import xarray as xr
from scipy import integrate
from scipy.interpolate import CubicSpline
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.implicit_bias.claims import spline_bias as module
from whynet.concepts.implicit_bias.theory import spline_limit as theory
from whynet.core.claim import Cell

DATA, POINTS = module.DATA, module.POINTS


def test_weights_of_the_catalogue() -> None:
    points = np.array([0.0, 1.0])
    found = theory.gaussian_weight(points, 1.0, 1.0)
    np.testing.assert_allclose(found, [2 / np.pi, 1 / (2 * np.pi)], rtol=1e-14)
    np.testing.assert_allclose(theory.uniform_weight(points, 1.0, 2.0), [1 / 16, 1 / 16])
    assert float(theory.uniform_weight(np.array([4.0]), 1.0, 2.0)[0]) == pytest.approx(1 / 256)


@pytest.mark.parametrize("bend", [0.0, 0.7, -2.5])
def test_weights_are_their_integrals(bend: float) -> None:
    def normal(value: float, deviation: float) -> float:
        return float(np.exp(-((value / deviation) ** 2) / 2) / deviation / np.sqrt(2 * np.pi))

    def gaussian(w: float) -> float:
        return abs(w) ** 3 * normal(w, 0.8) * normal(bend * w, 1.3)

    found = integrate.quad(gaussian, -9, 9, points=[0])[0]
    assert float(theory.gaussian_weight(np.array(bend), 0.8, 1.3)) == pytest.approx(found, rel=1e-8)
    reach = min(1.0, 2.0 / abs(bend)) if bend else 1.0
    flat = 2 * integrate.quad(lambda w: w**3 / 2 / 4, 0, reach)[0]
    assert float(theory.uniform_weight(np.array(bend), 1.0, 2.0)) == pytest.approx(flat, rel=1e-8)


def test_kernels_are_averages_over_units() -> None:
    generator = np.random.default_rng(0)
    x, y = np.array([-0.9, 0.2, 1.0]), np.array([0.4, -0.3])
    for kernel, draw in (
        (theory.gaussian_kernel, generator.standard_normal),
        (theory.uniform_kernel, lambda n: generator.uniform(-1, 1, n)),
    ):
        w, b = draw(400_000), 1.5 * draw(400_000)
        left, right = (np.maximum(w * p[:, None] + b, 0) for p in (x, y))
        np.testing.assert_allclose(
            kernel(x, y, 1.0, 1.5), left @ right.T / 400_000, rtol=0.01, atol=2e-3
        )
    diagonal = np.diag(theory.gaussian_kernel(x, x, 0.7, 1.5))
    np.testing.assert_allclose(diagonal, (0.49 * x**2 + 2.25) / 2, rtol=1e-14)
    with pytest.raises(ValueError, match="bend"):
        theory.uniform_kernel(np.array([3.0]), y, 1.0, 1.5)


def test_constant_weight_gives_the_natural_cubic_spline() -> None:
    found = theory.weighted_spline(np.ones_like, DATA, POINTS)
    natural = CubicSpline(*DATA, bc_type="natural")
    np.testing.assert_allclose(found, natural(POINTS), atol=1e-10)
    raised = DATA + np.stack([np.zeros(6), 3 - 2 * DATA[0]])
    np.testing.assert_allclose(
        theory.weighted_spline(np.ones_like, raised, POINTS), found + 3 - 2 * POINTS, atol=1e-10
    )


def test_the_weighted_spline_bends_least() -> None:
    generator = np.random.default_rng(1)
    zeta = partial(theory.gaussian_weight, weight=1.0, bias=0.5)
    fine = np.linspace(-1, 1, 401)

    def cost(values: np.ndarray) -> float:
        bend = np.diff(values, 2) / (fine[1] - fine[0]) ** 2
        return float((bend**2 / zeta(fine[1:-1])).sum() * (fine[1] - fine[0]))

    best = theory.weighted_spline(zeta, DATA, fine)
    np.testing.assert_allclose(np.interp(DATA[0], fine, best), DATA[1], atol=1e-9)
    for _ in range(20):
        knots = np.sort(np.concatenate([DATA[0], generator.uniform(-0.95, 0.95, 4)]))
        bump = generator.normal(size=10) * ~np.isin(knots, DATA[0])
        assert cost(best + 0.1 * CubicSpline(knots, bump)(fine)) > cost(best)


@pytest.mark.parametrize(
    ("bias", "natural", "weighted"), [(0.5, 0.24, 0.0116), (2.0, 0.0415, 0.0023)]
)
def test_the_limit_is_near_its_spline_and_not_the_natural_one(
    bias: float, natural: float, weighted: float
) -> None:
    kernel = partial(theory.gaussian_kernel, weight=1.0, bias=bias)
    zeta = partial(theory.gaussian_weight, weight=1.0, bias=bias)
    limit = theory.interpolator(kernel, DATA, POINTS)
    plain = CubicSpline(*DATA, bc_type="natural")(POINTS)
    own = theory.weighted_spline(zeta, DATA, POINTS)
    assert np.abs(limit - plain).max() == pytest.approx(natural, rel=0.02)
    assert np.abs(limit - own).max() == pytest.approx(weighted, rel=0.02)


def test_the_uniform_limit_is_the_natural_spline_up_to_the_cost_of_its_line() -> None:
    kernel = partial(theory.uniform_kernel, weight=1.0, bias=2.0)
    limit = theory.interpolator(kernel, DATA, POINTS)
    plain = CubicSpline(*DATA, bc_type="natural")(POINTS)
    assert np.abs(limit - plain).max() == pytest.approx(0.002, abs=2e-4)


def test_the_norm_is_the_bending_and_the_cost_of_the_line() -> None:
    bias = 2.0
    x, y = DATA
    coefficients = np.linalg.solve(theory.gaussian_kernel(x, x, 1.0, bias), y)
    fine = np.tan(np.linspace(-1.5705, 1.5705, 40_001))
    values = theory.gaussian_kernel(fine, x, 1.0, bias) @ coefficients
    slope = np.diff(values) / np.diff(fine)
    middle = (fine[1:] + fine[:-1]) / 2
    bend = np.diff(slope) / np.diff(middle)
    zeta = theory.gaussian_weight(fine[1:-1], 1.0, bias)
    bending = float((bend**2 / zeta * np.diff(middle)).sum())
    line = (slope[0] + slope[-1]) / 2
    jumps = bend * np.diff(middle)
    offset = values[20_000] - 0.5 * float((np.abs(fine[1:-1] - fine[20_000]) * jumps).sum())
    norm = bending + 4 * (line**2 + (offset - line * fine[20_000]) ** 2 / bias**2)
    assert norm == pytest.approx(float(y @ coefficients), rel=5e-3)


def test_the_trained_function_is_where_gradient_descent_ends() -> None:
    parameters = {"law": "gaussian-narrow", "width": 40, "bends": "independent", "start": "random"}
    cell = Cell("spline-bias", 1, parameters, 0)
    w, b, outer = module.hidden_units(cell)
    features = np.maximum(np.outer(DATA[0], w) + b, 0) / np.sqrt(40)
    rate = 1 / np.linalg.norm(features, 2) ** 2
    step = np.eye(6) - rate * features @ features.T
    error = np.linalg.matrix_power(step, 2**26) @ (features @ outer - DATA[1])
    assert np.abs(error).max() < 1e-6
    null = outer - np.linalg.pinv(features) @ features @ outer
    weights = null + np.linalg.pinv(features) @ DATA[1]
    found = module.experiment([cell, cell])[1]["values"]
    at_points = np.maximum(np.outer(POINTS, w) + b, 0) / np.sqrt(40)
    np.testing.assert_allclose(found, at_points @ weights, atol=1e-7)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("spline-bias")


def test_networks_draw_the_spline_and_the_controls_do_not(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_functions_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    scaled = measured.assign(values=1.2 * measured["values"])
    assert module.judge(scaled, predicted).state == "refuted"
    mirrored = measured.assign(values=measured["values"].isel(values_0=slice(None, None, -1)))
    assert module.judge(mirrored, predicted).state == "refuted"


def functions(generator: np.random.Generator, exponent: float, last: float) -> Tables:
    """Functions whose distance from the spline falls with the width, to `last` at the widest."""
    names, shape, coords = frame("spline-bias", "smoke")
    zero = np.zeros([*shape, 3])
    predicted = xr.Dataset({n: ([*names, f"{n}_0"], zero) for n in ("spline", "limit")}, coords)
    widths = np.array(coords["width"], dtype=float)
    sizes = last * (widths / widths[-1]) ** exponent
    spread = np.exp(0.3 * generator.normal(size=shape) - 0.045)
    values = zero + (sizes[:, None, None, None] * spread)[..., None]
    return xr.Dataset({"values": ([*names, "values_0"], values)}, coords), predicted


MADE_UP = (
    at_null("exponent -0.38, past the band", lambda g: functions(g, -0.38, 0.02)),
    at_null("5 % away at the widest", lambda g: functions(g, -0.5, 0.05)),
    holds("exponent -0.5, 3 % away", lambda g: functions(g, -0.5, 0.03)),
    fails("20 % away at every width", lambda g: functions(g, 0.0, 0.2)),
)
