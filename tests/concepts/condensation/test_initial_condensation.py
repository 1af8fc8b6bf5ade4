"""The first stage from a tiny start: path, directions, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from tests.concepts.running_claims import run
from tests.concepts.verdict_rates import Make, Tables, at_null, fails, holds

from whynet.concepts.condensation import first_stage as stage
from whynet.concepts.condensation.claims import initial_condensation as module
from whynet.core.claim import Cell


@pytest.mark.parametrize("name", list(stage.ACTIVATIONS))
def test_multiplicities_are_those_of_the_activations(name: str) -> None:
    value, derivative = stage.ACTIVATIONS[name]
    z = np.array([-0.3, 0.2, 1.1])
    np.testing.assert_allclose(derivative(z), (value(z + 1e-6) - value(z - 1e-6)) / 2e-6, rtol=1e-6)
    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    torches: dict[str, Any] = {
        "tanh": torch.tanh,
        "softplus": lambda x: torch.nn.functional.softplus(x) - np.log(2),
        "z-tanh": lambda x: x * torch.tanh(x),
        "z2-tanh": lambda x: x**2 * torch.tanh(x),
    }
    now, order = torches[name](at), 0
    assert float(torches[name](torch.tensor(0.7).double())) == pytest.approx(value(np.array(0.7)))
    while abs(now.item()) < 1e-12:
        (now,) = torch.autograd.grad(now, at, create_graph=True)
        order += 1
    assert order == stage.MULTIPLICITY[name]


def cells(activation: str, count: int = 3) -> list[Cell]:
    given: dict[str, int | float | str] = {
        "activation": activation,
        "neurons": 40,
        "start": 1e-6,
        "inputs": "line",
    }
    return [Cell("initial-condensation", 1, given, seed) for seed in range(count)]


@pytest.mark.parametrize("activation", ["tanh", "z-tanh"])
def test_directions_are_those_of_the_closed_form(activation: str) -> None:
    """p = 1: ±mean(y x); p = 2: eigenvectors of mean(y x xᵀ) with the extreme eigenvalues."""
    for cell in cells(activation):
        inputs, targets = module._problem(cell)
        start = 1e-7 * np.random.default_rng(1).standard_normal((40, 3))
        directions, arrived = stage.grown(
            activation, inputs[None], targets[None], start[None, :, 0], start[None, :, 1:], 0.01
        )
        own = directions[0][arrived[0]]
        if activation == "tanh":
            line = (targets[:, None] * inputs).mean(0)
            lines = (line / np.linalg.norm(line))[:, None]
        else:
            lines = np.linalg.eigh((inputs.T * targets) @ inputs)[1]
        nearest = np.abs(own @ lines).max(1)
        assert np.median(nearest) > 0.9999 and nearest.min() > 0.97


def test_neurons_follow_the_gradient_of_their_own_sum() -> None:
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(1, 7, 2)), generator.normal(size=(1, 7))
    outer, inner = generator.normal(size=(1, 4)), generator.normal(size=(1, 4, 2))
    a, w = (torch.tensor(part[0], requires_grad=True) for part in (outer, inner))
    sums = (torch.tanh(torch.tensor(inputs[0]) @ w.T) * torch.tensor(targets[0])[:, None]).mean(0)
    rise = [g.numpy() for g in torch.autograd.grad((a * sums).sum(), (a, w))]
    size = np.sqrt(outer**2 + (inner**2).sum(2))
    # The first neuron alone: it has arrived after one step of a hundredth of its size.
    whole = np.concatenate([outer[0, :1], inner[0, 0]])
    pull = np.concatenate([rise[0][:1], rise[1][0]])
    moved = whole + 0.01 * size[0, 0] * pull / np.linalg.norm(pull)
    found, _ = stage.grown(
        "tanh", inputs, targets, outer[:, :1], inner[:, :1], float(size[0, 0]) * (1 + 1e-9)
    )
    assert np.linalg.norm(moved) >= size[0, 0] * (1 + 1e-9)
    np.testing.assert_allclose(found[0, 0], moved[1:] / np.linalg.norm(moved[1:]), rtol=1e-10)


def test_directions_are_counted_with_their_sign() -> None:
    angles = np.array([0.0, 0.05, np.pi, 1.0, 1.02, 2.0])
    assert stage.distinct(np.stack([np.cos(angles), np.sin(angles)], 1), 0.98) == 4
    assert stage.distinct(np.zeros((0, 2)), 0.98) == 0


@pytest.fixture(scope="module")
def smoke() -> tuple[object, dict[str, Tables]]:
    return run("initial-condensation")


def test_the_smallest_grid_is_supported_and_its_controls_refuted(smoke) -> None:  # type: ignore[no-untyped-def]
    verdict, _ = smoke
    assert verdict.state == "supported", verdict.sentence
    assert {j.state for j in verdict.controls.values()} == {"refuted"}


def test_wrong_measurements_flip_the_verdict(smoke) -> None:  # type: ignore[no-untyped-def]
    measured, predicted = (table.drop_vars("state") for table in smoke[1][""])
    assert module.judge(
        measured.assign(directions=3 * measured["directions"]), predicted
    ).state == ("refuted")
    one = predicted.assign(directions=predicted["directions"] * 0 + 2)
    assert module.judge(measured, one).state == "refuted", "all activations taken for p = 1"
    few = measured.assign(arrived=measured["arrived"] * 0.1)
    assert module.judge(few, predicted).state == "inconclusive"


def counts(wrong: np.ndarray) -> Tables:
    """Two directions everywhere, three where the claim is wrong."""
    dims = ["activation", "seed"]
    coords = {"activation": ["tanh"], "seed": range(len(wrong))}
    found = (2.0 + wrong)[None]
    measured = xr.Dataset(
        {"directions": (dims, found), "arrived": (dims, np.ones_like(found))}, coords
    )
    return measured, xr.Dataset({"directions": (dims, np.full_like(found, 2.0))}, coords)


def wrong_in(share: float) -> Make:
    """Return tables of eighty cases, of which about such a share has too many directions."""
    return lambda generator: counts(generator.random(80) < share)


MADE_UP = (
    at_null("too many directions in 20 % of 80 cases, the band's edge", wrong_in(0.2)),
    holds("in 2 %", wrong_in(0.02)),
    fails("in 50 %", wrong_in(0.5)),
)
