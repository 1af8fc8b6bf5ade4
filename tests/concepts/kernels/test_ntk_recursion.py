"""The tangent kernel of wide networks: recursion, finite networks, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.concepts.kernels import wide_networks
from whynet.concepts.kernels.claims import ntk_recursion as module
from whynet.concepts.kernels.theory.infinite_width import (
    erf_averages,
    relu_averages,
    wide_kernels,
)
from whynet.core.claim import Cell, grid_of
from whynet.numerics.arc_cosine import kappa0, kappa1


def at_cosine(u: float) -> np.ndarray:
    return np.sqrt(2) * np.array([[1.0, 0.0], [u, np.sqrt(1 - u * u)]])


def test_arc_cosine_kernels_of_the_catalogue() -> None:
    assert float(kappa0(0.5)) == pytest.approx(2 / 3, abs=1e-15)
    assert float(kappa1(0.5)) == pytest.approx(0.6089978, abs=5e-8)
    assert float(kappa1(0.0)) == pytest.approx(1 / np.pi, abs=1e-15)
    assert [float(f(1 + 1e-16)) for f in (kappa0, kappa1)] == [1, 1]
    assert [float(f(-1.0)) for f in (kappa0, kappa1)] == pytest.approx([0, 0], abs=1e-15)


@pytest.mark.parametrize(
    ("u", "pairs"),
    [
        (0.5, [(0.6089978, 0.9423311), (0.6839057, 1.3514796), (0.7381282, 1.7378447)]),
        (0.0, [(0.3183099, 0.3183099), (0.4937311, 0.6857086)]),
    ],
)
def test_recursion_of_the_catalogue(u: float, pairs: list[tuple[float, float]]) -> None:
    for depth, (covariance, tangent) in enumerate(pairs, start=1):
        found = wide_kernels(at_cosine(u) / np.sqrt(2), depth)  # K⁰(x, x) = 2·1/2
        assert found.covariance[0, 1] == pytest.approx(covariance, abs=6e-8)
        assert found.tangent[0, 1] == pytest.approx(tangent, abs=6e-8)
        assert found.tangent[0, 0] == pytest.approx(depth + 1, abs=1e-13)
        assert found.covariance[0, 0] == pytest.approx(1, abs=1e-14)


def test_averages_are_those_of_gaussians() -> None:
    covariance = np.array([[1.3, 0.5], [0.5, 0.8]])
    nodes = np.linspace(-9, 9, 901)
    first, second = np.meshgrid(nodes, nodes, indexing="ij")
    weight = np.exp(-(first**2 + second**2) / 2) * (nodes[1] - nodes[0]) ** 2 / (2 * np.pi)
    root = np.linalg.cholesky(covariance)
    a = root[0, 0] * first
    b = root[1, 0] * first + root[1, 1] * second
    erf = torch.erf(torch.from_numpy(np.stack([a, b]))).numpy()
    slope = 2 / np.sqrt(np.pi) * np.exp(-(np.stack([a, b]) ** 2))
    for values, found in zip((erf, slope), erf_averages(covariance), strict=True):
        assert (weight * values[0] * values[1]).sum() == pytest.approx(found[0, 1], abs=1e-9)
        assert (weight * values[0] ** 2).sum() == pytest.approx(found[0, 0], abs=1e-9)
    relu = [np.maximum(v, 0) for v in (a, b)]
    average = (weight * relu[0] * relu[1]).sum()
    assert average == pytest.approx(relu_averages(covariance)[0][0, 1], rel=1e-3)


def small_cell(**changes: float | str) -> Cell:
    parameters = {"activation": "erf", "depth": 2, "width": 5, "bias_scale": 0.3, "networks": 3,
                  "weights": "gaussian", "parametrization": "ntk"}  # fmt: skip
    return Cell("ntk-recursion", 1, {**parameters, **changes}, 0)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize("standard", [False, True])
def test_tangent_kernels_are_those_of_automatic_differentiation(
    activation: str, standard: bool
) -> None:
    cell = small_cell(activation=activation, parametrization="standard" if standard else "ntk")
    points = wide_networks.sphere_points(cell, 4, 3, shared=())
    networks = wide_networks.draw_networks(cell, 3)
    kernels = wide_networks.tangent_kernels(networks, points)
    for place in range(3):
        weights = [w[place].clone().requires_grad_() for w in networks.weights]
        biases = [b[place].clone().requires_grad_() for b in networks.biases]
        gains = [(2 / w.shape[1]) ** 0.5 for w in weights]
        if standard:
            weights = [
                (w * g).detach().requires_grad_() for w, g in zip(weights, gains, strict=True)
            ]
            gains = [1.0, 1.0, 1.0]
        hidden = torch.from_numpy(points)
        for number, gain in enumerate(gains):
            hidden = hidden @ weights[number].T * gain + 0.3 * biases[number]
            if number < 2:
                hidden = torch.relu(hidden) if activation == "relu" else torch.erf(hidden)
        torch.testing.assert_close(
            wide_networks.outputs_of(networks, points)[place], hidden[:, 0].detach()
        )
        rows = []
        for output in hidden[:, 0]:
            gradients = torch.autograd.grad(output, weights + biases, retain_graph=True)
            rows.append(torch.cat([g.flatten() for g in gradients]))
        jacobian = torch.stack(rows)
        torch.testing.assert_close(kernels[place], jacobian @ jacobian.T)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("ntk-recursion")


def test_wide_networks_follow_the_recursion_and_the_controls_do_not(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_a_wrong_kernel_flips_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    assert module.judge(measured, predicted).state == "supported"
    scaled = measured.assign(kernel=1.3 * measured["kernel"], square=1.69 * measured["square"])
    assert module.judge(scaled, predicted).state == "refuted"
    other = measured.assign(kernel=measured["kernel"].roll(seed=1))
    assert module.judge(other, predicted).state != "supported"
    one = measured.isel(width=[0])
    assert module.judge(one, predicted.isel(width=[0])).state == "not applicable"


def made(generator: np.random.Generator, exponent: float) -> Tables:
    """Kernels `Θ + δ` of 30 seeds, whose deviation falls with a given exponent."""
    widths, seeds = np.array([32, 64, 128, 256]), 30
    dims = ["activation", "depth", "width", "bias_scale", "seed"]
    coords = {"activation": ["relu"], "depth": [1], "width": widths, "bias_scale": [0.1],
              "seed": range(seeds)}  # fmt: skip
    theta = np.broadcast_to(np.eye(2), (1, 1, 4, 1, seeds, 2, 2))
    sizes = 2.0 * widths[:, None] ** exponent * np.exp(0.1 * generator.normal(size=(4, seeds)))
    kernel = theta * (1 + 0.01 * generator.normal(size=(1, 1, 4, 1, seeds, 1, 1)))
    along = (kernel * theta).sum((-1, -2))
    square = 2 * (sizes[None, None, :, None] ** 2 - 1) + 2 * along
    axes = [*dims, "kernel_0", "kernel_1"]
    measured = xr.Dataset({"kernel": (axes, kernel), "square": (dims, square)}, coords)
    return measured, xr.Dataset({"kernel": (axes, theta)}, coords)


MADE_UP = (
    at_null("deviations fall with exponent -0.4", lambda g: made(g, -0.4)),
    at_null("deviations fall with exponent -0.6", lambda g: made(g, -0.6)),
    holds("deviations fall with exponent -0.5", lambda g: made(g, -0.5), 0.95),
    fails("deviations do not fall", lambda g: made(g, 0.0)),
)


def test_a_control_has_the_points_of_the_claim() -> None:
    grid = grid_of("ntk-recursion", module.CLAIM, "smoke")
    own = module.predict(grid.cells()[:3])
    for control in module.CLAIM.controls:
        other = module.predict(grid.under(control).cells()[:3])
        for mine, theirs in zip(own, other, strict=True):
            np.testing.assert_array_equal(mine["kernel"], theirs["kernel"])
