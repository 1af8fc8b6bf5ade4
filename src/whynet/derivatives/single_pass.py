"""Products with a batch whose graph is not kept: one pass that carries tangents along.

Forward mode carries `J v` along with the outputs z; one reverse pass then gives

- the Gauss-Newton product, from the cotangent `H J v` of z;
- the Hessian product, from `H J v` at z and the slope s of the loss at the tangent `J v`, since
  `H v` is the gradient of `<s, J v>` (reverse over forward; Pearlmutter 1994).

A dense layer costs five matrix products for the first and eight for the second, where a gradient
costs three and reverse over reverse nine. Known operations take tangents along by
`carried_tangents`; not every other one's forward mode can be differentiated, so the plan tries
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from whynet.derivatives.carried_tangents import carrying
from whynet.derivatives.flat import Vector
from whynet.derivatives.objective import Objective
from whynet.derivatives.output_derivatives import OutputDerivatives
from whynet.derivatives.ways import leaves_of, reverse

SinglePass = Callable[[Any, Any, Vector], Vector]
"""Inputs and targets of a batch and a vector to the product."""


def single_pass(objective: Objective, *, gauss_newton: bool) -> SinglePass:
    """Return what multiplies one vector by one batch's matrix in a single pass.

    Args:
        objective: what is differentiated.
        gauss_newton: whether the Gauss-Newton matrix is meant instead of the Hessian.

    """

    def product(inputs: Any, targets: Any, vector: Vector) -> Vector:
        leaves = leaves_of(objective)
        with forward_ad.dual_level(), torch.enable_grad():
            duals = {
                name: forward_ad.make_dual(leaf, tangent)  # type: ignore[no-untyped-call]
                for (name, leaf), tangent in zip(leaves.items(), vector, strict=True)
            }
            with carrying():
                reached = objective.forward(duals, inputs)
            outputs, moved = forward_ad.unpack_dual(reached)  # type: ignore[no-untyped-call]
        if moved is None:
            return tuple(torch.zeros_like(piece) for piece in vector)
        parameters = tuple(leaves.values())
        known = _at(objective, outputs.detach(), targets, sloped=not gauss_newton)
        curved = known.curve(moved.detach())
        if known.slope is None or gauss_newton:
            return reverse((outputs,), parameters, (curved,), retain=False)
        return reverse((outputs, moved), parameters, (curved, known.slope()), retain=False)

    return product


def _at(objective: Objective, outputs: Tensor, targets: Any, *, sloped: bool) -> OutputDerivatives:
    """Return the derivatives of the loss in the outputs, differentiating it where it must be."""
    known = None if objective.derivatives is None else objective.derivatives(outputs, targets)
    if known is not None and (known.slope is not None or not sloped):
        return known
    leaf = outputs.requires_grad_()
    loss = objective.score(leaf, targets)
    (slope,) = torch.autograd.grad(loss, leaf, create_graph=True)
    return OutputDerivatives(lambda w: reverse((slope,), (leaf,), (w,))[0], slope.detach)
