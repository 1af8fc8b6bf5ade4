"""What deep linear networks conserve: theory, experiment, verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib.figure import Figure
from tests.concepts.verdict_rates import Tables, at_null, fails, holds

from whynet.atlas.run import claim
from whynet.concepts.implicit_bias.claims import dln_balanced as module
from whynet.concepts.implicit_bias.theory import balancedness as theory


def _draw(depth: int, size: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    drawn = generator.standard_normal((depth + 1, size, size)) / np.sqrt(size)
    return drawn[:-1], drawn[-1]


def _descended(
    factors: np.ndarray, target: np.ndarray, rate: float, time: float, loss: str = "square"
) -> np.ndarray:
    for _ in range(round(time / rate)):
        factors = factors - rate * theory.gradients(factors, target, loss)
    return factors


@pytest.mark.parametrize("loss", ["square", "log-cosh"])
@pytest.mark.parametrize("depth", [2, 3, 4])
def test_gradients_are_those_of_autograd(depth: int, loss: str) -> None:
    factors, target = _draw(depth)
    leaf = torch.tensor(factors, requires_grad=True)
    whole = leaf[0]
    for layer in range(1, depth):
        whole = leaf[layer] @ whole
    error = whole - torch.tensor(target)
    value = 0.5 * error.square().sum() if loss == "square" else error.cosh().log().sum()
    expected = torch.autograd.grad(value, leaf)[0].numpy()
    np.testing.assert_allclose(theory.gradients(factors, target, loss), expected, atol=1e-12)


def test_one_step_changes_the_imbalance_by_the_square_of_the_step() -> None:
    factors, target = _draw(3)
    pull = theory.gradients(factors, target, "square")
    moved = theory.imbalances(factors - 0.1 * pull) - theory.imbalances(factors)
    np.testing.assert_allclose(moved, 0.01 * theory.imbalances(pull), atol=1e-13)


def test_identical_factors_do_not_drift() -> None:
    factors = np.stack([0.1 * np.eye(5)] * 3)
    target = np.diag([3.0, 2.0, 1.0, 0.0, 0.0])
    end = _descended(factors, target, 1e-3, 2.0)
    assert np.abs(theory.imbalances(end)).max() < 1e-14


def test_half_the_step_is_half_the_drift() -> None:
    factors, target = _draw(3)
    drifts = []
    for rate in (0.02, 0.01, 0.005):
        moved = theory.imbalances(_descended(factors, target, rate, 1.0))
        gap = (moved - theory.imbalances(factors)).reshape(2, -1)
        drifts.append(np.linalg.norm(gap, axis=1).max())
    assert drifts[0] / drifts[1] == pytest.approx(2, rel=0.05)
    assert drifts[1] / drifts[2] == pytest.approx(2, rel=0.05)
    per_step = theory.drift_per_step_size(factors, target, "square", 1.0)
    assert drifts[2] / 0.005 == pytest.approx(per_step, rel=0.03)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_balanced_product_moves_as_its_equation_says(depth: int) -> None:
    generator = np.random.default_rng(1)
    left, _, right = np.linalg.svd(generator.standard_normal((4, 4)))
    values = np.array([2.0, 1.0, 0.5, 0.1]) ** (1 / depth)
    inner = [np.linalg.qr(generator.standard_normal((4, 4)))[0] for _ in range(depth - 1)]
    frames = [right.T, *inner, left]
    factors = np.stack([(frames[j + 1] * values) @ frames[j].T for j in range(depth)])
    np.testing.assert_allclose(theory.imbalances(factors), 0, atol=1e-12)
    target = generator.standard_normal((4, 4))
    step = 1e-6

    def whole(parts: np.ndarray) -> np.ndarray:
        found = parts[0]
        for part in parts[1:]:
            found = part @ found
        return found

    pull = theory.gradients(factors, target, "square")
    velocity = (whole(factors - step * pull) - whole(factors + step * pull)) / step / 2
    here = whole(factors)
    expected = theory.end_to_end_velocity(here, here - target, depth)
    np.testing.assert_allclose(velocity, expected, atol=1e-7)


@pytest.fixture(scope="module")
def record() -> Any:
    return claim("dln-balanced").run("smoke")


def test_the_drift_is_as_predicted_and_not_under_controls(record: Any) -> None:
    assert record.verdict.state == "supported", record.verdict.sentence
    states = {name: found.state for name, found in record.verdict.controls.items()}
    assert states == {"tanh": "refuted", "weight-decay": "refuted", "adam": "refuted"}
    figure = Figure()
    module.draw(figure, record.dataset, record.predicted)
    assert figure.axes


def test_wrong_measurements_flip_the_verdict(record: Any) -> None:
    measured = record.dataset.drop_vars("state")
    predicted = record.predicted.drop_vars("state")
    assert module.judge(measured * 1.3, predicted).state == "refuted"
    assert module.judge(measured * 0.7, predicted).state == "refuted"
    shuffled = measured.roll(seed=1) * 0.01
    assert module.judge(shuffled, predicted).state == "refuted"


def drifts(generator: np.random.Generator, median: float) -> Tables:
    """Drifts of 10 seeds over the predicted ones."""
    one = xr.Dataset({"drift": (("depth", "seed"), np.ones((2, 10)))}, {"depth": [2, 3]})
    values = median + 0.04 * generator.standard_normal((2, 10))
    return one.copy(data={"drift": values}), one


MADE_UP = (
    at_null("drift 0.899 of the predicted, past the band", lambda g: drifts(g, 0.899)),
    at_null("drift 1.101 of the predicted", lambda g: drifts(g, 1.101)),
    holds("drift 1.02 of the predicted, inside", lambda g: drifts(g, 1.02)),
    fails("drift 1.2 of the predicted", lambda g: drifts(g, 1.2), 0.95),
)
