"""Training a network again: other seeds, shuffled labels, fewer rows, another width, step or start.

A `Trainer` joins the user's two functions, the one that builds the network and the one that
trains it. What may be varied is read from the names of their arguments.
"""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.seeds import seed_from
from whynet.models.data.examples import Examples
from whynet.models.preservation import preserved
from whynet.models.starting_weights import rescale

Log = Callable[[int, Mapping[str, Any]], None]
"""Called in a training loop as `log(step, {"loss": …})`."""

FACTORS: Final[dict[str, str]] = {
    "width": "width_factor",
    "learning_rate": "learning_rate_factor",
    "steps": "steps_factor",
}
"""What a variation may scale, to the argument by which `build` (width) or `train` offers it."""

KEPT: Final = 32
"""Trained networks a trainer remembers."""

WANTED: Final = "a function train(model, inputs, targets) that trains the model"


class Diverged(InputError):
    """Training ended in weights or a loss that are not finite."""


@dataclass(frozen=True)
class Variation:
    """How a training run differs from the user's own.

    Attributes:
        seed: of the initial weights and of everything random in training; 1, 2, … are other
            seeds than any the user's network can have come from.
        shuffled: whether the training targets are permuted among the rows, by the seed.
        rows: numbers of the training rows that are used; None for all, in their order.
        width: factor on the widths.
        learning_rate: factor on the step size.
        steps: factor on the length of training.
        start: factor on the weights that the network starts from; gains of normalizations, which
            are no draw, stay.

    """

    seed: int = 1
    shuffled: bool = False
    rows: tuple[int, ...] | None = None
    width: float = 1.0
    learning_rate: float = 1.0
    steps: float = 1.0
    start: float = 1.0


@dataclass(frozen=True)
class Retrained:
    """A network trained again.

    Attributes:
        module: the trained network, in evaluation mode.
        initial_state: its state dict before training, copied.
        train: the data it was trained on.
        seconds: how long building and training took.

    """

    module: nn.Module
    initial_state: dict[str, Tensor]
    train: Examples
    seconds: float


class Trainer:
    """How a network is built and trained, so that it can be trained again.

    Args:
        build: returns a fresh network, with weights from torch's global generator. An argument
            `width_factor` (default 1.0), where it has one, multiplies the widths.
        train: `train(model, inputs, targets)` trains the network in place or returns the trained
            one; inputs and targets are all training rows as tensors (dicts or tuples of tensors
            where inputs are structured). Optional arguments, recognized by name: `seed` (a whole
            number), `learning_rate_factor` and `steps_factor` (multiply the step size and the
            number of steps), `log` (called as `log(step, {"loss": loss, "optimizer": optimizer})`
            after every step).
        label: what seeds of random generators derive from, beside the seed.
        argument: name of the argument `train` came from, for sentences.

    Raises:
        InputError: one of the two is not such a function.

    """

    def __init__(
        self,
        build: Callable[..., nn.Module],
        train: Callable[..., nn.Module | None],
        *,
        label: tuple[str, ...] = ("retraining",),
        argument: str = "train",
    ) -> None:
        if isinstance(build, nn.Module) or not callable(build):
            found = f"a {type(build).__name__}"
            raise InputError("build", found, "a function that returns a fresh network")
        self.build, self.train, self.label, self.argument = build, train, label, argument
        self._build_takes = _arguments(build, "build")
        self._train_takes = _arguments(train, "train")
        _check_positional(train)
        self._kept: dict[Any, Retrained] = {}

    @property
    def varies(self) -> frozenset[str]:
        """What can be scaled: a part of `width`, `learning_rate`, `steps`."""
        named = self._build_takes & {"width_factor"}
        named |= self._train_takes & {"learning_rate_factor", "steps_factor"}
        return frozenset(name for name, argument in FACTORS.items() if argument in named)

    @property
    def logs(self) -> bool:
        """Whether the training loop calls `log`."""
        return "log" in self._train_takes

    def fresh(self, variation: Variation) -> nn.Module:
        """Build the network of a variation, untrained, in training mode.

        Raises:
            InputError: `build` returns no network.

        """
        options = {"width_factor": variation.width} if "width" in self.varies else {}
        with preserved():
            _seed_all(seed_from(*self.label, "initialization", variation.seed))
            module = self.build(**options)
        if not isinstance(module, nn.Module):
            raise InputError(
                "build", f"a function returning {type(module).__name__}", "a torch.nn.Module"
            )
        if variation.start != 1:
            rescale(module, variation.start)
        return module.train()

    def run(
        self,
        variation: Variation,
        data: Examples,
        *,
        device: torch.device | str = "cpu",
        log: Callable[[nn.Module], Log] | None = None,
    ) -> Retrained:
        """Build and train the network of a variation; the same one again from memory.

        Deterministic where the user's functions are, given machine and torch build; global
        random states and flags are left as they were.

        Args:
            variation: how to differ.
            data: the training data of the user's network.
            device: where to train.
            log: makes the function that the training loop is given as `log`, from the network
                about to be trained; needs `logs`. A logged run is never taken from memory.

        Raises:
            InputError: the variation scales what cannot be varied here.
            Diverged: weights are not finite afterwards.

        """
        self._check(variation, log is not None)
        key = (variation, data.sha256, str(device))
        if log is None and key in self._kept:
            return self._kept[key]
        started = time.monotonic()
        module = self.fresh(variation).to(device)
        initial = {name: value.detach().clone() for name, value in module.state_dict().items()}
        used = varied(data, variation)
        inputs, targets = used.take(range(used.count), device=device, dtype=_precision(module))
        options = self._options(variation, None if log is None else log(module))
        with preserved(), torch.enable_grad():
            _seed_all(seed_from(*self.label, "training", variation.seed))
            returned = self.train(module, inputs, targets, **options)
        module = self._checked(module if returned is None else returned, initial)
        module.zero_grad(set_to_none=True)
        result = Retrained(module.eval(), initial, used, time.monotonic() - started)
        if log is None:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = result
        return result

    def _checked(self, trained: Any, initial: Mapping[str, Tensor]) -> nn.Module:
        """Return the trained network after checking that it is one, and the one that was built."""
        name = getattr(self.train, "__name__", "train")
        wanted = "the trained network, or None where it was trained in place"
        if not isinstance(trained, nn.Module):
            found = f"{name}() returning {type(trained).__name__}"
            raise InputError(self.argument, found, wanted)
        state = trained.state_dict()
        if {key: value.shape for key, value in state.items()} != {
            key: value.shape for key, value in initial.items()
        }:
            found = f"{name}() returning a network of other parameters"
            raise InputError(self.argument, found, wanted)
        for key, value in state.items():
            if value.is_floating_point() and not bool(
                (torch.isfinite(value) | (value == initial[key].to(value))).all()
            ):
                found = f"weights that are not finite, {key!r} among them"
                raise Diverged(self.argument, found, "a training run that converges")
        return trained

    def _check(self, variation: Variation, logged: bool) -> None:
        for name, argument in FACTORS.items():
            if getattr(variation, name) != 1 and name not in self.varies:
                owner = "build" if name == "width" else "train"
                raise InputError(
                    owner, f"no argument {argument!r}", f"{owner}(…, {argument}=1.0) to vary it"
                )
        if logged and not self.logs:
            raise InputError("train", "no argument 'log'", "train(…, log=None) to record it")

    def _options(self, variation: Variation, log: Log | None) -> dict[str, Any]:
        options: dict[str, Any] = {
            "seed": variation.seed,
            "learning_rate_factor": variation.learning_rate,
            "steps_factor": variation.steps,
        }
        options = {name: value for name, value in options.items() if name in self._train_takes}
        return options if log is None else options | {"log": log}


def _arguments(function: Any, argument: str) -> frozenset[str]:
    if isinstance(function, nn.Module) or not callable(function):
        wanted = WANTED if argument == "train" else "a function that returns a fresh network"
        raise InputError(argument, f"a {type(function).__name__}", wanted)
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _check_positional(train: Callable[..., Any]) -> None:
    """Refuse a function that three positional arguments and ours by name do not fit."""
    known = {"seed", "log", *FACTORS.values()} & _arguments(train, "train")
    try:
        inspect.signature(train).bind(None, None, None, **dict.fromkeys(known))
    except TypeError as error:
        name = getattr(train, "__name__", "train")
        raise InputError("train", f"{name}{inspect.signature(train)}", WANTED) from error
    except ValueError:  # a callable without a signature
        return


def _seed_all(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the user's code may draw from the global one
    random.seed(seed)


def _precision(module: nn.Module) -> torch.dtype:
    floating = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(floating, torch.float32)


def varied(data: Examples, variation: Variation) -> Examples:
    """Return the rows a variation trains on, their targets shuffled where it says so."""
    used = data if variation.rows is None else data.subset(variation.rows)
    if not variation.shuffled:
        return used
    inputs, targets = used.take(range(used.count))
    order = np.random.default_rng(seed_from("shuffled targets", variation.seed))
    return Examples.from_arrays(inputs, targets[torch.as_tensor(order.permutation(used.count))])
