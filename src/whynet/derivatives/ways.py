"""Three ways to a Hessian-vector product of the summed loss of one batch.

Each `prepare_*` does once what all products of a batch share and returns a `BatchProduct`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from whynet.derivatives.differences import (
    GRADIENT_SLOPE,
    central_difference,
    precision,
    step_length,
)
from whynet.derivatives.flat import Vector
from whynet.derivatives.objective import Objective, widen
from whynet.derivatives.rewritten_operations import rewritten

Way = Literal["reverse-over-reverse", "forward-over-reverse", "finite-differences"]

WAYS: tuple[Way, ...] = ("reverse-over-reverse", "forward-over-reverse", "finite-differences")


@dataclass(frozen=True)
class BatchProduct:
    """Products with one batch's share of a matrix.

    Attributes:
        one: vector to product, one tensor per parameter.
        many: k vectors at once, stacked on the first axis of each tensor; None where the way
            cannot be vectorized.
        most: vectors that may be taken at once, where the way knows; None leaves it to the caller.

    """

    one: Callable[[Vector], Vector]
    many: Callable[[Vector], Vector] | None
    most: int | None = None


Prepare = Callable[[Any, Any], BatchProduct]
"""Inputs and targets of a batch to its products."""


def leaves_of(objective: Objective) -> dict[str, Tensor]:
    """Return the parameters as fresh leaves that share memory with them and require gradients."""
    return {n: p.detach().requires_grad_() for n, p in objective.parameters.items()}


def reverse(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    *,
    create_graph: bool = False,
    batched: bool = False,
    retain: bool = True,
) -> Vector:
    """Pull cotangents back through a graph; zeros where nothing depends.

    Args:
        outputs: ends of the graph; those that depend on no parameter are left out.
        inputs: leaves.
        cotangents: one for each output, with a leading axis where `batched`.
        create_graph: whether the result can be differentiated again.
        batched: whether many cotangents are pulled back at once.
        retain: whether the graph is kept.

    """
    live = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    lead = cotangents[0].shape[:1] if batched else ()
    if not live:
        return tuple(i.new_zeros((*lead, *i.shape)) for i in inputs)
    found = torch.autograd.grad(
        [output for output, _ in live],
        list(inputs),
        [cotangent for _, cotangent in live],
        retain_graph=retain,
        create_graph=create_graph,
        allow_unused=True,
        is_grads_batched=batched,
    )
    return tuple(
        i.new_zeros((*lead, *i.shape)) if g is None else (g.to_dense() if g.is_sparse else g)
        for i, g in zip(inputs, found, strict=True)
    )


def loss_gradient(
    objective: Objective, parameters: Vector, inputs: Any, targets: Any, *, keep: bool = False
) -> tuple[Tensor, Vector, Vector]:
    """Return loss, leaves and gradient of one batch by plain reverse mode.

    Args:
        objective: what is differentiated.
        parameters: where, in parameter order.
        inputs: of the batch.
        targets: of the batch.
        keep: whether the gradient can be differentiated again.

    Sparse gradients (of an `Embedding`) are made dense.

    Raises:
        RuntimeError: the loss hangs on no parameter, or an operation has no derivative.

    """
    leaves = tuple(p.detach().requires_grad_() for p in parameters)
    loss = objective.loss(dict(zip(objective.parameters, leaves, strict=True)), inputs, targets)
    found = torch.autograd.grad(loss, leaves, create_graph=keep, allow_unused=True)
    gradient = tuple(
        torch.zeros_like(p) if g is None else (g.to_dense() if g.is_sparse else g)
        for p, g in zip(leaves, found, strict=True)
    )
    return loss, leaves, gradient


def prepare_reverse_over_reverse(objective: Objective, inputs: Any, targets: Any) -> BatchProduct:
    """Differentiate the gradient's graph in reverse (Pearlmutter 1994, in reverse mode).

    A gradient that hangs on no parameter (a loss linear in them) gives zeros.

    Cost: about one gradient to prepare, one to two per product; memory: the graphs of loss and
    gradient of the batch.

    """
    with rewritten():
        leaves, gradient = _differentiable_gradient(objective, inputs, targets)

    def one(vector: Vector) -> Vector:
        return reverse(gradient, leaves, vector)

    def many(vectors: Vector) -> Vector:
        return reverse(gradient, leaves, vectors, batched=True)

    return BatchProduct(one, many)


def _differentiable_gradient(
    objective: Objective, inputs: Any, targets: Any
) -> tuple[Vector, Vector]:
    """Return leaves and gradient of one batch, to be differentiated once more in reverse."""
    if objective.derivatives is not None:
        leaves = leaves_of(objective)
        outputs = objective.forward(leaves, inputs)
        known = objective.derivatives(outputs.detach(), targets)
        if known.slope is not None:
            slope: Tensor = _Slope.apply(outputs, known.slope, known.curve)  # type: ignore[no-untyped-call]
            parameters = tuple(leaves.values())
            return parameters, reverse((outputs,), parameters, (slope,), create_graph=True)
    point = tuple(objective.parameters.values())
    return loss_gradient(objective, point, inputs, targets, keep=True)[1:]


class _Slope(torch.autograd.Function):
    """The gradient of a loss in the outputs, whose derivative is known in closed form."""

    @staticmethod
    def forward(
        ctx: Any,
        outputs: Tensor,
        slope: Callable[[], Tensor],
        curve: Callable[[Tensor], Tensor],
    ) -> Tensor:
        ctx.curve = curve
        return slope()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.curve(cotangents[0]), None, None


def prepare_forward_over_reverse(objective: Objective, inputs: Any, targets: Any) -> BatchProduct:
    """Differentiate the gradient in forward mode (Pearlmutter 1994).

    Cost: two to five gradients per product, none to prepare; memory: twice a gradient's.

    """
    names = tuple(objective.parameters)
    parameters = tuple(objective.parameters.values())

    def loss(values: Vector) -> Tensor:
        return objective.loss(dict(zip(names, values, strict=True)), inputs, targets)

    gradient = grad(loss)

    def one(vector: Vector) -> Vector:
        tangent: Vector = jvp(gradient, (parameters,), (vector,))[1]
        return tangent

    return BatchProduct(one, vmap(one))


def prepare_finite_differences(wide: Objective, inputs: Any, targets: Any) -> BatchProduct:
    """Central differences of the gradient in float64.

    Args:
        wide: the objective in float64 (`Objective.wide`).
        inputs: of the batch, in any precision.
        targets: of the batch.

    Cost: two float64 gradients per product, one forward pass to prepare.

    """
    inputs, targets = widen(inputs), widen(targets)
    point = tuple(wide.parameters.values())
    with torch.no_grad():
        epsilon = precision(wide.forward(wide.parameters, inputs))

    def gradient(parameters: Vector) -> Vector:
        return loss_gradient(wide, parameters, inputs, targets)[2]

    def one(vector: Vector) -> Vector:
        step = step_length(point, vector, epsilon, GRADIENT_SLOPE)
        return central_difference(gradient, point, vector, step)

    return BatchProduct(one, None)


def hessian_way(objective: Objective, way: Way) -> Prepare:
    """Return what prepares Hessian products with a batch in the given way."""
    if way == "reverse-over-reverse":
        return lambda inputs, targets: prepare_reverse_over_reverse(objective, inputs, targets)
    if way == "forward-over-reverse":
        return lambda inputs, targets: prepare_forward_over_reverse(objective, inputs, targets)
    wide = objective.wide()
    return lambda inputs, targets: prepare_finite_differences(wide, inputs, targets)
