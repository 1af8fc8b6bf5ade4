"""Products from stored signals of the outputs: where they pay, and of which rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from whynet.derivatives.gauss_newton import (
    BatchJacobian,
    Linear,
    OutputWay,
    gauss_newton_of,
    output_hessian,
)
from whynet.derivatives.objective import Objective
from whynet.derivatives.stored_signals import (
    SignalPlan,
    StoredJacobian,
    plan_signals,
    store_signals,
)
from whynet.derivatives.ways import BatchProduct, Prepare
from whynet.models.fitting_rows import cut, row_count

SUMS = 12
"""What a stored number costs a vector, pushed and pulled, in multiplications of a matrix product:
of width 64 to 192 and 10 outputs 8 to 28 were measured on one core."""

PASSES = 200
"""What a number that leaves a layer costs where a tangent or a signal is carried through the
network, in the passes over memory between the layers: 200 to 330 were measured."""

BLOCK_BYTES = 2**27
"""Memory for what is stored of some rows at once."""

CHANGE_BYTES = 2**26
"""Memory for the changes of a layer's output along the vectors that are taken at once."""


def saving(plan: SignalPlan) -> int:
    """Multiplications that stored signals save a row and vector; negative where they cost more.

    Differentiation takes four matrix products a layer and passes between the layers, stored
    signals two, and two sums over the outputs.
    """
    carried = 4 * plan.products + PASSES * plan.leaving
    return carried - 2 * plan.linked_products - SUMS * plan.outputs * plan.signals


def preparation(plan: SignalPlan) -> int:
    """Multiplications a row that it takes to store them: a pass, and one back an output."""
    return (plan.outputs + 1) * (plan.products + PASSES * plan.leaving)


def first_columns(plan: SignalPlan) -> float:
    """Vectors from which on it pays to store the signals; infinite where it never does."""
    saved = saving(plan)
    return math.inf if saved <= 0 else preparation(plan) / saved


Item = TypeVar("Item")
"""Products with a batch."""


class SignalProducts(Generic[Item]):
    """Products of batches by stored signals.

    Args:
        objective: what is differentiated.
        make: makes products of the Jacobian of some rows and their targets.
        otherwise: makes products with rows on which the network uses its parameters otherwise.

    """

    def __init__(
        self,
        objective: Objective,
        make: Callable[[BatchJacobian, Any], Item],
        otherwise: Callable[[Any, Any], Item],
    ) -> None:
        self._objective = objective
        self._make = make
        self._otherwise = otherwise
        parameter = next(iter(objective.parameters.values()))
        self._width = parameter.element_size()

    def plan(self, inputs: Any) -> SignalPlan | None:
        """Return how signals are stored; None where that cannot be, never pays, or does not fit.

        Args:
            inputs: a batch.

        """
        found = plan_signals(self._objective, inputs)
        if found is None or saving(found) <= 0 or self.bytes_of(found, 1) > BLOCK_BYTES:
            return None
        return found

    def block_rows(self, plan: SignalPlan) -> int:
        """Rows whose signals are stored at once."""
        return max(1, BLOCK_BYTES // max(1, self.bytes_of(plan, 1)))

    def bytes_of(self, plan: SignalPlan, rows: int) -> int:
        """Memory that the signals of some rows take."""
        return rows * plan.numbers * self._width

    def products(self, plan: SignalPlan, inputs: Any, targets: Any) -> Iterator[tuple[int, Item]]:
        """Yield rows and products, block by block of a batch, each stored as it is asked for."""
        count = row_count(inputs)
        rows = self.block_rows(plan)
        for start in range(0, count, rows):
            stop = min(count, start + rows)
            part = cut(inputs, count, start, stop), cut(targets, count, start, stop)
            yield stop - start, self.product(plan, *part)

    def product(self, plan: SignalPlan, inputs: Any, targets: Any) -> Item:
        """Return products with some rows."""
        stored = store_signals(self._objective, plan, inputs)
        if stored is None:
            return self._otherwise(inputs, targets)
        changes = row_count(inputs) * plan.widest * self._width
        return self._make(jacobian_of(stored, max(1, CHANGE_BYTES // max(1, changes))), targets)


def gauss_newton_signals(
    objective: Objective, loss_way: OutputWay, otherwise: Prepare
) -> SignalProducts[BatchProduct]:
    """Return Gauss-Newton products by stored signals.

    Args:
        objective: what is differentiated.
        loss_way: how the loss is differentiated twice with respect to the outputs.
        otherwise: makes products with rows on which the network uses its parameters otherwise.

    """

    def make(jacobian: BatchJacobian, targets: Any) -> BatchProduct:
        curve = output_hessian(objective, None, jacobian.outputs, targets, loss_way)
        if loss_way != "closed-form":
            curve = _one_by_one(curve)
        return replace(gauss_newton_of(jacobian, curve, many=True), most=jacobian.most)

    return SignalProducts(objective, make, otherwise)


def _one_by_one(curve: Linear) -> Linear:
    """Take tangents of the outputs one at a time: their loss may have no rule for many."""

    def each(tangents: Tensor, batched: bool) -> Tensor:
        if not batched:
            return curve(tangents, False)
        return torch.stack([curve(one, False) for one in tangents])

    return each


def jacobian_of(stored: StoredJacobian, most: int) -> BatchJacobian:
    """Return stored signals in the form of the other ways, for at most so many vectors at once."""

    def push(vectors: tuple[Tensor, ...], batched: bool) -> Tensor:
        if batched:
            return stored.push(vectors)
        return stored.push(tuple(v[None] for v in vectors))[0]

    def pull(cotangent: Tensor, batched: bool) -> tuple[Tensor, ...]:
        given = cotangent.to(stored.outputs.dtype)
        if batched:
            return stored.pull(given)
        return tuple(piece[0] for piece in stored.pull(given[None]))

    return BatchJacobian(stored.outputs, push, pull, most)
