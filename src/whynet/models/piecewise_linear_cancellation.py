"""Values that cancel to zero on paper are zero: round-off must not look like units that switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Operation, Value

_CANCELED = 1e-13
"""Share of the root of the sum of squares of its summands below which a sum is round-off."""


def applied(operation: Operation, inputs: Sequence[Value]) -> Value:
    """Apply an operation to values at points; sums of an affine one that are round-off become 0.

    Where units are linear combinations of others with weights that cancel, a later unit is zero on
    whole cells; its round-off there has random signs, none of which is a wall.

    Cost: a pass of the operation; a second one where some sum is suspiciously small.

    """
    made = operation.apply(inputs)
    # The largest of all inputs bounds the summands at each point, for the price of one point.
    if operation.bends is not None or not _suspicious(
        made, operation.spread([_each(value, _largest_square) for value in inputs])
    ):
        return made
    squares = operation.spread([_each(value, torch.square) for value in inputs])
    if isinstance(made, Tensor):
        return _cleared(made, squares)
    return tuple(_cleared(one, two) for one, two in zip(made, squares, strict=True))


def _suspicious(made: Value, squares: Value) -> bool:
    if not isinstance(made, Tensor):
        return any(_suspicious(one, two) for one, two in zip(made, squares, strict=True))
    least = _CANCELED * squares.sqrt()
    sizes = made.abs()
    if made.numel() == 0 or float(sizes.min()) > float(least.max()):
        return False
    return bool(((sizes <= least) & (sizes > 0)).any())


def _cleared(value: Tensor, square: Tensor) -> Tensor:
    return torch.where(value.square() <= _CANCELED**2 * square, 0.0, value)


def _largest_square(value: Tensor) -> Tensor:
    if value.numel() == 0:
        return value[:1]
    low, high = torch.aminmax(value)
    return torch.maximum(-low, high).square().expand(1, *value.shape[1:])


def _each(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    return change(value) if isinstance(value, Tensor) else tuple(_each(v, change) for v in value)
