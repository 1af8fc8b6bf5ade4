"""Frequencies on the circle: closed forms, networks, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, frame, holds

from whynet.concepts.harmonic import circle_networks
from whynet.concepts.harmonic.claims import frequency_principle as module
from whynet.concepts.harmonic.theory.circle import (
    circle_eigenvalues,
    covariance_eigenvalues,
    decay_per_step,
    eigenvalues_on_points,
    sphere_eigenvalue,
    tangent_kernel,
)
from whynet.core.claim import Cell
from whynet.numerics.arc_cosine import kappa0, kappa1

ANGLE = 2 * np.pi * np.arange(2**16) / 2**16


def spectrum(kernel: np.ndarray) -> np.ndarray:
    return np.fft.fft(kernel).real / len(kernel)


def test_numbers_of_the_catalogue() -> None:
    k = np.array([0, 1, 2, 3, 4])
    found = circle_eigenvalues(k)
    np.testing.assert_allclose(found, [6 / np.pi**2, 0.5, 14 / (9 * np.pi**2), 0, 0.0171120],
                               atol=5e-8)  # fmt: skip
    assert found[2] == pytest.approx(0.1576107, abs=5e-8)
    biased = circle_eigenvalues(k, bias=True)
    np.testing.assert_allclose(biased[:2], [0.5 + 6 / np.pi**2, 0.5 + 2 / np.pi**2], atol=1e-15)
    assert biased[3] == pytest.approx(0.0225158, abs=5e-8)


@pytest.mark.parametrize("bias", [False, True])
def test_closed_forms_are_the_fourier_coefficients(bias: bool) -> None:
    k = np.arange(40)
    cosine = np.cos(ANGLE)
    found = spectrum(tangent_kernel(cosine, bias=bias))[:40]
    np.testing.assert_allclose(circle_eigenvalues(k, bias=bias), found, atol=1e-9)
    np.testing.assert_allclose(covariance_eigenvalues(k), spectrum(kappa1(cosine))[:40], atol=1e-9)


@pytest.mark.parametrize("bias", [False, True])
def test_on_points_frequencies_that_look_alike_add_up(bias: bool) -> None:
    k, turns = np.arange(6), np.arange(-20_000, 20_001)[:, None]
    alike = circle_eigenvalues(np.abs(k + 32 * turns), bias=bias).sum(0)
    np.testing.assert_allclose(eigenvalues_on_points(k, 32, bias=bias), alike, atol=1e-6)


def test_spheres_of_the_catalogue() -> None:
    three = [sphere_eigenvalue(tangent_kernel, k, 3) for k in range(7)]
    np.testing.assert_allclose(three, [1 / 2, 1 / 3, 5 / 64, 0, 1 / 192, 0, 0.001404], atol=6e-7)
    four = [sphere_eigenvalue(tangent_kernel, k, 4) for k in range(5)]
    np.testing.assert_allclose(four, [0.4503, 0.25, 0.04683, 0, 0.002132], atol=5e-5)
    slopes = [sphere_eigenvalue(kappa0, k, 3) for k in range(6)]
    np.testing.assert_allclose(slopes, [1 / 2, 1 / 8, 0, 1 / 128, 0, 1 / 512], atol=1e-6)
    for dimension, exponent in ((3, -2.97), (4, -3.91)):
        k = np.arange(20, 81, 6)
        values = [sphere_eigenvalue(tangent_kernel, int(d), dimension) for d in k]
        slope = np.polyfit(np.log(k), np.log(values), 1)[0]
        assert slope == pytest.approx(exponent, abs=0.01)


def test_trace_of_the_kernel_on_the_sphere() -> None:
    k = np.arange(60)
    values = np.array([sphere_eigenvalue(tangent_kernel, int(d), 3) for d in k])
    assert ((2 * k + 1) * values).sum() == pytest.approx(2, abs=0.02)


def cell(**changes: float | str) -> Cell:
    parameters = {"bias": "none", "rows": 32, "width": 8, "amplitude": 0.1, "steps": 10,
                  "start": "stratified", "density": "even"}  # fmt: skip
    return Cell("frequency-principle", 1, {**parameters, **changes}, 0)


def test_starts_compute_zero_and_the_kernel_of_a_wide_one_is_the_limit() -> None:
    import torch

    for kind in ("none", "trained"):
        wide = cell(width=1024, bias=kind)
        start = {n: torch.from_numpy(v) for n, v in circle_networks.start_of(wide).items()}
        angles = circle_networks.angles_of(wide)
        inputs = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1))
        output, back = torch.func.vjp(lambda p, x=inputs: circle_networks.forward(p, x), start)
        assert float(output.abs().max()) < 1e-12
        rows = [back(torch.eye(32, dtype=torch.float64)[i])[0] for i in range(32)]
        table = torch.stack([torch.cat([r[n].flatten() for n in sorted(r)]) for r in rows])
        limit = tangent_kernel(np.cos(angles[:, None] - angles), bias=kind == "trained")
        np.testing.assert_allclose((table @ table.T).numpy(), limit, atol=1e-2)


def test_uneven_points_follow_their_density() -> None:
    angles = circle_networks.angles_of(cell(density="uneven", rows=4000))
    share = ((angles < np.pi / 2) | (angles > 3 * np.pi / 2)).mean()
    assert share == pytest.approx(0.5 + 0.6 / np.pi, abs=1e-3)


def test_rates_of_exact_decays_are_found() -> None:
    steps = np.array(circle_networks.schedule_of(400))
    rates = decay_per_step(np.array([0.5, 0.05, 0.003]), 1.0)
    sizes = np.exp(-rates * steps[:, None])[None] * [2.0, 1.0, 0.1]
    np.testing.assert_allclose(circle_networks.decay_rates(steps, sizes)[0], rates, rtol=1e-12)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("frequency-principle")


def test_rates_are_those_of_the_kernel_and_the_controls_have_others(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_rates_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    for wrong in (1.1 * measured["rate"], measured["rate"].roll(rate_0=1)):
        assert module.judge(measured.assign(rate=wrong), predicted).state == "refuted"


def rates(generator: np.random.Generator, apart: float) -> Tables:
    """Rates of which that of one frequency is off."""
    names, shape, coords = frame("frequency-principle", "smoke")
    shape = [*shape, 5]
    one = xr.Dataset({"rate": ([*names, "rate_0"], np.ones(shape))}, coords)
    found = 1 + apart + 0.01 * generator.normal(size=shape)
    found[..., :4] = 1
    return one.assign(rate=one["rate"] * found), one


MADE_UP = (
    at_null("one rate 5 % off, the band's edge", lambda g: rates(g, 0.05)),
    holds("one rate 3 % off, inside the band", lambda g: rates(g, 0.03), 0.95),
    fails("one rate 10 % off", lambda g: rates(g, 0.10)),
)


def test_a_control_has_the_target_and_the_start_of_the_claim() -> None:
    own = cell()
    for name, value in (("amplitude", 1.0), ("density", "uneven"), ("start", "gaussian")):
        other = cell(**{name: value})
        angles = circle_networks.angles_of(own)
        mine, theirs = (circle_networks.target_of(c, angles) for c in (own, other))
        np.testing.assert_allclose(
            mine / own.number("amplitude"), theirs / other.number("amplitude"), rtol=1e-12
        )
        if name != "start":
            for part, values in circle_networks.start_of(own).items():
                np.testing.assert_array_equal(values, circle_networks.start_of(other)[part])
