"""Built-in subjects by name: listed without importing them, trained on the spot."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from whynet.core.builtin import BuiltIn
from whynet.core.errors import InputError
from whynet.core.metadata import read_metadata
from whynet.core.seeds import seed_from

if TYPE_CHECKING:
    from torch import Tensor, nn

    from whynet.models.retraining import Log, Trainer
    from whynet.training.bundled_data import Pair
    from whynet.training.supervised import Recipe


@dataclass(frozen=True)
class BuiltSubject:
    """A built-in network, trained, with its data.

    Attributes:
        module: the network, in evaluation mode, float32 on the CPU.
        initial_state: its state dict before training.
        train: training inputs and targets.
        test: test inputs and targets; they chose nothing about the network.
        loss: `cross_entropy`, `bce` or `mse`.
        notes: sentences a reader of results must know.
        trainer: how it is built and trained, to train it again.

    """

    module: nn.Module
    initial_state: dict[str, Tensor]
    train: Pair
    test: Pair
    loss: str
    notes: tuple[str, ...]
    trainer: Trainer


class BuiltInModule(Protocol):
    """What a file of `whynet.training.subjects` holds."""

    SUBJECT: BuiltIn
    RECIPE: Recipe

    def data(self) -> tuple[Pair, Pair]:
        """Return training and test data."""

    def build(self, width_factor: float = 1.0) -> nn.Module:
        """Return the network with weights from torch's global generator."""


@cache
def builtins() -> dict[str, BuiltIn]:
    """Return what is known of all built-in subjects, by name; imports neither them nor torch."""
    folder = Path(str(files("whynet.training.subjects")))
    return {
        path.stem.replace("_", "-"): read_metadata(path, "SUBJECT", BuiltIn)
        for path in sorted(folder.glob("*.py"))
        if path.name != "__init__.py"
    }


def builtin_names() -> tuple[str, ...]:
    """Return the names of all built-in subjects, such as `digits-mlp`."""
    return tuple(builtins())


def builtin_module(name: str) -> BuiltInModule:
    """Import the file of a built-in subject.

    Raises:
        InputError: there is no such subject; the sentence names the nearest.

    """
    if name not in builtins():
        near = difflib.get_close_matches(name, builtin_names(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError("subject", repr(name), "one of " + ", ".join(builtin_names()) + hint)
    module = importlib.import_module(f"whynet.training.subjects.{name.replace('-', '_')}")
    return cast(BuiltInModule, module)


def load_builtin(
    name: str,
    progress: Callable[[int, int, float], None] | None = None,
    seed: int = 0,
    module_state: Mapping[str, Tensor] | None = None,
) -> BuiltSubject:
    """Build a subject and train it, or give it weights kept from an earlier run.

    Deterministic given name, seed, machine class and torch build; training runs on one thread,
    whatever the setting. Recipes were chosen by cross-validation within the training rows; the
    split is the same for every seed. Cost: about 1 s, for the transformer about 7 s, on one core.

    Args:
        name: one of `builtin_names()`.
        progress: called after each epoch with epochs done, epochs in total and mean loss.
        seed: of the initial weights and of the order of the rows.
        module_state: a state dict; where it is given, nothing is trained.

    Raises:
        InputError: an unknown name, or a state dict of another network.

    """
    import torch

    from whynet.models.preservation import preserved
    from whynet.training.supervised import seeded

    subject = builtin_module(name)
    with preserved():  # a first import of the data's library may draw random numbers
        training, test = subject.data()
    with seeded(seed_from("builtin", name, "initialization", seed)):
        module = subject.build().to(dtype=torch.float32)
    initial = {key: value.detach().clone() for key, value in module.state_dict().items()}
    if module_state is None:
        _train(name, module, *training, seed=seed, progress=progress)
    else:
        _load(module, module_state, name)
    module.eval()
    return BuiltSubject(
        module,
        initial,
        training,
        test,
        subject.SUBJECT.loss,
        subject.SUBJECT.notes,
        builtin_trainer(name),
    )


def builtin_trainer(name: str) -> Trainer:
    """Return how a built-in subject is built and trained; seed `k` is that of `load_builtin`.

    Raises:
        InputError: there is no such subject.

    """
    from whynet.models.retraining import Trainer

    def train(
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        seed: int,
        learning_rate_factor: float = 1.0,
        steps_factor: float = 1.0,
        log: Log | None = None,
    ) -> None:
        factors = (learning_rate_factor, steps_factor)
        _train(name, model, inputs, targets, seed=seed, factors=factors, log=log)

    return Trainer(builtin_module(name).build, train, label=("builtin", name))


def _train(
    name: str,
    module: nn.Module,
    inputs: Any,
    targets: Any,
    *,
    seed: int,
    factors: tuple[float, float] = (1.0, 1.0),
    progress: Callable[[int, int, float], None] | None = None,
    log: Log | None = None,
) -> None:
    """Train by the recipe of a built-in subject, its step size and length scaled."""
    import torch

    from whynet.models.losses import load_loss
    from whynet.models.preservation import preserved
    from whynet.training.supervised import train

    subject = builtin_module(name)
    recipe = dataclasses.replace(
        subject.RECIPE,
        seed=seed_from("builtin", name, "training", seed),
        learning_rate=subject.RECIPE.learning_rate * factors[0],
        epochs=max(1, round(subject.RECIPE.epochs * factors[1])),
    )
    sums = load_loss(subject.SUBJECT.loss).sums

    def mean_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        total, count = sums(outputs, targets)
        return total / count

    with preserved():
        # Batches this small gain nothing from threads, and weights must not depend on them.
        torch.set_num_threads(1)
        train(module, inputs, targets, mean_loss, recipe, progress=progress, log=log)


def _load(module: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise InputError(
            "module_state",
            lines[min(1, len(lines) - 1)].strip().rstrip("."),
            f"the state dict of the built-in subject {name!r}",
        ) from error
