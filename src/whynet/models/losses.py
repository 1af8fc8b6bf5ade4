"""Losses: what training minimized, as a mean over examples that is never broadcast.

The objective over a split is the sum of `Loss.sums` over its batches, value over count.

- `cross_entropy`: outputs `[N, C]` or `[N, ..., C]`, classes last. Targets are labels of the
  shape without `C`, where -100 is not scored, or probabilities of the shape of the outputs (a
  one-hot row is one). The mean is over scored positions.
- `bce`: binary cross-entropy of logits. Outputs `[N]`, `[N, 1]` or, for several labels, `[N, K]`;
  targets in 0 to 1. The mean is over examples of the mean over an example's `K` labels.
- `mse`: squared error. The mean is over examples of the mean over all entries of an example's
  output: for outputs `[N, K]`, `sum (output - target)^2 / (N K)`.
- a callable `(outputs, targets) -> scalar` that is the mean over the examples of a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from whynet.core.errors import InputError
from whynet.models.load.custom_loss import CustomLoss
from whynet.models.load.reference import is_code
from whynet.models.load.user_code import fetch
from whynet.models.load.wording import quoted, suggestion

Likelihood = Literal["categorical", "bernoulli", "gaussian"]
Task = Literal["classification", "binary classification", "regression", "other"]
Shape = tuple[int, ...]

IGNORED = -100
"""Label of a position that is not scored, as in PyTorch."""


class Rule(Protocol):
    """How a loss is computed and what it asks of outputs and targets."""

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Return the sum over a batch and what it is to be divided by."""

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every example."""

    def check_outputs(self, shape: Shape, argument: str) -> None:
        """Refuse outputs of a shape that this loss has no use for."""

    def check_targets(self, targets: Tensor, shape: Shape, argument: str) -> tuple[str, ...]:
        """Refuse targets that do not go with outputs of a shape; notes on what is adapted."""

    def check(self, outputs: Tensor, targets: Tensor, argument: str, data: str) -> tuple[str, ...]:
        """Refuse a batch whose loss would be wrong or undefined; notes on what is adapted."""


@dataclass(frozen=True)
class Loss:
    """A loss, as everything in whynet uses it.

    Attributes:
        name: `cross_entropy`, `bce`, `mse`, or the name of the user's callable.
        task: what kind of learning it belongs to.
        notes: what a reader must know, full sentences.
        source: path of the file a user's callable came from.
        sha256: SHA-256 of that file.
        likelihood: the model of the targets given the outputs whose negative logarithm it is, up
            to what does not depend on the outputs and a factor; None where it is not known.

    """

    name: str
    task: Task
    notes: tuple[str, ...] = ()
    source: str = ""
    sha256: str = ""
    likelihood: Likelihood | None = None
    _rule: Rule = field(kw_only=True, repr=False)

    @property
    def built_in(self) -> bool:
        """Whether it is one of the losses of this file."""
        return _BUILT_IN.get(self.name) is self

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        """Return the differentiable sum of a batch and its count; the mean is their quotient.

        The count is the number of examples; of scored positions for cross-entropy of labels.
        """
        return self._rule.sums(outputs, targets)

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of every example, `[N]`, differentiable.

        For sequences this is the mean over the scored positions of the row; 0 where it has none.
        """
        return self._rule.per_example(outputs, targets)

    def check(
        self, outputs: Tensor, targets: Tensor, argument: str = "loss", data: str = ""
    ) -> tuple[str, ...]:
        """Check a batch; returns notes on what is adapted.

        Args:
            outputs: the network's.
            targets: as many.
            argument: name of the argument the loss came from.
            data: name of the argument the targets came from; that of the loss where empty.

        Raises:
            InputError: shapes, dtypes or values do not go together, the batch is empty, or a
                user's callable is no mean over examples.

        """
        if outputs.ndim == 0 or len(outputs) == 0 or len(targets) != len(outputs):
            raise InputError(
                data or argument,
                f"outputs of shape {list(outputs.shape)} and targets of {list(targets.shape)}",
                "as many targets as outputs, at least one",
            )
        shape = tuple(outputs.shape)
        self._rule.check_outputs(shape, argument)
        notes = self._rule.check_targets(targets, shape, data or argument)
        return (*notes, *self._rule.check(outputs, targets, argument, data or argument))

    def check_targets(
        self, targets: Tensor, shape: Shape, argument: str = "loss", data: str = ""
    ) -> None:
        """Check targets against the shape of the network's outputs; batch sizes may differ.

        Raises:
            InputError: they do not go together, or values are out of range.

        """
        self._rule.check_outputs(shape, argument)
        self._rule.check_targets(targets, shape, data or argument)

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return class indices: `[N]`, `[N, ...]` for sequences, `[N, K]` for several labels.

        Raises:
            ValueError: the task has no classes.

        """
        if self.task == "classification":
            return outputs.argmax(-1)
        if self.task == "binary classification":
            flat = outputs.squeeze(-1) if outputs.ndim > 1 and outputs.shape[-1] == 1 else outputs
            return (flat > 0).long()
        raise ValueError(f"the loss {self.name!r} of task {self.task!r} predicts no classes")


class _CrossEntropy:
    def _terms(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return losses and weights of all positions, `[N, ...]`."""
        classes = outputs.shape[-1]
        if targets.shape == outputs.shape:
            chances = targets.to(outputs.dtype).reshape(-1, classes)
            flat = functional.cross_entropy(outputs.reshape(-1, classes), chances, reduction="none")
            return flat.reshape(outputs.shape[:-1]), torch.ones_like(outputs[..., 0])
        _require(targets.shape == outputs.shape[:-1], outputs, targets)
        flat = functional.cross_entropy(
            outputs.reshape(-1, classes),
            targets.reshape(-1),
            ignore_index=IGNORED,
            reduction="none",
        )
        return flat.reshape(targets.shape), (targets != IGNORED).to(outputs.dtype)

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        values, _ = self._terms(outputs, targets)
        if targets.shape == outputs.shape:
            return values.sum(), float(values.numel())
        return values.sum(), float((targets != IGNORED).sum())

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        values, weights = self._terms(outputs, targets)
        rows = values.reshape(len(values), -1), weights.reshape(len(values), -1)
        return rows[0].sum(1) / rows[1].sum(1).clamp(min=1)

    def check_outputs(self, shape: Shape, argument: str) -> None:
        if len(shape) < 2 or shape[-1] < 2:
            raise InputError(
                argument,
                f"cross_entropy with outputs of shape {list(shape)}",
                "scores [N, C] of at least 2 classes (bce where there is one logit)",
            )

    def check_targets(self, targets: Tensor, shape: Shape, argument: str) -> tuple[str, ...]:
        if targets.shape[1:] == shape[1:]:
            return _check_probabilities(targets, argument)
        if targets.shape[1:] != shape[1:-1]:
            hint = "; classes are not the last axis" if targets.shape[1:] == shape[2:] else ""
            inner = ", ".join(["N", *map(str, shape[1:-1])])
            raise InputError(
                argument,
                f"targets of shape {list(targets.shape)} for outputs of shape {list(shape)}{hint}",
                f"labels of shape [{inner}] or probabilities of shape [{inner}, {shape[-1]}]",
            )
        if targets.is_floating_point():
            raise InputError(
                argument,
                f"labels of dtype {targets.dtype} for cross_entropy",
                f"integer labels 0 to {shape[-1] - 1}, or probabilities with a column a class",
            )
        scored = targets[targets != IGNORED]
        if scored.numel():
            low, high = int(scored.min()), int(scored.max())
            if low < 0 or high >= shape[-1]:
                raise InputError(
                    argument,
                    f"labels from {low} to {high} for outputs of {shape[-1]} classes",
                    f"labels 0 to {shape[-1] - 1}",
                )
        return ()

    def check(self, outputs: Tensor, targets: Tensor, argument: str, data: str) -> tuple[str, ...]:
        if targets.shape != outputs.shape and bool((targets == IGNORED).all()):
            raise InputError(data, "labels that are all -100 (not scored)", "some scored label")
        return ()


def _check_probabilities(targets: Tensor, argument: str) -> tuple[str, ...]:
    sums = targets.sum(-1, dtype=torch.float64)
    if bool((targets < 0).any()) or bool(((sums - 1).abs() > 1e-3).any()):
        worst = float(sums[(sums - 1).abs().argmax()] if sums.ndim == 1 else sums.max())
        raise InputError(
            argument,
            f"targets of the shape of the outputs, from {float(targets.min()):.3g} and with a "
            f"row that sums to {worst:.3g}",
            "probabilities that sum to 1 in each row, or integer labels",
        )
    return ()


@dataclass(frozen=True)
class _Elementwise:
    """A loss of equal shapes: the mean over examples of the mean over an example's entries."""

    name: str
    values: Callable[[Tensor, Tensor], Tensor]
    unit_targets: bool

    def per_example(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require(_same_entries(tuple(targets.shape), tuple(outputs.shape)), outputs, targets)
        shaped = targets.to(outputs.dtype).reshape(outputs.shape)
        return self.values(outputs, shaped).reshape(len(outputs), -1).mean(1)

    def sums(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, float]:
        return self.per_example(outputs, targets).sum(), float(len(outputs))

    def check_outputs(self, shape: Shape, argument: str) -> None:
        return

    def check_targets(self, targets: Tensor, shape: Shape, argument: str) -> tuple[str, ...]:
        if not _same_entries((0, *targets.shape[1:]), (0, *shape[1:])):
            raise InputError(
                argument,
                f"targets of shape {list(targets.shape)} for outputs of shape {list(shape)}",
                f"one target an output entry for {self.name} (they are never broadcast)",
            )
        low, high = float(targets.min()), float(targets.max())
        if self.unit_targets and (low < 0 or high > 1):
            raise InputError(
                argument,
                f"targets from {low:.3g} to {high:.3g} for {self.name}",
                "targets from 0 to 1",
            )
        if targets.shape[1:] == shape[1:]:
            return ()
        return (
            f"Targets of row shape {list(targets.shape[1:])} are read as {list(shape[1:])}, the "
            "shape of the outputs.",
        )

    def check(self, outputs: Tensor, targets: Tensor, argument: str, data: str) -> tuple[str, ...]:
        return ()


def _squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


def _logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")


def _same_entries(targets: Shape, outputs: Shape) -> bool:
    """Whether shapes are equal, up to a last axis of one entry on a plain row of numbers."""
    if targets == outputs:
        return True
    short, long = sorted((targets, outputs), key=len)
    return len(short) == 1 and long == (*short, 1)


def _require(fits: bool, outputs: Tensor, targets: Tensor) -> None:
    if not fits:
        raise InputError(
            "loss",
            f"targets of shape {list(targets.shape)} for outputs of shape {list(outputs.shape)}",
            "shapes that go together (they are never broadcast)",
        )


_BCE = _Elementwise("bce", _logistic, unit_targets=True)
_MSE = _Elementwise("mse", _squared_error, unit_targets=False)
_CE = _CrossEntropy()

_BUILT_IN: dict[str, Loss] = {
    "cross_entropy": Loss("cross_entropy", "classification", likelihood="categorical", _rule=_CE),
    "bce": Loss("bce", "binary classification", likelihood="bernoulli", _rule=_BCE),
    "mse": Loss("mse", "regression", likelihood="gaussian", _rule=_MSE),
}


def load_loss(
    reference: str | Callable[[Tensor, Tensor], Tensor] | Loss,
    announce: Callable[[str], None] | None = None,
    argument: str = "loss",
) -> Loss:
    """Return the loss a reference names.

    Args:
        reference: `cross_entropy`, `bce`, `mse`, `file.py:name`, a callable
            `(outputs, targets) -> mean loss` (PyTorch's own are recognized), or a `Loss`. A
            callable may carry an attribute `task` with one of the names of `Loss.task`.
        announce: called with `running code from <path>` before a user's code runs; without it,
            references to code are refused.
        argument: name of the argument the reference came from.

    Raises:
        InputError: there is no such loss.

    """
    if isinstance(reference, Loss):
        return reference
    if not isinstance(reference, str):
        return _from_callable(reference, argument)
    if reference in _BUILT_IN:
        return _BUILT_IN[reference]
    if not is_code(reference):
        hint = suggestion(reference, _BUILT_IN)
        names = ", ".join(_BUILT_IN)
        raise InputError(argument, f"{quoted(reference)}{hint}", f"one of {names} or file.py:name")
    if announce is None:
        raise InputError(argument, f"the code {quoted(reference)}", "the callable itself")
    found = fetch(reference, argument, announce)
    return _from_callable(found.value, argument, found.path, found.sha256, found.name)


def _from_callable(
    function: Any, argument: str, path: Path | None = None, sha256: str = "", label: str = ""
) -> Loss:
    if isinstance(function, Loss):
        return function
    known = _recognized(function)
    if known is not None:
        return known
    if isinstance(function, type) or not callable(function):
        kind = "a class" if isinstance(function, type) else f"a {type(function).__name__}"
        raise InputError(
            argument,
            f"{label or quoted(function)}, {kind}",
            "a function (outputs, targets) that returns the mean loss over the examples",
        )
    task: Any = getattr(function, "task", "other")
    if isinstance(function, nn.CrossEntropyLoss):
        task = "classification"
    if task not in get_args(Task):
        raise InputError(
            argument, f"the task {quoted(task)}", f"one of {', '.join(get_args(Task))}"
        )
    name = getattr(function, "__name__", type(function).__name__)
    source = "" if path is None else str(path)
    # Smoothed labels are targets like any others: the model of the outputs stays the same.
    smoothed = isinstance(function, nn.CrossEntropyLoss) and function.weight is None
    model: Likelihood | None = "categorical" if smoothed else None
    return Loss(name, task, (), source, sha256, model, _rule=CustomLoss(function, name, path))


def _recognized(function: Any) -> Loss | None:
    """Return the built-in that a loss of PyTorch with its default settings is."""
    functions = {
        functional.cross_entropy: "cross_entropy",
        functional.binary_cross_entropy_with_logits: "bce",
        functional.mse_loss: "mse",
    }
    modules = {nn.CrossEntropyLoss: "cross_entropy", nn.BCEWithLogitsLoss: "bce", nn.MSELoss: "mse"}
    plain = {"weight": None, "pos_weight": None, "reduction": "mean", "label_smoothing": 0.0}
    if type(function) in modules:
        held = all(getattr(function, key, value) == value for key, value in plain.items())
        same = held and getattr(function, "ignore_index", IGNORED) == IGNORED
        return _BUILT_IN[modules[type(function)]] if same else None
    try:
        name = functions.get(function)
    except TypeError:
        return None
    return None if name is None else _BUILT_IN[name]
