"""Products of two values, and of what two networks have at them, between planes.

With middles m, n and radii r, s of two numbers, `x y = m y + n x - m n + (x - m) (y - n)`, and the
last part is at most `r s` in size: the plane through the middle, which is the mean of the two of
McCormick (1976, doi:10.1007/BF01580665) on either side. The difference of two networks' products is
`(x + dx) (y + dy) - x y = (x + dx) dy + dx y`, a sum of two such: it is small where the differences
are, and zero where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from whynet.models.difference_lines import Range
from whynet.models.step_graph import Step


def product_back(
    step: Step, ranges: Sequence[Range], own: Tensor, gap: Tensor
) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
    """Carry linear functions of a product back to its factors.

    Args:
        step: a step whose entries are sums of products, with weights above zero, of an entry of
            its first input and one of its second.
        ranges: of the two inputs.
        own: `[functions, points, *output]`, weights of the first network's product.
        gap: the same of what the second network's is more.

    Returns:
        For each input, weights of it and of its difference; and `[functions, points]`, what is
        added to make an upper bound.

    """
    (x, x_size), (moved, moved_size), (dx, dx_size) = (_ball(*ends) for ends in ranges[0].ends)
    (y, y_size), _, (dy, dy_size) = (_ball(*ends) for ends in ranges[1].ends)
    apply = step.operation.apply
    with torch.no_grad():
        at = apply([x, y])
        gap_at = apply([moved, dy]) + apply([dx, y])
        error = apply([x_size, y_size])
        gap_error = apply([moved_size, dy_size]) + apply([dx_size, y_size])
    axes = tuple(range(2, own.ndim))
    constant = (own.abs() * error - own * at).sum(axes)
    constant = constant + (gap.abs() * gap_error - gap * gap_at).sum(axes)
    first, second = _factors_back(apply, x, y, own)
    of_moved, of_dy = _factors_back(apply, moved, dy, gap)
    of_dx, of_y = _factors_back(apply, dx, y, gap)
    parts = ((first + of_moved, of_moved + of_dx), (second + of_y, of_dy))
    made: dict[int, tuple[Tensor, Tensor]] = {}
    for source, (one, two) in zip(step.inputs, parts, strict=True):
        before = made.get(source, (0.0, 0.0))
        made[source] = (before[0] + one, before[1] + two)
    return made, constant


def _ball(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    middle = low + (high - low) / 2
    return middle, torch.maximum(high - middle, middle - low)


def _factors_back(apply: Any, x: Tensor, y: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights of one factor where the other is held, both ways."""
    count, points = weights.shape[:2]
    held_x, held_y = (value.repeat(count, *[1] * (value.ndim - 1)) for value in (x, y))
    flat = weights.flatten(0, 1)
    (first,), _ = transposed(lambda v: apply([v[0], held_y]), [x.shape[1:]], flat)
    (second,), _ = transposed(lambda v: apply([held_x, v[0]]), [y.shape[1:]], flat)
    return first.reshape(count, points, *x.shape[1:]), second.reshape(count, points, *y.shape[1:])


def transposed(
    apply: Any, shapes: Sequence[tuple[int, ...]], weights: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return the transpose of an affine map at weights `[rows, *output]`, and its value at zero."""
    zeros = [
        torch.zeros(len(weights), *shape, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    with torch.enable_grad():
        value = apply(zeros)
    grads = torch.autograd.grad(value, zeros, weights.reshape(value.shape), allow_unused=True)
    found = [
        torch.zeros_like(zero) if grad is None else grad
        for zero, grad in zip(zeros, grads, strict=True)
    ]
    return found, value.detach()
