"""Networks on the straight line between two networks of one form."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.estimate import Estimate
from whynet.models.batch_norm import batch_normalized, recalibrate
from whynet.models.data.examples import Examples
from whynet.models.features import bounded
from whynet.models.scores import correct
from whynet.models.subject import Subject
from whynet.numerics import intervals

POSITIONS = tuple(round(0.1 * k, 1) for k in range(11))
"""Share of the way from this network to the other."""

RESET_ROWS = 2_048
"""Training rows that statistics of batch normalization are reset on."""

ROUNDING = 32
"""Rises below this many units in the last place of the largest loss are none."""


@dataclass(frozen=True)
class Rows:
    """The examples that points of a line are judged on."""

    train: Examples
    test: Examples

    @cached_property
    def reset(self) -> Examples:
        """The training rows that statistics of batch normalization are reset on."""
        return bounded(self.train, RESET_ROWS, "mode-connectivity", "reset")


@dataclass(frozen=True)
class Line:
    """What the networks at `POSITIONS` do.

    Attributes:
        train_loss: `[positions]`, mean loss on the training rows.
        train_error: `[positions]`, share wrong there; None where the task has no classes.
        loss: `[positions, examples]`, loss of every test example.
        right: `[positions, examples]`, share of its labels that are right; None as above.
        precision: distance from 1 to the next number in the dtype the losses were computed in.

    """

    train_loss: np.ndarray
    train_error: np.ndarray | None
    loss: np.ndarray
    right: np.ndarray | None
    precision: float

    @property
    def train_rise(self) -> np.ndarray:
        """How far the training loss lies above the line between its ends, `[positions]`."""
        return _rise(self.train_loss, self.precision)

    @property
    def highest(self) -> int:
        """Number of the inner position where `train_rise` is largest, the middle if none is."""
        inner = self.train_rise[1:-1]
        return 1 + (int(np.argmax(inner)) if inner.any() else len(inner) // 2)

    def rise(self, place: int) -> np.ndarray:
        """How far each test example's loss lies above the line between the ends, `[examples]`."""
        return np.asarray(_rise(self.loss, self.precision)[place])


def _rise(values: np.ndarray, precision: float) -> np.ndarray:
    # In this order equal ends leave exactly nothing.
    share = np.array(POSITIONS).reshape(-1, *[1] * (values.ndim - 1))
    rise = (values - values[0]) - share * (values[-1] - values[0])
    # On a straight line only rounding is left, and where it is largest says nothing.
    largest = np.abs(values).max(0)
    rounded = np.abs(rise) <= ROUNDING * precision * np.where(np.isfinite(largest), largest, 0)
    return np.where(rounded, 0.0, rise)


def along(subject: Subject, other: nn.Module, rows: Rows) -> Line:
    """Run the examples through the networks between a subject's and another of its form.

    All parameters are interpolated; buffers stay this network's, but for the statistics of batch
    normalization, which are reset at every point.

    Args:
        subject: the network at position 0.
        other: the one at position 1, with parameters of the same names and shapes.
        rows: the examples.

    """
    work = subject.replaced(copy.deepcopy(subject.module))
    ours, theirs = dict(subject.module.named_parameters()), dict(other.named_parameters())
    resets = batch_normalized(work.module)
    every: list[tuple[float, float | None, np.ndarray, np.ndarray | None]] = []
    for share in POSITIONS:
        with torch.no_grad():
            for name, parameter in work.module.named_parameters():
                first = ours[name].detach()
                # lerp ends at exactly the other network, however far apart their weights are.
                parameter.copy_(torch.lerp(first, theirs[name].detach().to(first), share))
        if resets:
            recalibrate(work.module, lambda: _batches(work, rows.reset))
        loss, right = _judged(work, rows.train)
        error = None if right is None else 1 - float(right.mean())
        every.append((float(loss.mean()), error, *_judged(work, rows.test)))
    losses, errors, tests, rights = zip(*every, strict=True)
    classes = errors[0] is not None
    return Line(
        np.array(losses),
        np.array(errors) if classes else None,
        np.stack(tests),
        np.stack(rights) if classes else None,
        torch.finfo(subject.dtype).eps,
    )


def _batches(subject: Subject, rows: Examples) -> Iterator[tuple[Any, Tensor]]:
    yield from rows.batches(subject.batch_size, device=subject.device, dtype=subject.dtype)


def _judged(subject: Subject, rows: Examples) -> tuple[np.ndarray, np.ndarray | None]:
    """Return loss and share right of every example."""
    losses, rights = [], []
    classes = "classification" in subject.loss.task
    with torch.no_grad():
        for inputs, targets in _batches(subject, rows):
            outputs = subject.forward(subject.parameters, inputs)
            losses.append(subject.loss.per_example(outputs, targets).double().cpu())
            if classes:
                rights.append(correct(subject.loss, outputs, targets).cpu())
    return torch.cat(losses).numpy(), torch.cat(rights).numpy() if classes else None


def change_of_accuracy(line: Line, first: int, second: int) -> Estimate:
    """Return accuracy at one position minus that at another, paired over test examples."""
    assert line.right is not None
    one, two = line.right[first], line.right[second]
    if np.isin(line.right, (0, 1)).all():
        return intervals.paired_difference_of_proportions(one > 0.5, two > 0.5)
    return intervals.paired_difference(one, two, unit="fraction", over="examples")
