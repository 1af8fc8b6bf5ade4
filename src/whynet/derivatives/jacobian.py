"""The Jacobian of the network's outputs on all examples, by its products."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.derivatives.chosen_parameters import Pattern, restricted
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.fisher import gauss_newton_way, squares_of
from whynet.derivatives.flat import Layout
from whynet.derivatives.gauss_newton import BatchJacobian, GaussNewtonPlan, prepare_jacobian
from whynet.derivatives.kept_batches import KEPT_BYTES
from whynet.derivatives.linear_operator import LinearOperator
from whynet.derivatives.objective import Objective, widen
from whynet.derivatives.plan import Plan
from whynet.derivatives.products import fixed_entries


class JacobianOperator(LinearOperator):
    """The derivative [M, P] of all outputs by the parameters; rows by example, then by output.

    `J @ v` pushes a change of the parameters forward, `J.adjoint @ u` pulls weights of the outputs
    back; one batch is in memory at a time, the first stays.

    Args:
        objective: whose outputs.
        way: how they are differentiated.
        plan: says which kernels to use.

    """

    def __init__(self, objective: Objective, way: GaussNewtonPlan, plan: Plan) -> None:
        self.layout = Layout.of(objective.parameters)
        self._objective = objective
        self._way = way
        self._plan = plan
        self._graphs: list[BatchJacobian] = []
        self._fixed = fixed_entries(objective, self.layout)
        with exact_kernels(onednn=plan.onednn), torch.no_grad():
            shapes = [
                objective.forward(objective.parameters, inputs).shape
                for inputs, _ in objective.batches()
            ]
        self.output_shape = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        self._numbers = [shape.numel() for shape in shapes]

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs of all examples, and parameters: (M, P)."""
        return sum(self._numbers), self.layout.size

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
        return JacobianOperator(part, self._way, self._plan)

    def matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [P, k]; returns [M, k]."""
        columns = self._masked(columns.to(self.device, self.dtype))
        vectors = self.layout.unflatten_many(columns)
        count = columns.shape[1]
        parts = []
        with exact_kernels(onednn=self._plan.onednn), kept_random_state(vectors):
            for jacobian in self._batches():
                if self._way.vmap and count > 1:
                    pushed = jacobian.push(vectors, True).reshape(count, -1)
                else:
                    singles = [
                        jacobian.push(tuple(v[i] for v in vectors), False).reshape(-1)
                        for i in range(count)
                    ]
                    pushed = torch.stack(singles) if singles else columns.new_zeros(
                        0, jacobian.outputs.numel()
                    )  # fmt: skip
                parts.append(pushed.detach().to(self.dtype))
        return torch.cat(parts, dim=1).T

    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [M, k] by the transposed matrix; returns [P, k]."""
        if columns.ndim != 2 or len(columns) != self.shape[0]:
            raise ValueError(f"columns [{self.shape[0]}, k] are needed, not {(*columns.shape,)}")
        rows = columns.to(self.device, self.dtype).T
        total = rows.new_zeros(self.size, len(rows))
        pieces = torch.split(rows, self._numbers, dim=1)
        with exact_kernels(onednn=self._plan.onednn), kept_random_state([rows]):
            for jacobian, part in zip(self._batches(), pieces, strict=True):
                shaped = part.reshape(len(rows), *jacobian.outputs.shape)
                if self._way.vmap and len(rows) > 1:
                    total += self.layout.flatten_many(jacobian.pull(shaped, True))
                    continue
                for i, one in enumerate(shaped):
                    total[:, i] += self.layout.flatten(jacobian.pull(one, False))
        return self._masked(total)

    def _masked(self, columns: Tensor) -> Tensor:
        return columns if self._fixed is None else columns.masked_fill(self._fixed[:, None], 0)

    def _batches(self) -> Iterator[BatchJacobian]:
        """Prepare batches one by one; the leading ones stay while their graphs fit."""
        yield from self._graphs
        wide = self._objective.wide() if self._way.way == "finite-differences" else None
        held = sum(len(one.outputs) for one in self._graphs) * self._plan.bytes_per_example
        for index, (inputs, _) in enumerate(self._objective.batches()):
            if index < len(self._graphs):
                continue
            of, given = (self._objective, inputs) if wide is None else (wide, widen(inputs))
            jacobian = prepare_jacobian(of, given, self._way.way)
            held += len(jacobian.outputs) * self._plan.bytes_per_example
            if index == len(self._graphs) and (index == 0 or held <= KEPT_BYTES):
                self._graphs.append(jacobian)
            yield jacobian


def jacobian(objective: Objective, plan: Plan) -> JacobianOperator | NotApplicable:
    """Return the Jacobian of the outputs as an operator, or why there is none.

    Args:
        objective: whose outputs; its loss is not looked at.
        plan: how the objective is differentiated.

    """
    way = gauss_newton_way(squares_of(objective, 1.0), plan)
    if isinstance(way, NotApplicable):
        return way
    return JacobianOperator(objective, way, plan)
