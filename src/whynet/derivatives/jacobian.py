"""The Jacobian of the network's outputs on all examples, by its products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.derivatives.chosen_parameters import Pattern, restricted
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.fisher import gauss_newton_way, squares_of
from whynet.derivatives.flat import Layout
from whynet.derivatives.gauss_newton import BatchJacobian, GaussNewtonPlan, prepare_jacobian
from whynet.derivatives.kept_batches import KeptBatches
from whynet.derivatives.linear_operator import LinearOperator
from whynet.derivatives.objective import Objective, widen
from whynet.derivatives.out_of_memory import Pieces
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import CHUNK, fixed_entries
from whynet.derivatives.signal_products import SignalProducts


class JacobianOperator(LinearOperator):
    """The derivative [M, P] of all outputs by the parameters; rows by example, then by output.

    `J @ v` pushes a change of the parameters forward, `J.adjoint @ u` pulls weights of the outputs
    back. What is prepared of leading batches stays in memory where it fits: their graphs or, once
    that pays, stored signals of their outputs, as for Gauss-Newton products. Where memory runs out
    the batches are halved, and `notes` says so.

    Args:
        objective: whose outputs.
        way: how they are differentiated.
        plan: says which kernels to use.
        kept: number of leading batches that stay prepared; None keeps the first, and more while
            they fit into `KEPT_BYTES`.

    """

    def __init__(
        self, objective: Objective, way: GaussNewtonPlan, plan: Plan, *, kept: int | None = None
    ) -> None:
        self.layout = Layout.of(objective.parameters)
        self._objective = objective
        self._way = way
        self._plan = plan
        self._kept = kept
        self._fixed = fixed_entries(objective, self.layout)
        wide = objective.wide() if way.way == "finite-differences" else None

        def prepare(inputs: Any, targets: Any) -> BatchJacobian:
            of, given = (objective, inputs) if wide is None else (wide, widen(inputs))
            return prepare_jacobian(of, given, way.way)

        def stored(found: BatchJacobian, targets: Any) -> BatchJacobian:
            return found

        self._pieces = Pieces(objective)
        self._batches = KeptBatches(
            self._pieces,
            prepare,
            None,
            SignalProducts(objective, stored, prepare) if way.signals else None,
            plan.bytes_per_example,
            kept,
        )
        with exact_kernels(onednn=plan.onednn), torch.no_grad():
            shapes = [
                objective.forward(objective.parameters, inputs).shape
                for inputs, _ in objective.batches()
            ]
        self.output_shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        self._numbers = sum(shape.numel() for shape in shapes)

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs of all examples, and parameters: (M, P)."""
        return self._numbers, self.layout.size

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the products: the widest of the parameters'."""
        return self.layout.dtype

    @property
    def device(self) -> torch.device:
        """Where products live: with the first parameter."""
        return self.layout.device

    def block(self, pattern: Pattern) -> JacobianOperator:
        """Return the columns of some parameters; see `CurvatureOperator.block`."""
        part = restricted(self._objective, pattern, "pattern")
        return JacobianOperator(part, self._way, self._plan, kept=self._kept)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done on the way, full sentences: whether memory ran out."""
        return self._pieces.notes

    def matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [P, k]; returns [M, k].

        Raises:
            MemoryError: one row of the data does not fit into memory.

        """
        columns = self._masked(columns.to(self.device, self.dtype))
        vectors, count = self.layout.unflatten_many(columns), columns.shape[1]

        def pushed(jacobian: BatchJacobian) -> Tensor:
            found = columns.new_empty(count, jacobian.outputs.numel())
            for part in self._chunks(jacobian, count):
                some = tuple(v[part] for v in vectors)
                if len(some[0]) > 1:
                    found[part] = jacobian.push(some, True).detach().flatten(1).to(self.dtype)
                else:
                    one = jacobian.push(tuple(v[0] for v in some), False)
                    found[part] = one.detach().flatten().to(self.dtype)
            return found

        def work() -> Tensor:
            return torch.cat([pushed(one) for _, one in self._batches.each(count / 2)], dim=1)

        with exact_kernels(onednn=self._plan.onednn), kept_random_state(vectors):
            return self._batches.fitted(work).T

    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [M, k] by the transposed matrix; returns [P, k].

        Raises:
            MemoryError: one row of the data does not fit into memory.

        """
        if columns.ndim != 2 or len(columns) != self.shape[0]:
            raise ValueError(f"columns [{self.shape[0]}, k] are needed, not {(*columns.shape,)}")
        rows = columns.to(self.device, self.dtype).T
        count = len(rows)

        def work() -> Tensor:
            total, done = rows.new_zeros(count, self.size), 0
            for _, jacobian in self._batches.each(count / 2):
                size = jacobian.outputs.numel()
                weights = rows[:, done : done + size].reshape(count, *jacobian.outputs.shape)
                done += size
                for part in self._chunks(jacobian, count):
                    if len(weights[part]) > 1:
                        total[part] += self.layout.flatten_many(
                            jacobian.pull(weights[part], True)
                        ).T
                    else:
                        total[part] += self.layout.flatten(jacobian.pull(weights[part][0], False))
            return total.T

        with exact_kernels(onednn=self._plan.onednn), kept_random_state([rows]):
            return self._masked(self._batches.fitted(work))

    def _chunks(self, jacobian: BatchJacobian, count: int) -> list[slice]:
        """Return which vectors are taken at once."""
        most = jacobian.most or (CHUNK if self._way.vmap else 1)
        return [slice(start, start + most) for start in range(0, count, most)]

    def _masked(self, columns: Tensor) -> Tensor:
        return columns if self._fixed is None else columns.masked_fill(self._fixed[:, None], 0)


def jacobian(
    objective: Objective, plan: Plan, *, kept: int | None = None
) -> JacobianOperator | NotApplicable:
    """Return the Jacobian of the outputs as an operator, or why there is none.

    Args:
        objective: whose outputs; its loss is not looked at.
        plan: how the objective is differentiated.
        kept: as of `gauss_newton`.

    """
    way = gauss_newton_way(squares_of(objective, 1.0), plan)
    if isinstance(way, NotApplicable):
        return way
    return JacobianOperator(objective, way, plan, kept=kept)
