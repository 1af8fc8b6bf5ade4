"""One optimizer step of all members: the reference, and the same compiled."""

from __future__ import annotations

import importlib
import os
import shutil
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from whynet.core.errors import InputError
from whynet.training.ensemble_task import Task
from whynet.training.optimizers import Optimization, Stacked, State

Engine = Literal["eager", "compiled"]
ENGINES: Final[tuple[Engine, ...]] = ("eager", "compiled")

KEPT: Final = 16
"""Compiled steps that are remembered in a process."""

_compiled: OrderedDict[Any, Step] = OrderedDict()


@dataclass(frozen=True)
class Members:
    """Where all members are, and which of them still move; tensors `[members, ...]`.

    Attributes:
        parameters: stacked.
        state: of the optimizer.
        running: who still moves.
        converged: who has met the criterion.
        failed: who would have left the finite numbers.
        steps: how many steps each has taken.

    """

    parameters: Stacked
    state: State
    running: Tensor
    converged: Tensor
    failed: Tensor
    steps: Tensor

    def select(self, chosen: Tensor) -> Members:
        """Return some of the members."""
        return Members(
            {name: value[chosen] for name, value in self.parameters.items()},
            {
                kind: {name: value[chosen] for name, value in moments.items()}
                for kind, moments in self.state.items()
            },
            *(part[chosen] for part in (self.running, self.converged, self.failed, self.steps)),
        )


Plain = tuple[Stacked, State, Tensor, Tensor, Tensor, Tensor]
Step = Callable[..., tuple[Plain, Tensor]]
"""`step(plain members, constants, inputs, targets, settings, corrections, bounds)`
returns the members after the step, and the losses before it."""


def make_step(task: Task, optimization: Optimization, own: bool, engine: Engine) -> Step:
    """Return the function that moves all members by one step.

    Args:
        task: what is learned.
        optimization: how.
        own: whether the step is given inputs and targets for each member (minibatches).
        engine: `eager`, or `compiled` with `torch.compile` (needs a C++ compiler on the CPU).

    Raises:
        InputError: an unknown engine, or no C++ compiler.

    """
    if engine not in ENGINES:
        raise InputError("engine", repr(engine), "eager or compiled")
    axes = (0, 0) if own else task.axes
    if engine == "eager":
        return _step(task.forward, task.loss, optimization, axes)
    if task.inputs.device.type == "cpu" and compiler() is None:
        raise InputError("engine", "no C++ compiler to compile with", "g++ or clang++, or eager")
    key = (task.forward, task.loss, axes, _kind(optimization))
    if key in _compiled:
        _compiled.move_to_end(key)
        return _compiled[key]
    function = _step(task.forward, task.loss, optimization, axes)
    # PyTorch counts recompilations by code object; a copy for each step keeps them apart.
    fresh = types.FunctionType(
        function.__code__.replace(),
        function.__globals__,
        "ensemble_step",
        function.__defaults__,
        function.__closure__,
    )
    _import_compiler()
    _compiled[key] = torch.compile(fresh, dynamic=False, fullgraph=True)
    if len(_compiled) > KEPT:
        _compiled.popitem(last=False)
    return _compiled[key]


def compiler() -> str | None:
    """Return the C++ compiler that `torch.compile` would find on the path."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def _import_compiler() -> None:
    """Import PyTorch's compiler, whose own modules warn of what they use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("torch._inductor.compile_fx")


def _kind(optimization: Optimization) -> tuple[Any, ...]:
    """Return what of an optimization is written into the step rather than given to it."""
    kept = (optimization.rule, optimization.decays, optimization.betas)
    return (*kept, optimization.smoothing, optimization.epsilon)


def _step(
    forward: Callable[..., Tensor],
    loss: Callable[..., Tensor],
    optimization: Optimization,
    axes: tuple[int | None, int | None],
) -> Step:
    def single(parameters: Stacked, constants: Stacked, inputs: Tensor, targets: Tensor) -> Tensor:
        return loss(forward({**parameters, **constants}, inputs), targets)

    gradients_and_losses = vmap(grad_and_value(single), in_dims=(0, 0, *axes))

    def step(
        members: Plain,
        constants: Stacked,
        inputs: Tensor,
        targets: Tensor,
        settings: Stacked,
        corrections: tuple[Tensor, Tensor],
        bounds: tuple[Tensor, Tensor],
    ) -> tuple[Plain, Tensor]:
        parameters, state, running, converged, failed, steps = members
        gradients, losses = gradients_and_losses(parameters, constants, inputs, targets)
        moved, state = optimization.update(parameters, gradients, state, settings, corrections)
        arrived = running & torch.isfinite(losses)
        arrived = arrived & ((losses <= bounds[0]) | (losses >= bounds[1]))
        finite = torch.isfinite(losses)
        for value in moved.values():
            largest = value.abs().reshape(len(value), -1).amax(1)  # NaN stays NaN
            finite = finite & (largest <= torch.finfo(value.dtype).max)
        going = running & finite & ~arrived
        parameters = {
            name: torch.where(going.reshape(-1, *[1] * (value.ndim - 1)), value, parameters[name])
            for name, value in moved.items()
        }
        lost = running & ~finite & ~arrived
        after = parameters, state, going, converged | arrived, failed | lost, steps + going
        return after, losses

    return step
