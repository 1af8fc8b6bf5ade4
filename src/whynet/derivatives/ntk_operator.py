"""The empirical tangent kernel as a linear operator: products with vectors, nothing of size n².

A product of the kernel with a vector is J (J' v) over the parameters. Where the gradients of all
rows fit into memory they are held, as factors, and a product is a few small matrix products; else
each product runs over the rows in blocks, a backward pass for J' v, and what the plan of the
Jacobian says (forward mode, or reverse mode twice) for J u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.func import jvp

from whynet.core.errors import InputError
from whynet.derivatives.empirical_ntk import (
    MEMORY,
    gradients_of_block,
    plan_ntk,
)
from whynet.derivatives.exact_kernels import exact_kernels
from whynet.derivatives.gradient_parts import Gradients
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.derivatives.row_jacobians import rows_of
from whynet.models.fitting_rows import row_count
from whynet.models.subject import Subject

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

BATCH = 128
"""Rows of a block where gradients are not held."""


@dataclass(frozen=True)
class NtkOperator:
    """The kernel of n rows and C outputs, symmetric, `[n C, n C]`, rows first.

    Attributes:
        rows: n.
        outputs: C.
        dtype: precision of the products.
        device: where they are computed.
        held: the gradients of all rows; None where a product runs over the rows again.

    """

    rows: int
    outputs: int
    dtype: torch.dtype
    device: torch.device
    held: Gradients | None
    _multiply: Callable[[Tensor], Tensor]

    @property
    def shape(self) -> tuple[int, int]:
        """Return `(n C, n C)`."""
        return (self.rows * self.outputs,) * 2

    @property
    def T(self) -> NtkOperator:
        """Return the adjoint: the operator itself."""
        return self

    def __matmul__(self, vectors: Any) -> Any:
        """Multiply with a vector `[n C]` or columns `[n C, k]`; NumPy in, NumPy out.

        Raises:
            InputError: the length is another.

        """
        given = torch.as_tensor(vectors).to(dtype=self.dtype, device=self.device)
        if given.ndim not in (1, 2) or len(given) != self.shape[0]:
            raise InputError(
                "vectors",
                f"an array of shape {tuple(given.shape)}",
                f"a vector [{self.shape[0]}] or columns [{self.shape[0]}, k]",
            )
        columns = given.reshape(self.rows, self.outputs, -1)
        with torch.no_grad():
            found = self._multiply(columns).reshape(given.shape)
        return found if isinstance(vectors, Tensor) else found.cpu().numpy()

    def to_scipy(self) -> LinearOperator:
        """Return the same for `scipy.sparse.linalg`."""
        from scipy.sparse.linalg import LinearOperator

        number = np.float64 if self.dtype == torch.float64 else np.float32

        def product(vectors: Any) -> Any:
            return self @ np.asarray(vectors)

        return LinearOperator(
            self.shape, matvec=product, rmatvec=product, matmat=product, dtype=number
        )


def ntk_operator(
    subject: Subject, inputs: Any, *, plan: NtkPlan | None = None, memory: int = MEMORY
) -> NtkOperator:
    """Return the kernel of a batch of inputs as an operator.

    Args:
        subject: the network, at the parameters of interest, in evaluation mode.
        inputs: a batch of n inputs.
        plan: how gradients are computed; chosen by a probe where None.
        memory: bytes for the gradients of all rows, up to which they are held.

    Cost: where held, the gradients once, and twice their numbers in multiplications a product and
    vector; else two to three passes over the rows a product and vector.

    """
    plan = plan or plan_ntk(subject, inputs)
    rows = row_count(inputs)
    width = torch.finfo(subject.dtype).bits // 8
    if rows * plan.row_numbers * width <= memory:
        held = gradients_of_block(subject, inputs, slice(0, rows), plan, width, memory)
        multiply = _of_held(held)
    else:
        held, multiply = None, _of_passes(subject, inputs, plan, width, memory)
    return NtkOperator(rows, plan.outputs, subject.dtype, subject.device, held, multiply)


def _of_held(held: Gradients) -> Callable[[Tensor], Tensor]:
    def multiply(columns: Tensor) -> Tensor:
        found = [part.pushed(part.pulled(columns)) for part in held.parts]
        return torch.stack(found).sum(0)

    return multiply


def _of_passes(
    subject: Subject, inputs: Any, plan: NtkPlan, width: int, memory: int
) -> Callable[[Tensor], Tensor]:
    """Multiply by passes over the rows, a vector at a time."""
    names = tuple(subject.parameters)
    point = tuple(subject.parameters.values())
    blocks = [
        slice(start, min(start + BATCH, row_count(inputs)))
        for start in range(0, row_count(inputs), BATCH)
    ]

    def outputs(values: tuple[Tensor, ...], rows: slice) -> Tensor:
        batch = rows_of(inputs, rows.start, rows.stop)
        found = subject.forward(dict(zip(names, values, strict=True)), batch)
        return found.reshape(rows.stop - rows.start, -1)

    def pulled(vector: Tensor) -> tuple[Tensor, ...]:
        leaves = tuple(p.detach().requires_grad_() for p in point)
        total = [torch.zeros_like(p) for p in point]
        for rows in blocks:
            with torch.enable_grad():
                score = (outputs(leaves, rows) * vector[rows]).sum()
                parts = torch.autograd.grad(score, leaves, materialize_grads=True)
            for held, part in zip(total, parts, strict=True):
                held += part.to_dense() if part.is_sparse else part
        return tuple(total)

    push = _push(outputs, point, blocks[0])

    def multiply(columns: Tensor) -> Tensor:
        done = []
        with exact_kernels(onednn=False):
            for vector in columns.unbind(2):
                direction = pulled(vector)
                done.append(torch.cat([push(direction, rows) for rows in blocks]))
        return torch.stack(done, dim=2)

    return multiply


def _push(
    outputs: Callable[[tuple[Tensor, ...], slice], Tensor], point: tuple[Tensor, ...], first: slice
) -> Callable[[tuple[Tensor, ...], slice], Tensor]:
    """Return the map from directions to J u: reverse mode twice, checked against forward mode."""

    def twice(direction: tuple[Tensor, ...], rows: slice) -> Tensor:
        with torch.enable_grad():
            leaves = tuple(p.detach().requires_grad_() for p in point)
            found = outputs(leaves, rows)
            dummy = torch.zeros_like(found).requires_grad_()
            pulled = torch.autograd.grad(
                found, leaves, dummy, create_graph=True, materialize_grads=True
            )
            live = [(p, d) for p, d in zip(pulled, direction, strict=True) if p.requires_grad]
            if not live:
                return torch.zeros_like(found)
            (moved,) = torch.autograd.grad(
                [p for p, _ in live], dummy, [d for _, d in live], materialize_grads=True
            )
        return moved

    def forward(direction: tuple[Tensor, ...], rows: slice) -> Tensor:
        tangent: Tensor = jvp(lambda *values: outputs(values, rows), point, direction)[1]
        return tangent

    few = slice(first.start, min(first.stop, first.start + 2))
    generator = torch.Generator().manual_seed(0)
    direction = tuple(torch.randn(p.shape, generator=generator).to(p) for p in point)
    for way in (twice, forward):
        try:
            with exact_kernels(onednn=False):
                way(direction, few)
        except Exception:  # noqa: BLE001 - PyTorch raises many kinds where a way is barred
            continue
        return way
    raise InputError(
        "subject",
        "a network that can be differentiated neither twice in reverse nor in forward mode",
        "memory for the gradients of all rows, so that they can be held",
    )
