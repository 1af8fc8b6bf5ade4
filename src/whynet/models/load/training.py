"""A user's training function, with the function that builds the network it trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from whynet.core.errors import InputError
from whynet.models.load.environment import user_environment
from whynet.models.load.reference import is_code
from whynet.models.load.user_code import Fetched, explain, fetch
from whynet.models.load.wording import quoted
from whynet.models.retraining import WANTED, Trainer


def load_trainer(
    target: str,
    train_with: str,
    *,
    argument: str = "--train-with",
    announce: Callable[[str], None],
) -> tuple[Trainer, str]:
    """Join the code that builds a network and the code that trains it.

    Args:
        target: `file.py:name` or `package.module:name` of a function or class that builds it.
        train_with: the same of `train(model, inputs, targets)`, see `Trainer`.
        argument: name of the argument `train_with` came from.
        announce: called with `running code from <path>` before any code runs.

    Returns:
        The trainer, and the SHA-256 of the file of `train_with`.

    Raises:
        InputError: `target` is no function that builds a network, or `train_with` none that
            trains it.

    """
    if not is_code(target):
        raise InputError(
            argument,
            f"the network {quoted(target)}, whose code cannot build a fresh one",
            "TARGET as file.py:name or package.module:name",
        )
    building = fetch(target, "TARGET", lambda message: None)
    if isinstance(building.value, nn.Module) or not callable(building.value):
        raise InputError(
            argument,
            f"{building.name}, which is a {type(building.value).__name__}",
            "TARGET to name a function that builds a fresh network, so that it can be trained anew",
        )
    training = fetch(train_with, argument, announce)
    try:
        build, train = _own(building, "TARGET"), _own(training, argument)
        return Trainer(build, train, argument=argument), training.sha256
    except InputError as error:
        raise InputError(argument, error.found, error.wanted) from error


def _own(found: Fetched, argument: str) -> Callable[..., Any]:
    """Run a user's function as its file was run, and say in one sentence where it fails."""
    if isinstance(found.value, nn.Module) or not callable(found.value):
        raise InputError("train", f"{found.name}, a {type(found.value).__name__}", WANTED)

    @functools.wraps(found.value)
    def call(*args: Any, **options: Any) -> Any:
        with user_environment(Path(found.path).parent, reseed=False):
            try:
                return found.value(*args, **options)
            except InputError:
                raise
            except (Exception, SystemExit) as error:  # the user's code may raise anything
                raise explain(error, found.name, found.path, argument) from error

    return call
