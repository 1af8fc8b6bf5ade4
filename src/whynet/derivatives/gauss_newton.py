"""Gauss-Newton products: the network's Jacobian around the Hessian of the loss in the outputs.

The matrix is `J^T H J` (Schraudolph 2002), with J the derivative of the outputs with respect to
the parameters and H the second derivative of the batch's loss with respect to the outputs. It is
positive semidefinite where the loss is convex in the outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad, jvp, vmap

from whynet.derivatives.differences import (
    GRADIENT_SLOPE,
    VALUE_SLOPE,
    central_difference,
    precision,
    step_length,
)
from whynet.derivatives.flat import Vector
from whynet.derivatives.objective import Objective, widen
from whynet.derivatives.ways import BatchProduct, leaves_of, reverse

JacobianWay = Literal["double-reverse", "forward", "finite-differences"]
OutputWay = Literal["closed-form", "reverse", "forward", "finite-differences"]

JACOBIAN_WAYS: tuple[JacobianWay, ...] = ("double-reverse", "forward", "finite-differences")
OUTPUT_WAYS: tuple[OutputWay, ...] = ("closed-form", "reverse", "forward", "finite-differences")

Linear = Callable[[Tensor, bool], Tensor]


@dataclass(frozen=True)
class GaussNewtonPlan:
    """Which way to Gauss-Newton products is right.

    Attributes:
        way: how the network is differentiated: twice in reverse, in forward mode, or by float64
            differences of its outputs; the last step, `J^T`, is reverse mode in each.
        loss_way: how the loss is differentiated twice with respect to the outputs; in closed form
            where the objective knows it.
        check: relative miss of a random direction against float64 differences.
        vmap: whether many vectors can be taken at once.
        once: whether a single pass (`single_pass`) gives the same for batches that are not kept.
        signals: whether stored signals of the outputs (`stored_signals`) give the same, and pay
            for some number of vectors.

    """

    way: JacobianWay
    loss_way: OutputWay
    check: float
    vmap: bool
    once: bool = False
    signals: bool = False


@dataclass(frozen=True)
class BatchJacobian:
    """The derivative J of one batch's outputs by the parameters.

    Attributes:
        outputs: of the batch, detached.
        push: vector (stacked where the flag is set) to `J v`, of the shape of the outputs.
        pull: cotangent of the outputs (likewise) to `J^T u`, one tensor per parameter.
        most: vectors that may be taken at once, where that is known.

    """

    outputs: Tensor
    push: Callable[[Vector, bool], Tensor]
    pull: Callable[[Tensor, bool], Vector]
    most: int | None = None


def prepare_jacobian(objective: Objective, inputs: Any, way: JacobianWay) -> BatchJacobian:
    """Prepare products with the Jacobian of one batch; arguments as `prepare_gauss_newton`.

    Cost: one forward pass (double-reverse: and one backward pass).

    """
    leaves = leaves_of(objective)
    outputs = objective.forward(leaves, inputs)
    parameters = tuple(leaves.values())

    def pull(cotangent: Tensor, batched: bool) -> Vector:
        return reverse((outputs,), parameters, (cotangent.to(outputs.dtype),), batched=batched)

    push = _push(objective, inputs, parameters, outputs, way)
    return BatchJacobian(outputs.detach(), push, pull)


def prepare_gauss_newton(
    objective: Objective,
    wide: Objective | None,
    inputs: Any,
    targets: Any,
    way: JacobianWay,
    loss_way: OutputWay,
) -> BatchProduct:
    """Prepare Gauss-Newton products with one batch.

    Args:
        objective: what is differentiated.
        wide: the same in float64; needed where one of the ways is finite differences.
        inputs: of the batch.
        targets: of the batch.
        way: how J is applied.
        loss_way: how H is applied.

    Cost: one forward pass to prepare (double-reverse: and one backward pass), about one and a
    half gradients per product. Memory of a product: the tangent of the outputs and what the loss
    makes of it, in closed form two more of that size.

    """
    if way == "finite-differences":
        if wide is None:
            raise ValueError("finite differences need the objective in float64")
        objective, inputs, targets = wide, widen(inputs), widen(targets)
    jacobian = prepare_jacobian(objective, inputs, way)
    curve = output_hessian(objective, wide, jacobian.outputs, targets, loss_way)
    return gauss_newton_of(jacobian, curve, many="finite-differences" not in (way, loss_way))


def gauss_newton_of(jacobian: BatchJacobian, curve: Linear, *, many: bool) -> BatchProduct:
    """Return products with `J^T H J` of one batch.

    Args:
        jacobian: J.
        curve: H.
        many: whether both take many vectors at once.

    """

    def product(vectors: Vector, batched: bool) -> Vector:
        return jacobian.pull(curve(jacobian.push(vectors, batched), batched), batched)

    return BatchProduct(
        lambda vector: product(vector, False),
        (lambda vectors: product(vectors, True)) if many else None,
    )


def _push(
    objective: Objective, inputs: Any, parameters: Vector, outputs: Tensor, way: JacobianWay
) -> Callable[[Vector, bool], Tensor]:
    """Return the map from vectors to `J v`."""
    if way == "double-reverse":
        dummy = torch.zeros_like(outputs).requires_grad_()
        pulled = reverse((outputs,), parameters, (dummy,), create_graph=True)
        return lambda v, batched: reverse(pulled, (dummy,), v, batched=batched)[0]
    names, point = tuple(objective.parameters), tuple(p.detach() for p in parameters)

    def forward(values: Vector) -> Tensor:
        return objective.forward(dict(zip(names, values, strict=True)), inputs)

    if way == "forward":

        def one(vector: Vector) -> Tensor:
            tangent: Tensor = jvp(forward, (point,), (vector,))[1]
            return tangent

        return lambda v, batched: vmap(one)(v) if batched else one(v)

    def difference(vector: Vector, batched: bool) -> Tensor:
        step = step_length(point, vector, precision(outputs), VALUE_SLOPE)
        with torch.no_grad():
            return central_difference(lambda x: (forward(x),), point, vector, step)[0]

    return difference


def output_hessian(
    objective: Objective, wide: Objective | None, outputs: Tensor, targets: Any, way: OutputWay
) -> Linear:
    """Return the map from output tangents w to `H w`."""
    if way == "closed-form":
        if objective.derivatives is None:
            raise ValueError("the loss has no second derivative in closed form")
        curve = objective.derivatives(outputs, targets).curve
        return lambda w, batched: curve(w)
    if way == "reverse":
        leaf = outputs.clone().requires_grad_()
        loss = objective.score(leaf, targets)
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return lambda w, batched: reverse((gradient,), (leaf,), (w,), batched=batched)[0]
    if way == "forward":
        slope = grad(lambda z: objective.score(z, targets))

        def one(tangent: Tensor) -> Tensor:
            curved: Tensor = jvp(slope, (outputs,), (tangent,))[1]
            return curved

        return lambda w, batched: vmap(one)(w) if batched else one(w)
    if wide is None:
        raise ValueError("finite differences need the objective in float64")
    return _output_difference(wide, widen(outputs), widen(targets))


def _output_difference(wide: Objective, outputs: Tensor, targets: Any) -> Linear:
    def gradient(values: Vector) -> Vector:
        leaf = values[0].detach().requires_grad_()
        return torch.autograd.grad(wide.score(leaf, targets), leaf)

    def difference(tangent: Tensor, batched: bool) -> Tensor:
        direction = (widen(tangent),)
        step = step_length((outputs,), direction, precision(outputs), GRADIENT_SLOPE)
        return central_difference(gradient, (outputs,), direction, step)[0]

    return difference
