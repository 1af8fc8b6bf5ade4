"""A piecewise-linear network around points: the affine map there, and the walls of every unit.

The network is walked once with the point, the tangents of all coordinates and a row of zeros;
operations that do not bend act on tangents by their linear part, the ones that bend by the slope of
the piece the point is in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import (
    Competitors,
    Operation,
    Thresholds,
    Value,
)

_NEAR = 1e-12
"""Share of the largest value of an operation within which a unit is on its wall."""

_CANCELED = 1e-14
"""Share of the sizes of its summands below which a slope is round-off of zero."""


@dataclass(frozen=True)
class LocalBend:
    """The units of one operation that bends, at N points.

    Attributes:
        step: number of the operation in the graph.
        pattern: int64 [N, U]: how many levels each unit is above, or which competitor is the
            largest.
        values: float64 [N, H], affine functions that are at least 0 in the cell of each point and
            0 on its walls. Levels: row `level * U + unit`; competitors: row `unit * K + k`, how
            far the largest is above competitor k.
        gradients: float64 [N, D, H], of these functions in the D input coordinates.
        competing: whether the units are the largest of several values.

    """

    step: int
    pattern: Tensor
    values: Tensor
    gradients: Tensor
    competing: bool


@dataclass(frozen=True)
class LocalMaps:
    """A network at N points.

    Attributes:
        outputs: float64 [N, O], the values there, flattened.
        jacobians: float64 [N, O, D], of the affine map of the cell in the flattened input.
        bends: its units, operation by operation.

    """

    outputs: Tensor
    jacobians: Tensor
    bends: tuple[LocalBend, ...]


@dataclass(frozen=True)
class _Sizes:
    points: int
    inputs: int
    toward: Tensor

    def base(self, value: Tensor) -> Tensor:
        return value[: self.points]

    def tangents(self, value: Tensor) -> Tensor:
        return value[self.points : -1].reshape(self.points, self.inputs, *value.shape[1:])

    def joined(self, base: Tensor, tangents: Tensor) -> Tensor:
        return torch.cat([base, tangents.flatten(0, 1), torch.zeros_like(base[:1])])

    def moving(self, tangents: Tensor) -> Tensor:
        """Return the derivative in the direction in which ties are broken."""
        moved: Tensor = torch.tensordot(tangents, self.toward, dims=([1], [0]))
        return moved


@torch.no_grad()
def local_maps(
    graph: PiecewiseLinearGraph,
    points: Tensor,
    *,
    stop: int | None = None,
    canceled: bool = True,
) -> LocalMaps:
    """Return the affine map of the cell of each point, and the walls of every unit.

    A point on walls is taken to be in that of its cells that a fixed drawn direction leads into;
    such a cell has the point in its closure and points inside.

    Args:
        graph: the network.
        points: float64 [N, *input_shape].
        stop: operation before which to stop; outputs are then those of the value it takes first.
        canceled: whether slopes that cancel on paper are zero; else they may be round-off, which is
            enough where it is known which units bend, and takes half the time.

    Cost: N (D + 1) forward passes in float64, D the number of input coordinates, and the memory
        of their widest operation; all gradients of all units are held.

    """
    count, size = points.shape[0], points[0].numel()
    generator = torch.Generator().manual_seed(0)
    toward = torch.randn(size, generator=generator, dtype=torch.float64)
    sizes = _Sizes(count, size, toward)
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *points.shape[1:])
    tangents = unit.expand(count, *unit.shape)
    alive: dict[int, Value] = {0: sizes.joined(points.double(), tangents)}
    bends: list[LocalBend] = []
    last = graph.output
    for number, step in enumerate(graph.steps):
        if number == stop:
            last = step.inputs[0]
            break
        inputs = [alive[index] for index in step.inputs]
        kind = step.operation.bends
        if kind is None:
            alive[step.output] = _affine(step.operation, inputs, count, canceled)
        elif isinstance(kind, Thresholds):
            alive[step.output], bend = _at_levels(step.operation, kind, inputs[0], sizes, number)
            bends.append(bend)
        else:
            alive[step.output], bend = _largest(step.operation, kind, inputs, sizes, number)
            bends.append(bend)
        for index in step.last_use:
            alive.pop(index, None)
    value = alive[last]
    jacobians = sizes.tangents(value).flatten(2).transpose(1, 2)
    return LocalMaps(sizes.base(value).flatten(1), jacobians, tuple(bends))


def _affine(operation: Operation, inputs: Sequence[Value], count: int, canceled: bool) -> Value:
    """Apply an affine operation to points, and its linear part to tangents."""
    made = operation.apply(inputs)
    made = _each(made, lambda value: torch.cat([value[:count], value[count:] - value[-1:]]))
    if not canceled:
        return made
    squares = operation.spread([_each(value, torch.square) for value in inputs])

    def without_round_off(value: Tensor, square: Tensor) -> Tensor:
        # What cancels exactly on paper leaves round-off, which must not look like a slope.
        slopes = value[count:]
        kept = slopes.square() > _CANCELED**2 * square[count:]
        return torch.cat([value[:count], slopes * kept])

    if isinstance(made, Tensor):
        return without_round_off(made, squares)
    return tuple(without_round_off(one, two) for one, two in zip(made, squares, strict=True))


def _each(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    return change(value) if isinstance(value, Tensor) else tuple(_each(v, change) for v in value)


def _at_levels(
    operation: Operation, bends: Thresholds, value: Tensor, sizes: _Sizes, number: int
) -> tuple[Tensor, LocalBend]:
    """Follow units that bend at levels."""
    made = operation.apply([sizes.base(value)])
    base = sizes.base(value).expand(made.shape)
    tangents = sizes.tangents(value)
    tangents = tangents.expand(*tangents.shape[:2], *made.shape[1:])
    levels = torch.stack(
        [
            torch.broadcast_to(torch.as_tensor(level, dtype=torch.float64), made.shape[1:])
            for level in bends.levels
        ]
    )
    gaps = base[:, None] - levels
    largest = base.flatten(1).abs().amax(1) + levels.abs().max()
    tied = gaps.abs() <= _NEAR * largest.reshape(-1, *[1] * (gaps.dim() - 1))
    above = torch.where(tied, (sizes.moving(tangents) > 0)[:, None], gaps > 0)
    pattern = above.sum(1)
    inner = torch.where(tied.any(1), _inside_piece(levels, pattern), base)
    slopes = _slopes(operation, inner)
    sides = torch.where(above, 1.0, -1.0)
    bend = LocalBend(
        number,
        pattern.flatten(1),
        (sides * gaps).flatten(1),
        (sides[:, None] * tangents[:, :, None]).flatten(2),
        competing=False,
    )
    return sizes.joined(made, slopes[:, None] * tangents), bend


def _inside_piece(levels: Tensor, pattern: Tensor) -> Tensor:
    """Return a number inside the given piece of every unit, [N, ...]."""
    ordered = levels.sort(0).values
    ends = torch.cat([ordered[:1] - 1, ordered, ordered[-1:] + 1])
    middles = (ends[:-1] + ends[1:]) / 2
    return middles.expand(len(pattern), *middles.shape).gather(1, pattern[:, None])[:, 0]


def _slopes(operation: Operation, at: Tensor) -> Tensor:
    """Return the derivative of an elementwise operation."""
    with torch.enable_grad():
        where = at.detach().clone().requires_grad_()
        made = operation.apply([where])
        if not made.requires_grad:
            return torch.zeros_like(at)
        return torch.autograd.grad(made.sum(), where)[0]


def _largest(
    operation: Operation, bends: Competitors, values: Sequence[Value], sizes: _Sizes, number: int
) -> tuple[Tensor, LocalBend]:
    """Follow units that are the largest of several."""
    made = operation.apply([sizes.base(value) for value in values])
    gathered = bends.gather(values)
    gathered = torch.cat([gathered[: sizes.points], (gathered - gathered[-1:])[sizes.points :]])
    base, tangents = sizes.base(gathered), sizes.tangents(gathered)
    near = _NEAR * base.flatten(1).abs().amax(1)[:, None, None]
    tied = base >= base.amax(2, keepdim=True) - near
    moving = torch.where(tied, sizes.moving(tangents), -torch.inf)
    winner = moving.argmax(2)
    own = base.gather(2, winner[:, :, None])
    place = winner[:, None, :, None].expand(*tangents.shape[:3], 1)
    slope = tangents.gather(3, place)
    bend = LocalBend(
        number,
        winner,
        (own - base).flatten(1),
        (slope - tangents).flatten(2),
        competing=True,
    )
    tangents = bends.sign * slope.reshape(sizes.points, sizes.inputs, *made.shape[1:])
    return sizes.joined(made, tangents), bend
