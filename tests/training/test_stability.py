"""Stability limits against real optimizers of PyTorch on a quadratic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.training.stability import Stability, adam_limit, gradient_limit, stability_of

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (torch.optim.SGD, {"lr": 0.1}),
    "decay": (torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.7}),
    "heavy ball": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "dampened": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "Nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True}),
    "Adam": (torch.optim.Adam, {"lr": 0.1, "eps": 1.0}),
    "Adam, other beta": (torch.optim.Adam, {"lr": 0.1, "eps": 0.5, "betas": (0.5, 0.99)}),
    "Adam, decay": (torch.optim.Adam, {"lr": 0.1, "eps": 1.0, "weight_decay": 30.0}),
    "AMSGrad": (torch.optim.Adam, {"lr": 0.1, "eps": 1.0, "amsgrad": True}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.1, "eps": 1.0, "weight_decay": 8.0}),
}


def grows(kind: Any, settings: dict[str, Any], curvature: float, start: float) -> bool:
    """Whether 300 steps on curvature/2 x^2 from `start` end further away than after 150."""
    x = torch.tensor([start], dtype=torch.float64, requires_grad=True)
    optimizer = kind([x], **settings)
    sizes = []
    for _ in range(300):
        optimizer.zero_grad()
        (curvature / 2 * x.square().sum()).backward()
        optimizer.step()
        sizes.append(abs(float(x.detach())))
    return max(sizes[-50:]) > max(sizes[100:150])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_grow_just_beyond_the_limit_and_shrink_just_below(name: str) -> None:
    kind, settings = OPTIMIZERS[name]
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = kind([x], **settings)
    # So small that the second moments of Adam stay far below its eps, and P stands still.
    start = 1e-300 if kind is torch.optim.SGD else 1e-140
    if kind is not torch.optim.SGD:
        x.grad = torch.full_like(x, start)
        for _ in range(1000):
            optimizer.step()
    found = stability_of(optimizer, {"x": x})
    assert isinstance(found, Stability)
    limit = 1 / float(found.scaling["x"]) - found.decay["x"]
    assert not grows(kind, settings, 0.99 * limit, start)
    assert grows(kind, settings, 1.01 * limit, start)


def test_limits_of_the_literature() -> None:
    assert gradient_limit(0.1) == pytest.approx(2 / 0.1)
    assert gradient_limit(0.1, 0.9) == pytest.approx(2 * 1.9 / 0.1)
    assert gradient_limit(0.1, 0.9, nesterov=True) == pytest.approx(3.8 / (2.8 * 0.1))
    assert adam_limit(1e-3) == pytest.approx(38 / 1e-3)
    assert adam_limit(1e-3, 0.5) == pytest.approx(6 / 1e-3)


def parameters(*names: str) -> dict[str, Tensor]:
    return {name: torch.ones(2, requires_grad=True) for name in names}


def test_groups_have_limits_of_their_own() -> None:
    held = parameters("a", "b", "c")
    groups = [{"params": [held["a"]], "lr": 0.1}, {"params": [held["b"]], "weight_decay": 0.5}]
    found = stability_of(torch.optim.SGD(groups, lr=0.4), held)
    assert isinstance(found, Stability)
    assert found.scaling["a"].tolist() == pytest.approx([1 / 20] * 2)
    assert found.scaling["b"].tolist() == pytest.approx([1 / 5] * 2)
    assert found.scaling["c"].tolist() == [0, 0]  # not moved at all
    assert (found.decay["a"], found.decay["b"]) == (0, 0.5)
    assert math.isnan(found.limit)
    assert math.isnan(found.learning_rate)
    assert not found.plain


def test_one_group_is_plain() -> None:
    held = parameters("a")
    found = stability_of(torch.optim.SGD(held.values(), lr=0.4, momentum=0.5), held)
    assert isinstance(found, Stability)
    assert found.plain
    assert (found.limit, found.learning_rate) == (pytest.approx(7.5), 0.4)
    assert found.rule == "heavy-ball momentum"


class Wrapped:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer


def test_wrappers_are_looked_into() -> None:
    held = parameters("a")
    found = stability_of(Wrapped(torch.optim.SGD(held.values(), lr=0.4)), held)
    assert isinstance(found, Stability)


def refusal(optimizer: Any, held: dict[str, Tensor]) -> str:
    found = stability_of(optimizer, held)
    assert isinstance(found, NotApplicable)
    assert found.reason.endswith(".")
    return found.reason


def test_what_has_no_known_limit_says_so() -> None:
    held = parameters("a", "b")
    both = list(held.values())
    assert "No optimizer" in refusal(None, held)
    assert "RMSprop is not known" in refusal(torch.optim.RMSprop(both), held)
    assert "no step yet" in refusal(torch.optim.Adam(both), held)
    assert "step size is 0" in refusal(torch.optim.SGD(both, lr=0.0), held)
    assert "maximizes" in refusal(torch.optim.SGD(both, lr=0.1, maximize=True), held)
    assert "none of" in refusal(torch.optim.SGD(parameters("z").values(), lr=0.1), held)
    groups = [{"params": [both[0]], "momentum": 0.5}, {"params": [both[1]]}]
    assert "differ in momentum" in refusal(torch.optim.SGD(groups, lr=0.1), held)
    heavy = torch.optim.AdamW(both, lr=1.0, weight_decay=3.0)
    both[0].grad = torch.ones(2)
    heavy.step()
    assert "decay is too large" in refusal(heavy, held)
