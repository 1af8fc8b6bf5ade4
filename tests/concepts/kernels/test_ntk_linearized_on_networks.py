"""The linearized network against trained ones: wide, rich, and networks it does not apply to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.concepts.recipes import (
    begun,
    descent,
    distance,
    failing,
    gaussian,
    trained,
    tried,
    wave,
)
from torch import nn
from torch.nn import functional

from whynet.concepts.field_testing import CONTROL, THEORY, run_field_test
from whynet.concepts.field_verdicts import control_state
from whynet.concepts.kernels.instruments import lazy_or_rich
from whynet.concepts.kernels.theory.linearized_descent import after_descent, flow_to_loss
from whynet.core.outcome import NotApplicable
from whynet.models.families import mlp
from whynet.models.subject import Subject

NAME = "ntk-linearized"
DATA = (wave(40, 1), wave(100, 2))
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def wide(dtype: torch.dtype = torch.float32, loss: str = "mse", **changes: object) -> Subject:
    def build() -> nn.Module:
        return mlp.build(3, (1024,), 1, "tanh", parametrization="ntk")

    recipe = descent(functional.mse_loss, 0.3, 400)
    return trained(build, recipe, DATA, loss, dtype, **changes)


def small_start() -> nn.Module:
    module = mlp.build(3, (16,), 1, "tanh")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.1)
    return module


@BOTH
def test_a_wide_network_is_explained_and_from_another_start_it_is_not(dtype: torch.dtype) -> None:
    verdict, found = tried(NAME, wide(dtype))
    assert verdict.state == "explains"
    assert control_state(found) != "explains"
    assert distance(found, THEORY) < 0.3 * distance(found, CONTROL)
    for other in ("seed 1", "seed 2"):
        assert distance(found, THEORY) < 0.4 * distance(found, other)


def test_a_network_that_learned_features_is_not_explained() -> None:
    recipe = descent(functional.mse_loss, 0.1, 4000)
    verdict, found = tried(NAME, trained(small_start, recipe, DATA, "mse", torch.float32))
    assert verdict.state == "does not explain"
    assert "nearest of 2 other seeds" in verdict.sentence
    assert distance(found, THEORY) > 3 * distance(found, "seed 1")


def test_labels_of_a_linear_classifier_are_explained_no_better_than_by_another_seed() -> None:
    """Every seed of a convex problem ends alike, so that no theory can be nearer than they are."""
    x, new = gaussian(80, 3, seed=11), gaussian(200, 3, seed=12)
    data = ((x, (x[:, 0] > 0).long()), (new, (new[:, 0] > 0).long()))
    recipe = descent(functional.cross_entropy, 0.5, 400)
    verdict, found = tried(
        NAME, trained(lambda: nn.Linear(3, 2), recipe, data, "cross_entropy", torch.float32)
    )
    assert verdict.state in ("no better than another seed", "does not explain"), verdict.sentence
    assert distance(found, "seed 1") < 0.02
    assert found.dataset["distance"].attrs["kind"] == "certified"
    assert distance(found, "a constant") > 0.3


def test_an_untrained_network_does_not_apply() -> None:
    module = mlp.build(3, (32,), 1, "tanh")
    held = Subject(module, train=DATA[0], test=DATA[1], loss="mse", initial=module)
    key, found = failing(NAME, held)
    assert key == "trained"
    assert "0 of their spread" in found


def test_rows_that_are_too_many_for_the_kernel_do_not_apply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lazy_or_rich, "MOST_ROWS", 30)
    key, found = failing(NAME, wide())
    assert key == "same-rows"
    assert "30 of 40" in found


def test_an_unknown_start_does_not_apply_and_says_which_option_gives_it() -> None:
    found = run_field_test(NAME, wide(initial=None))
    assert isinstance(found, NotApplicable)
    assert "--init-weights" in found.reason


def test_without_a_recipe_the_reference_is_missing() -> None:
    verdict, found = tried(NAME, wide(trainer=None))
    assert verdict.state == "cannot be judged against another seed"
    assert "--train-with" in verdict.sentence
    assert distance(found, THEORY) < 0.1


def test_the_prediction_does_not_look_at_the_trained_network() -> None:
    """Of labels it is the same for any end; of values for any end that fits as well."""
    rows, new = (torch.sign(y).clamp(0).long()[:, 0] for _, y in DATA)
    start = mlp.build(3, (32,), 2)
    said = []
    for end in (mlp.build(3, (32,), 2), mlp.build(3, (32,), 2)):
        held = Subject(
            end,
            train=(DATA[0][0], rows),
            test=(DATA[1][0], new),
            initial=start,
            dtype=torch.float64,
        )
        state = begun(NAME, held)
        said.append(state.said[THEORY])
        assert not np.array_equal(state.measured, state.said[THEORY])
    np.testing.assert_array_equal(*said)


def test_the_flow_that_ends_at_a_loss_is_that_of_small_steps() -> None:
    random = np.random.default_rng(0)
    x, new = random.standard_normal((12, 30)), random.standard_normal((7, 30))
    y, f, g = random.standard_normal(12), random.standard_normal(12), random.standard_normal(7)
    kernel, cross = x @ x.T, new @ x.T
    rate = np.array(1e-4)
    fitted, outputs = after_descent(kernel, cross, (f, g), y, rate=rate, steps=3000)
    loss = float(((fitted - y) ** 2).mean())
    found = flow_to_loss(kernel, cross, (f[:, None], g[:, None]), y[:, None], loss)
    np.testing.assert_allclose(found[:, 0], outputs, atol=2e-3)
    end = flow_to_loss(kernel, cross, (f[:, None], g[:, None]), y[:, None], 0.0)
    exact = g + cross @ np.linalg.solve(kernel, y - f)
    np.testing.assert_allclose(end[:, 0], exact, atol=1e-9)
    still = flow_to_loss(kernel, cross, (f[:, None], g[:, None]), y[:, None], 1e9)
    np.testing.assert_array_equal(still[:, 0], g)
