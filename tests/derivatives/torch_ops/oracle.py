"""Second derivatives from values of the loss alone: no autograd anywhere."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from whynet.derivatives.flat import Layout
from whynet.derivatives.objective import Objective

STEPS = (1e-4, 1e-5)
"""A difference across a kink is taken again with the shorter step."""

Value = Callable[[Tensor], Tensor]


def bilinear(value: Value, u: Tensor, v: Tensor, h: float) -> Tensor:
    """`u^T H v` of a function of a step, by polarized second central differences."""

    def along(w: Tensor) -> Tensor:
        return (value(h * w) - 2 * value(0 * w) + value(-h * w)) / h**2

    return (along(u + v) - along(u - v)) / 4


def moved(wide: Objective, step: Tensor) -> dict[str, Tensor]:
    """The parameters moved by a flat step."""
    layout = Layout.of(wide.parameters)
    pieces = layout.unflatten(layout.flatten(tuple(wide.parameters.values())) + step)
    return dict(zip(wide.parameters, pieces, strict=True))


def hessian_form(wide: Objective, u: Tensor, v: Tensor, h: float) -> float:
    """`u^T H v` of the mean loss."""

    def value(step: Tensor) -> Tensor:
        at = moved(wide, step)
        return sum(wide.loss(at, x, y) for x, y in wide.batches()) / wide.count

    with torch.no_grad():
        return float(bilinear(value, u, v, h))


def gauss_newton_form(wide: Objective, u: Tensor, v: Tensor, h: float) -> float:
    """`u^T G v` on one batch: output tangents by differences, then the loss of the outputs."""
    inputs, targets = next(iter(wide.batches()))

    def outputs(step: Tensor) -> Tensor:
        return wide.forward(moved(wide, step), inputs)

    def value(step: Tensor) -> Tensor:
        return wide.score(outputs(0 * u) + step, targets) / wide.count

    with torch.no_grad():
        tangents = [(outputs(h * w) - outputs(-h * w)) / (2 * h) for w in (u, v)]
        return float(bilinear(value, *tangents, h))
