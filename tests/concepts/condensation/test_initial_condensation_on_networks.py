"""Initial condensation, tried on networks early in training from tiny and from usual starts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.concepts.recipes import distance, failing, gaussian, trained, tried, wave
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.condensation.theory.first_directions import turned
from whynet.concepts.field_testing import THEORY
from whynet.concepts.field_verdicts import control_state
from whynet.models.subject import Subject

NAME = "initial-condensation"
DATA = (wave(40, 1), wave(20, 2))


def built(
    activation: type[nn.Module] = nn.Tanh, scale: float = 1e-5, outputs: int = 1
) -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 40), activation(), nn.Linear(40, outputs))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=scale)
    return module


def early(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Descend until all weights together have a length of 0.1."""
    held = list(model.parameters())
    loss = functional.cross_entropy if targets.ndim == 1 else functional.mse_loss
    for _ in range(3000):
        if sum(float(p.detach().square().sum()) for p in held if p.ndim == 2) > 0.01:
            return
        gradients = torch.autograd.grad(loss(model(inputs), targets), held)
        with torch.no_grad():
            for parameter, gradient in zip(held, gradients, strict=True):
                parameter -= 0.2 * gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_from_a_tiny_start_the_data_say_where_each_unit_turns(dtype: torch.dtype) -> None:
    held = trained(built, early, DATA, "mse", dtype)
    verdict, found = tried(NAME, held)
    assert verdict.state == "explains", verdict.sentence
    assert control_state(found) != "explains"
    assert distance(found, THEORY) < 0.1
    assert distance(found, "its own start") > 0.5


def test_classes_are_explained_as_well() -> None:
    x = gaussian(60, 3, seed=4)
    data = ((x[:40], x[:40].argmax(1)), (x[40:], x[40:].argmax(1)))
    held = trained(lambda: built(nn.GELU, outputs=3), early, data, "cross_entropy", torch.float64)
    verdict, found = tried(NAME, held)
    assert verdict.state == "explains", verdict.sentence
    assert distance(found, THEORY) < 0.2


def test_what_the_theory_does_not_speak_of_does_not_apply() -> None:
    def long(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        for _ in range(600):
            loss = functional.mse_loss(model(inputs), targets)
            for parameter, gradient in zip(
                model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
            ):
                parameter.data -= 0.2 * gradient

    def deep() -> nn.Module:
        return nn.Sequential(
            nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)
        )  # fmt: skip

    for build, train, key in (
        (lambda: built(nn.ReLU), early, "multiplicity-one"),
        (deep, early, "two-layers"),
        (built, long, "small"),
        (lambda: built(scale=0.015), early, "grew"),
    ):
        held = trained(build, train, DATA, "mse", torch.float64)
        assert failing(NAME, held)[0] == key


def test_a_network_that_turned_elsewhere_is_not_explained() -> None:
    held = trained(built, early, DATA, "mse", torch.float64)
    module = built().double()
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        for parameter, own in zip(module.parameters(), held.module.parameters(), strict=True):
            drawn = torch.randn(own.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(drawn / drawn.norm() * own.norm())
    assert held.initial is not None
    other = Subject(
        module, train=held.train, test=held.test, loss="mse", initial=held.initial.module,
        trainer=held.trainer,
    )  # fmt: skip
    assert tried(NAME, other)[0].state != "explains"


def test_the_linear_equation_is_solved() -> None:
    """Against small steps of the equation itself."""
    generator = np.random.default_rng(0)
    pull, inner = generator.standard_normal((4, 2)), generator.standard_normal((5, 4))
    outer = generator.standard_normal((5, 2))
    w, a = inner.copy(), outer.copy()
    for _ in range(20_000):
        half = w + 5e-5 * a @ pull.T, a + 5e-5 * w @ pull
        w, a = w + 1e-4 * half[1] @ pull.T, a + 1e-4 * half[0] @ pull
    size = float(np.sqrt((w**2).sum() + (a**2).sum()))
    assert turned(pull, inner, outer, size) == pytest.approx(w, rel=1e-5)
