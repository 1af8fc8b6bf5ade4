"""Central differences of loss, gradient and outputs: slow, and right where autograd is not."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from whynet.derivatives.flat import Vector, norm

Function = Callable[[Vector], Vector]


def shifted(point: Vector, direction: Vector, step: float) -> Vector:
    """Return `point + step * direction`, piece by piece."""
    pairs = zip(point, direction, strict=True)
    return tuple(p + step * v.to(p.dtype) for p, v in pairs)


VALUE_SLOPE = 1 / 3
"""Power of the round-off that is the relative step for the slope of values (classical)."""

VALUE_CURVATURE = 1 / 4
"""The same for second differences of values."""

GRADIENT_SLOPE = 0.4
"""The same for the slope of gradients: shorter than classical, for a kink (ReLU, max) between the
two points adds its jump divided by the step, and crossings grow with the step."""


def step_length(point: Vector, direction: Vector, epsilon: float, power: float) -> float:
    """Return the step of a central difference that balances truncation, kinks and round-off.

    Args:
        point: where the difference is taken; its norm (at least 1) sets the scale.
        direction: along which; the step times its norm is relative to that scale.
        epsilon: relative round-off of the function.
        power: the step relative to the scale is this power of epsilon.

    Returns:
        The step, 0 for a direction of zeros.

    """
    length = norm(direction)
    if length == 0:
        return 0.0
    return float(epsilon**power * max(1.0, norm(point)) / length)


def central_difference(function: Function, point: Vector, direction: Vector, step: float) -> Vector:
    """Derivative of `function` along `direction`: `(f(x + hv) - f(x - hv)) / 2h`.

    Cost: two evaluations.

    """
    if step == 0:
        return tuple(torch.zeros_like(value) for value in function(point))
    above, below = (function(shifted(point, direction, sign * step)) for sign in (1.0, -1.0))
    return tuple((a - b) / (2 * step) for a, b in zip(above, below, strict=True))


def second_difference(
    function: Callable[[Vector], float], point: Vector, direction: Vector, step: float
) -> float:
    """Curvature of a scalar function along `direction`: `(f(x+hv) - 2 f(x) + f(x-hv)) / h^2`."""
    above, below = (function(shifted(point, direction, sign * step)) for sign in (1.0, -1.0))
    return (above - 2 * function(point) + below) / step**2


def precision(outputs: Tensor) -> float:
    """Relative round-off of a tensor's dtype; float64's for integers."""
    kind = outputs.dtype if outputs.dtype.is_floating_point else torch.float64
    return float(torch.finfo(kind).eps)
