"""What a use of parameters does to their tangents, many at once, and the transpose of that.

With what enters a use held fixed its output is linear in the parameters that it reads. `moved`
takes k changes of the parameters to changes of the output, `collected` takes signals at the output
back. Both are one matrix product for all k. Changes of an output are `[n, T, k, U]`: n rows, T
positions, U units; of a convolution, whose groups count as positions, U holds the image as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from whynet.derivatives.parameter_uses import Reading, Use
from whynet.derivatives.use_gradients import Axis, groups_of

Tangents = Mapping[str, Tensor]
"""Changes of parameters by name, `[k, *shape]`."""


class Link(Protocol):
    """The derivative of a use's output by the parameters that it reads."""

    def moved(self, changes: Tangents) -> Tensor:
        """Return what changes of the parameters do to the output, `[n, T, k, U]`."""

    def collected(self, signals: Tensor) -> dict[str, Tensor]:
        """Return the transposed of signals `[n, T, k, U]`, `[k, *shape]` a parameter."""


@dataclass(frozen=True)
class Dense:
    """A matrix and a bias, applied to what enters, `[n T, features]`.

    Attributes:
        rows: n.
        entering: what enters, all positions of a row next to each other.
        weight: the matrix.
        bias: what is added; None where nothing is.

    """

    rows: int
    entering: Tensor
    weight: Reading
    bias: Reading | None

    def moved(self, changes: Tangents) -> Tensor:
        """Return what changes of the parameters do to the output, `[n, T, k, U]`."""
        matrices = changes[self.weight.name]
        count = len(matrices)
        held = matrices.mT if self.weight.transposed else matrices
        columns = held.reshape(-1, self.entering.shape[1]).T
        if self.bias is None:
            found = self.entering @ columns
            if self.weight.factor != 1.0:
                found *= self.weight.factor
        else:
            added = changes[self.bias.name].reshape(-1)
            found = torch.addmm(
                added, self.entering, columns, beta=self.bias.factor, alpha=self.weight.factor
            )
        return found.reshape(self.rows, -1, count, held.shape[1])

    def collected(self, signals: Tensor) -> dict[str, Tensor]:
        """Return the transposed of signals `[n, T, k, U]`, `[k, *shape]` a parameter."""
        count, units = signals.shape[2:]
        back = signals.reshape(len(self.entering), -1)
        matrices = (back.T @ self.entering).reshape(count, units, -1)
        if self.weight.factor != 1.0:
            matrices *= self.weight.factor
        found = {self.weight.name: matrices.mT if self.weight.transposed else matrices}
        if self.bias is not None:
            found[self.bias.name] = back.sum(0).reshape(count, units) * self.bias.factor
        return found


@dataclass(frozen=True)
class Convolution:
    """A convolution of images, several of which may belong to a row.

    Attributes:
        rows: n.
        times: images of a row.
        entering: `[n times, channels, ...]`.
        sides: of what leaves.
        weight: its kernel.
        bias: what is added; None where nothing is.
        settings: stride, padding and dilation a side, and groups.

    """

    rows: int
    times: int
    entering: Tensor
    sides: tuple[int, ...]
    weight: Reading
    bias: Reading | None
    settings: tuple[tuple[int, ...], ...]

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return self.settings[3][0]

    def moved(self, changes: Tangents) -> Tensor:
        """Return what changes of the parameters do to the output, `[n, T, k, U]`."""
        kernels = changes[self.weight.name]
        biases = None if self.bias is None else self._grouped(changes[self.bias.name])
        stride, padding, dilation = (list(sides) for sides in self.settings[:3])
        found = torch.convolution(
            self.entering,
            self._grouped(kernels),
            biases,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            self.groups,
        )
        return found.reshape(self.rows, self.times * self.groups, len(kernels), -1)

    def collected(self, signals: Tensor) -> dict[str, Tensor]:
        """Return the transposed of signals `[n, T, k, U]`, `[k, *shape]` a parameter."""
        count = signals.shape[2]
        back = signals.reshape(len(self.entering), -1, *self.sides)
        shape = self.weight.tensor.shape
        stride, padding, dilation = (list(sides) for sides in self.settings[:3])
        kernels = torch.ops.aten.convolution_backward(
            back,
            self.entering,
            back.new_empty(()).expand(count * shape[0], *shape[1:]),
            None,
            stride,
            padding,
            dilation,
            False,
            [0] * len(stride),
            self.groups,
            [False, True, False],
        )[1]
        found = {self.weight.name: self._apart(kernels, count)}
        if self.bias is not None:
            summed = back.flatten(2).sum((0, 2))
            found[self.bias.name] = self._apart(summed, count)
        return found

    def _grouped(self, changes: Tensor) -> Tensor:
        """Join `[k, units, ...]` to the units of one convolution, group by group."""
        count, units, *rest = changes.shape
        shaped = changes.reshape(count, self.groups, units // self.groups, *rest)
        return shaped.transpose(0, 1).reshape(count * units, *rest)

    def _apart(self, joined: Tensor, count: int) -> Tensor:
        """Undo `_grouped`."""
        shaped = joined.reshape(self.groups, count, -1, *joined.shape[1:])
        return shaped.transpose(0, 1).reshape(count, -1, *joined.shape[1:])


@dataclass(frozen=True)
class Table:
    """Rows that are looked up.

    Attributes:
        tokens: `[n, T]`, which rows.
        weight: the table.
        held: `[n, T]`, which tokens take part in gradients; None where all do.

    """

    tokens: Tensor
    weight: Reading
    held: Tensor | None

    def moved(self, changes: Tangents) -> Tensor:
        """Return what changes of the parameters do to the output, `[n, T, k, U]`."""
        found = changes[self.weight.name].transpose(0, 1)[self.tokens] * self.weight.factor
        return found if self.held is None else found * self.held[..., None, None]

    def collected(self, signals: Tensor) -> dict[str, Tensor]:
        """Return the transposed of signals `[n, T, k, U]`, `[k, *shape]` a parameter."""
        back = signals * self.weight.factor
        if self.held is not None:
            back = back * self.held[..., None, None]
        total = back.new_zeros(len(self.weight.tensor), *back.shape[2:])
        total.index_add_(0, self.tokens.flatten(), back.flatten(0, 1))
        return {self.weight.name: total.transpose(0, 1)}


def link_of(use: Use, axis: Axis, rows: int) -> Link:
    """Return the derivative of a use of a matrix, a kernel or a table on some rows."""
    weight, entering = use.weight, use.entering
    assert weight is not None and entering is not None
    if use.kind == "convolution":
        sides = tuple(use.leaving.shape[2:])
        return Convolution(rows, axis.times, entering, sides, weight, use.bias, use.settings)
    moved = entering.movedim(axis.place, 0)
    if use.kind == "dense":
        return Dense(rows, moved.reshape(-1, moved.shape[-1]), weight, use.bias)
    tokens = moved.reshape(rows, -1)
    held = tokens != use.settings[0][0] if use.settings else None
    return Table(tokens, weight, held)


def shaped(back: Tensor, use: Use, axis: Axis, rows: int) -> Tensor:
    """Bring what comes back to a use from one output to `[n, T, U]`."""
    moved = back.movedim(axis.place, 0)
    if use.kind == "convolution":
        return moved.reshape(rows, axis.times * groups_of(use), -1)
    return moved.reshape(rows, -1, moved.shape[-1])
