"""Balancedness, tried on networks that were trained by gradient descent and by other methods."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.concepts.recipes import begun, descent, distance, failing, trained, tried, wave
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.field_testing import THEORY
from whynet.concepts.field_verdicts import control_state
from whynet.concepts.implicit_bias.layer_pairs import layer_pairs
from whynet.models.families import mlp
from whynet.models.subject import Subject

NAME = "dln-balanced"
DATA = (wave(40, 1), wave(60, 2))
DESCENT = descent(functional.mse_loss, 0.02, 2000)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@BOTH
def test_a_rectified_network_trained_by_descent_is_explained(dtype: torch.dtype) -> None:
    held = trained(lambda: mlp.build(3, (40,), 1), DESCENT, DATA, "mse", dtype)
    verdict, found = tried(NAME, held)
    assert verdict.state == "explains"
    assert control_state(found) == "does not explain"
    assert distance(found, THEORY) < 0.02
    assert found.estimate("items").value == 40


@BOTH
def test_a_linear_network_is_explained_with_all_inner_products(dtype: torch.dtype) -> None:
    recipe = descent(functional.mse_loss, 0.002, 1500)
    held = trained(lambda: mlp.build(3, (20, 20), 1, "linear"), recipe, DATA, "mse", dtype)
    assert all(pair.linear for pair in layer_pairs(held))
    verdict, found = tried(NAME, held)
    assert begun(NAME, held).measured.shape == (40, 20)
    assert verdict.state == "explains"
    assert distance(found, THEORY) < 0.15


def test_smaller_steps_drift_less() -> None:
    drifts = []
    for rate in (0.04, 0.02, 0.01):
        recipe = descent(functional.mse_loss, rate, round(20 / rate))
        held = trained(lambda: mlp.build(3, (40,), 1), recipe, DATA, "mse", torch.float64)
        state = begun(NAME, held)
        drifts.append(float(np.linalg.norm(state.said[THEORY] - state.measured)))
    assert drifts[1] / drifts[0] == pytest.approx(0.5, abs=0.1)
    assert drifts[2] / drifts[1] == pytest.approx(0.5, abs=0.1)


def test_adam_and_weight_decay_are_not_explained() -> None:
    for recipe in (
        descent(functional.mse_loss, 0.01, 2000, torch.optim.Adam),
        descent(functional.mse_loss, 0.02, 2000, weight_decay=0.05),
    ):
        held = trained(lambda: mlp.build(3, (40,), 1), recipe, DATA, "mse", torch.float64)
        verdict, found = tried(NAME, held)
        assert verdict.state != "explains", verdict.sentence
        assert distance(found, THEORY) > 0.1


def test_a_network_of_other_units_does_not_apply() -> None:
    held = trained(lambda: mlp.build(3, (40,), 1, "tanh"), DESCENT, DATA, "mse", torch.float64)
    assert failing(NAME, held)[0] == "symmetry"


def test_an_untrained_network_does_not_apply() -> None:
    module = mlp.build(3, (40,), 1)
    held = Subject(module, train=DATA[0], test=DATA[1], loss="mse", initial=module)
    assert failing(NAME, held)[0] == "trained"


class Beside(nn.Module):
    """A hidden layer whose units are read past the next layer as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        units = torch.relu(self.first(inputs))
        return self.second(units) + units.mean(1, keepdim=True)


def test_the_symmetry_is_tried_on_the_network_and_not_read_off_its_layers() -> None:
    def pairs(module: nn.Module) -> list[tuple[str, str, bool]]:
        held = Subject(module, train=DATA[0], loss="mse")
        return [(pair.first, pair.second, pair.linear) for pair in layer_pairs(held)]

    assert pairs(Beside()) == []
    leaky = nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.2), nn.Linear(8, 5), nn.Linear(5, 1))
    assert pairs(leaky) == [("0", "2", False), ("2", "3", True)]
    normed = nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
    assert pairs(normed) == []
    frozen = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    frozen[2].weight.requires_grad_(False)
    assert pairs(frozen) == []
