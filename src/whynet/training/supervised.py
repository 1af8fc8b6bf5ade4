"""A small supervised training loop: deterministic, and without a trace in the global state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.seeds import seed_from
from whynet.models.preservation import preserved
from whynet.models.retraining import Diverged, Log

Optimizer = Literal["sgd", "adam"]
Progress = Callable[[int, int, float], None]
"""Called after each epoch with epochs done, epochs in total, and the epoch's mean loss."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        optimizer: `sgd` (with momentum) or `adam`.
        learning_rate: step size, constant.
        momentum: of `sgd`, 0 to below 1; `adam` uses its own.
        weight_decay: coefficient; of `sgd` it adds half its square norm to the objective, of
            `adam` it is decoupled (AdamW; Loshchilov and Hutter 2019, arXiv:1711.05101).
        batch_size: largest number of rows of a step; an epoch is cut into equal parts.
        epochs: passes over the data.
        seed: of the order of the rows, and of dropout.

    Raises:
        InputError: a setting out of its range.

    """

    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 64
    epochs: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Optimizer):
            raise InputError("optimizer", repr(self.optimizer), "sgd or adam")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError("learning_rate", repr(self.learning_rate), "a number above 0")
        if not 0 <= self.momentum < 1:
            raise InputError("momentum", repr(self.momentum), "a number from 0 to below 1")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError("weight_decay", repr(self.weight_decay), "a number of at least 0")
        if self.batch_size < 1:
            raise InputError("batch_size", repr(self.batch_size), "at least 1 row")
        if self.epochs < 0:
            raise InputError("epochs", repr(self.epochs), "at least 0 epochs")


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves beside the trained network.

    Attributes:
        initial_state: state dict before the first step, copied.
        losses: mean loss of each epoch over its rows, as seen while training (moving weights,
            training mode, without weight decay).
        steps: number of optimizer steps.
        recipe: how it was trained.

    """

    initial_state: dict[str, Tensor]
    losses: tuple[float, ...]
    steps: int
    recipe: Recipe


def scaled(size: int, factor: float, multiple: int = 1) -> int:
    """Return a width times a factor, rounded to a multiple of at least one.

    >>> scaled(128, 0.5), scaled(24, 0.3, multiple=4)
    (64, 8)
    """
    return multiple * max(1, round(size * factor / multiple))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's generators at `seed`, and restore every global generator afterwards.

    For building networks, whose layers draw their weights from the global generator.
    """
    with preserved():
        torch.manual_seed(seed)
        yield


def train(
    module: nn.Module,
    inputs: Tensor | NDArray[Any],
    targets: Tensor | NDArray[Any],
    loss_function: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    log: Log | None = None,
) -> TrainingResult:
    """Train a network in place, by minibatches in a seeded random order.

    Deterministic given module, data, recipe, torch build and number of threads. Global random
    generators and flags are left as they were, also after an interruption, which propagates;
    the network is left in evaluation mode with the weights it has by then.

    Args:
        module: the network; trained where it is.
        inputs: rows along the first axis, on the network's device and in its dtype.
        targets: one row for each of `inputs`.
        loss_function: `(outputs, targets) -> mean loss`, a scalar.
        recipe: how to train.
        progress: called after each epoch.
        log: called after each step with its number from 1, the step's loss and the optimizer.

    Raises:
        InputError: no rows, or unequal numbers of rows.
        Diverged: the loss became infinite or no number.

    """
    rows, labels = _matched(inputs, targets)
    count = len(rows)
    initial = {name: value.detach().clone() for name, value in module.state_dict().items()}
    losses: list[float] = []
    step = 0
    parts = math.ceil(count / recipe.batch_size)
    order = torch.Generator().manual_seed(seed_from("training", "order", recipe.seed))
    with seeded(seed_from("training", "dropout", recipe.seed)), torch.enable_grad():
        optimizer = _optimizer(module, recipe)
        stepped = optimizer if log is not None else _without_overhead(optimizer)
        module.train()
        try:
            for epoch in range(recipe.epochs):
                mean = 0.0
                for chosen in torch.randperm(count, generator=order).tensor_split(parts):
                    value = _step(module, rows[chosen], labels[chosen], loss_function, stepped)
                    if not math.isfinite(value):
                        raise _diverged(value, epoch, recipe)
                    step += 1
                    if log is not None:
                        about = {"optimizer": optimizer, "batch_size": len(chosen)}
                        log(step, {"loss": value, **about})
                    mean += value * len(chosen) / count
                losses.append(mean)
                if progress is not None:
                    progress(epoch + 1, recipe.epochs, mean)
        finally:
            module.eval()
            module.zero_grad(set_to_none=True)
    return TrainingResult(initial, tuple(losses), recipe.epochs * parts, recipe)


def _matched(inputs: Any, targets: Any) -> tuple[Tensor, Tensor]:
    rows, labels = torch.as_tensor(inputs), torch.as_tensor(targets)
    if len(rows) == 0 or len(labels) != len(rows):
        found = f"{len(labels)} targets for {len(rows)} inputs"
        raise InputError("targets", found, "one target for each row")
    return rows, labels


def _step(
    module: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer | _Momentum,
) -> float:
    """Take one step and return the loss before it; none where that is not finite."""
    loss = loss_function(module(inputs), targets)
    value = loss.item()
    if math.isfinite(value):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(value)


class _Momentum:
    """The steps of `torch.optim.SGD` with momentum, bit for bit, in half its time.

    On networks this small most of an optimizer's time goes into its hooks and profiling.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (self.group,) = optimizer.param_groups
        self.buffers: dict[Tensor, Tensor] = {}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for parameter in self.group["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        decay, momentum, rate = (self.group[key] for key in ("weight_decay", "momentum", "lr"))
        for parameter in self.group["params"]:
            slope = parameter.grad
            if slope is None:
                continue
            if decay:
                slope = slope.add(parameter, alpha=decay)
            if momentum:
                held = self.buffers.get(parameter)
                if held is None:
                    held = self.buffers[parameter] = slope.clone()
                else:
                    held.mul_(momentum).add_(slope)
                slope = held
            parameter.add_(slope, alpha=-rate)


def _without_overhead(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer | _Momentum:
    """Return what takes the same steps; a log would be told of the optimizer itself."""
    return _Momentum(optimizer) if isinstance(optimizer, torch.optim.SGD) else optimizer


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise InputError("module", "no trainable parameter", "at least one to train")
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            trained,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def _diverged(value: float, epoch: int, recipe: Recipe) -> Diverged:
    return Diverged(
        "learning_rate",
        f"{recipe.learning_rate}, at which the loss became {value} in epoch {epoch + 1}",
        "a smaller step size, or inputs and targets of order one",
    )
