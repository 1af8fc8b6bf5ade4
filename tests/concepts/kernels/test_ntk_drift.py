"""Drift of the tangent kernel against width: networks, kernels, verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.concepts.kernels.claims import ntk_drift as module
from whynet.concepts.kernels.theory.linearized_descent import after_descent
from whynet.concepts.kernels.two_layers import learning_rates, problems, trained
from whynet.core.claim import Cell


def cells(count: int = 2, **changes: float | str) -> list[Cell]:
    parameters = {"activation": "tanh", "rows": 6, "width": 10, "steps": 5, "scaling": "ntk"}
    return [Cell("ntk-drift", 1, {**parameters, **changes}, seed) for seed in range(count)]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("scaling", ["ntk", "mean-field"])
def test_kernels_are_those_of_automatic_differentiation(activation: str, scaling: str) -> None:
    given = problems(cells(activation=activation, scaling=scaling))
    kernels = given.kernel(given.start, given.other, given.inputs)
    for place in range(2):
        own = {name: value[place] for name, value in given.start.items()}
        tables = []
        for points in (given.other[place], given.inputs[place]):
            rows = torch.func.jacrev(lambda p, x=points: given.forward(p, x))(own)
            tables.append(torch.cat([rows[n].flatten(1) for n in sorted(rows)], 1))
        torch.testing.assert_close(kernels[place], tables[0] @ tables[1].T)
    assert float(given.forward(given.start, given.inputs).abs().max()) < 1e-13


def test_training_is_plain_gradient_descent() -> None:
    given = problems(cells())
    after = trained(given, 5)
    rates = learning_rates(given)
    now = {name: value[1].clone() for name, value in given.start.items()}
    for _ in range(5):
        gradients = torch.func.grad(
            lambda p: 0.5 * (given.forward(p, given.inputs[1]) - given.targets[1]).square().mean()
        )(now)
        now = {name: value - rates[1] * gradients[name] for name, value in now.items()}
    for name, value in now.items():
        torch.testing.assert_close(after[name][1], value)


def test_linear_models_are_trained_as_the_closed_form_says() -> None:
    generator = np.random.default_rng(0)
    features, other = generator.normal(size=(5, 9)), generator.normal(size=(4, 9))
    y, weights = generator.normal(size=5), generator.normal(size=9)
    start = features @ weights, other @ weights
    for _ in range(40):
        weights = weights - 0.1 / 5 * features.T @ (features @ weights - y)
    kernel, cross = features @ features.T, other @ features.T
    found = after_descent(kernel, cross, start, y, rate=np.array(0.1), steps=40)
    np.testing.assert_allclose(found[0], features @ weights, atol=1e-12)
    np.testing.assert_allclose(found[1], other @ weights, atol=1e-12)
    singular = after_descent(0 * kernel, cross, start, y, rate=np.array(0.1), steps=40)
    np.testing.assert_allclose(singular[1], start[1] + cross @ (y - start[0]) * 40 * 0.1 / 5)


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, tuple[xr.Dataset, xr.Dataset]]]:
    return run("ntk-drift")


def test_drift_falls_with_the_width_and_not_in_the_control(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_measurements_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    absolute = measured.assign(drift=measured["drift"] * measured["width"])
    assert module.judge(absolute, predicted).state == "refuted"
    reverse = measured.assign(
        {n: (measured[n].dims, measured[n].sel(width=measured["width"][::-1]).values)
         for n in ("drift", "move")}
    )  # fmt: skip
    assert module.judge(reverse, predicted).state == "refuted"
    one = measured.isel(width=[0])
    assert module.judge(one, predicted).state == "not applicable"


def falls(generator: np.random.Generator, drift: float, move: float) -> Tables:
    """Drift and move that fall with the width, with two exponents."""
    widths, dims = np.array([128, 256, 512, 1024]), ["activation", "width", "seed"]
    coords = {"activation": ["tanh"], "width": widths, "seed": range(20)}
    noise = np.exp(0.1 * generator.normal(size=(2, 1, 4, 20)))
    values = {"drift": widths[:, None] ** drift, "move": widths[:, None] ** move}
    tables = {n: (dims, v * e) for (n, v), e in zip(values.items(), noise, strict=True)}
    return xr.Dataset(tables, coords), xr.Dataset()


MADE_UP = (
    at_null("drift with exponent -0.8, the band's edge", lambda g: falls(g, -0.8, -0.5)),
    at_null("move with exponent -0.56, past the band", lambda g: falls(g, -1.0, -0.56)),
    holds("exponents -1.05 and -0.5", lambda g: falls(g, -1.05, -0.5), 0.8),
    fails("no fall", lambda g: falls(g, 0.0, 0.0)),
)
