"""Optimizers for stacked parameters: the update rules of torch.optim, member by member."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from whynet.core.errors import InputError

Rule = Literal["gradient-descent", "sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"]
Stacked = dict[str, Tensor]
"""Parameters by name, each `[members, ...]`."""

State = dict[str, Stacked]
"""What an optimizer remembers: by kind, then by name of the parameter."""

MOMENTS: dict[str, tuple[str, ...]] = {
    "gradient-descent": (),
    "sgd": (),
    "momentum": ("velocity",),
    "nesterov": ("velocity",),
    "rmsprop": ("square",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
}


@dataclass(frozen=True)
class Optimization:
    """An optimizer and its settings; numbers, or tensors `[members]` where members differ.

    Attributes:
        rule: `gradient-descent` (every step on all data), `sgd`, `momentum`, `nesterov`,
            `rmsprop`, `adam` (weight decay added to the gradient) or `adamw` (decoupled), each
            as in `torch.optim`.
        learning_rate: step size.
        weight_decay: coefficient.
        momentum: of `momentum` and `nesterov`.
        betas: decay of the averages of `adam` and `adamw`.
        smoothing: decay of the average of squares of `rmsprop`.
        epsilon: added to the root of the average of squares.

    Raises:
        InputError: a setting out of its range.

    """

    rule: Rule
    learning_rate: float | Tensor
    weight_decay: float | Tensor = 0.0
    momentum: float | Tensor = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    smoothing: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise InputError("rule", repr(self.rule), "one of " + ", ".join(get_args(Rule)))
        _check("learning_rate", self.learning_rate, "finite numbers above 0", open_below=True)
        _check("weight_decay", self.weight_decay, "finite numbers of at least 0")
        _check("momentum", self.momentum, "numbers from 0 to below 1", below=1.0)
        for name, value in (("betas", self.betas[0]), ("betas", self.betas[1])):
            _check(name, value, "two numbers from 0 to below 1", below=1.0)
        _check("smoothing", self.smoothing, "a number from 0 to below 1", below=1.0)
        _check("epsilon", self.epsilon, "a finite number of at least 0")

    @property
    def decays(self) -> bool:
        """Whether any member has weight decay."""
        return bool(torch.as_tensor(self.weight_decay).any())

    def settings(self, parameters: Mapping[str, Tensor]) -> Stacked:
        """Return learning rate, weight decay and momentum as tensors `[members]`.

        Raises:
            InputError: a tensor of another length than the number of members.

        """
        like = next(iter(parameters.values()))
        given = {
            "learning_rate": self.learning_rate,
            "weight_decay": self.weight_decay,
            "momentum": self.momentum,
        }
        return {name: per_member(name, value, like) for name, value in given.items()}

    def start(self, parameters: Mapping[str, Tensor]) -> State:
        """Return the state before the first step: zeros."""
        return {
            kind: {name: torch.zeros_like(value) for name, value in parameters.items()}
            for kind in MOMENTS[self.rule]
        }

    def corrections(self, step: int) -> tuple[float, float]:
        """Return what divides the mean and the root of the squares in step 1, 2, …"""
        if not self.rule.startswith("adam"):
            return 1.0, 1.0
        first, second = self.betas
        return 1 - first**step, math.sqrt(1 - second**step)

    def update(
        self,
        parameters: Stacked,
        gradients: Stacked,
        state: State,
        settings: Stacked,
        corrections: tuple[Tensor, Tensor],
    ) -> tuple[Stacked, State]:
        """Return parameters and state after one step; nothing is changed in place.

        Args:
            parameters: stacked parameters.
            gradients: of each member's loss.
            state: of `start`, or of the step before.
            settings: of `settings`.
            corrections: those of the step, as tensors without dimensions.

        """
        moved: Stacked = {}
        after: State = {kind: {} for kind in state}
        for name, value in parameters.items():
            own = {key: _broadcast(setting, value) for key, setting in settings.items()}
            before = {kind: state[kind][name] for kind in state}
            moved[name], kept = self._moved(value, gradients[name], before, own, corrections)
            for kind, moment in kept.items():
                after[kind][name] = moment
        return moved, after

    def _moved(
        self,
        value: Tensor,
        gradient: Tensor,
        before: Stacked,
        own: Stacked,
        corrections: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Stacked]:
        rate = own["learning_rate"]
        if self.decays and self.rule == "adamw":
            value = value * (1 - rate * own["weight_decay"])
        elif self.decays:
            gradient = gradient + own["weight_decay"] * value
        if self.rule in ("gradient-descent", "sgd"):
            return value - rate * gradient, {}
        if self.rule in ("momentum", "nesterov"):
            velocity = own["momentum"] * before["velocity"] + gradient
            ahead = gradient + own["momentum"] * velocity if self.rule == "nesterov" else velocity
            return value - rate * ahead, {"velocity": velocity}
        decay = self.smoothing if self.rule == "rmsprop" else self.betas[1]
        square = decay * before["square"] + (1 - decay) * gradient * gradient
        if self.rule == "rmsprop":
            return value - rate * gradient / (square.sqrt() + self.epsilon), {"square": square}
        mean = before["mean"] + (1 - self.betas[0]) * (gradient - before["mean"])
        root = square.sqrt() / corrections[1] + self.epsilon
        return value - (rate / corrections[0]) * (mean / root), {"mean": mean, "square": square}


def per_member(name: str, value: float | Tensor, like: Tensor) -> Tensor:
    """Return a setting as a tensor `[members]` in dtype and device of stacked parameters.

    Raises:
        InputError: a tensor of another shape.

    """
    exact = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    found = exact.detach().to(like.device, like.dtype)
    if found.ndim == 0:
        return found.expand(len(like)).clone()
    if found.shape != (len(like),):
        shape = f"a tensor of shape {tuple(found.shape)}"
        raise InputError(name, shape, f"a number, or one for each of {len(like)} members")
    return found.clone()


def _broadcast(setting: Tensor, value: Tensor) -> Tensor:
    return setting.reshape(-1, *[1] * (value.ndim - 1))


def _check(
    name: str,
    value: float | Tensor,
    wanted: str,
    *,
    below: float = math.inf,
    open_below: bool = False,
) -> None:
    found = torch.as_tensor(value)
    least = (found > 0) if open_below else (found >= 0)
    if not bool((torch.isfinite(found) & least & (found < below)).all()):
        raise InputError(name, f"{value}", wanted)
