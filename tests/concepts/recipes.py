"""Small networks with their recipes, so that field tests can train other seeds of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.concepts.field_testing import State, run_field_test, start
from whynet.concepts.field_testing import about as about_of
from whynet.concepts.field_verdicts import FieldVerdict, judged_field
from whynet.concepts.registry import load_field_test
from whynet.core.field_test import AssumptionFails
from whynet.core.measurement import Measurement
from whynet.models.data.examples import Examples
from whynet.models.retraining import Trainer, Variation
from whynet.models.subject import Subject

Pair = tuple[Tensor, Tensor]
Build = Callable[[], nn.Module]
Train = Callable[[nn.Module, Tensor, Tensor], None]


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def trained(
    build: Build,
    train: Train,
    data: tuple[Pair, Pair],
    loss: str,
    dtype: torch.dtype,
    **changes: Any,
) -> Subject:
    """Train a network by its recipe, and return its subject, which can be trained again."""
    (x, y), test = data
    rows = [(a.to(dtype), b.to(dtype) if b.is_floating_point() else b) for a, b in ((x, y), test)]
    trainer = Trainer(lambda: build().to(dtype), train)
    own = trainer.run(Variation(seed=0), Examples.from_any(rows[0], argument="train"))
    options = {"initial": own.initial_state, "trainer": trainer, **changes}
    return Subject(own.module, train=rows[0], test=rows[1], loss=loss, dtype=dtype, **options)


def descent(
    loss: Any, rate: float, steps: int, optimizer: Any = torch.optim.SGD, **options: Any
) -> Train:
    """Return a recipe: so many full-batch steps."""

    def train(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        held = [p for p in model.parameters() if p.requires_grad]
        steps_of = optimizer(held, lr=rate, **options)
        for _ in range(steps):
            steps_of.zero_grad()
            loss(model(inputs), targets).backward()
            steps_of.step()

    return train


def toward_margin(model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
    """Descend the cross-entropy in steps over its value, which reach large margins soon."""
    precision = inputs.dtype
    model.double()
    held = [p for p in model.parameters() if p.requires_grad]
    for _ in range(6000):
        loss = functional.cross_entropy(model(inputs.double()), targets)
        gradients = torch.autograd.grad(loss, held)
        size = float(loss.detach())
        if size < 1e-28:
            break
        with torch.no_grad():
            for parameter, gradient in zip(held, gradients, strict=True):
                parameter.sub_(0.05 * gradient / size)
    model.to(precision)


def frozen_features(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return random rectified features under a last layer that alone is trained."""
    module = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))
    for parameter in module[0].parameters():
        parameter.requires_grad_(False)
    return module


def wave(rows: int, seed: int) -> Pair:
    """Return rows of three features and a smooth function of them."""
    x = gaussian(rows, 3, seed=seed)
    return x, torch.sin(2 * x[:, :1]) + 0.5 * x[:, 1:2]


def tried(name: str, subject: Subject, seeds: int = 2) -> tuple[FieldVerdict, Measurement]:
    """Run a field test that must apply; returns verdict and measurement."""
    found = run_field_test(name, subject, seeds=seeds)
    assert isinstance(found, Measurement), found
    return judged_field(found, about_of(name)), found


def distance(found: Measurement, prediction: str) -> float:
    return found.estimate("distance", prediction=prediction).value


def failing(name: str, subject: Subject) -> tuple[str, str]:
    """Return key and measured reason of the assumption that fails."""
    found = run_field_test(name, subject)
    assert isinstance(found, AssumptionFails), found
    last = found.checks[-1]
    assert last.status == "not met"
    assert last.key in found.reason
    assert last.found in found.reason
    assert judged_field(found, about_of(name)).state == "not applicable"
    return last.key, last.found


def begun(name: str, subject: Subject) -> State:
    """Return the state of a field test that applies, before any other seed."""
    state = start(load_field_test(name), subject, 0)
    assert isinstance(state, State), state
    return state
