"""Loss, gradient and curvature products over all the data, one batch in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from whynet.core.outcome import NotApplicable
from whynet.derivatives.chosen_parameters import Pattern, restricted
from whynet.derivatives.exact_kernels import exact_kernels, kept_random_state
from whynet.derivatives.flat import Layout, Vector
from whynet.derivatives.gauss_newton import GaussNewtonPlan, prepare_gauss_newton
from whynet.derivatives.kept_batches import KeptBatches
from whynet.derivatives.linear_operator import LinearOperator
from whynet.derivatives.objective import Objective, held_fixed
from whynet.derivatives.out_of_memory import Pieces
from whynet.derivatives.plan import Plan
from whynet.derivatives.signal_products import SignalProducts, gauss_newton_signals
from whynet.derivatives.single_pass import SinglePass, single_pass
from whynet.derivatives.ways import BatchProduct, Prepare, hessian_way, loss_gradient

CHUNK_BYTES = 2**28
"""Memory that the vectors taken at once may need together."""

CHUNK = 64
"""Most vectors taken at once."""

SMALL = 2**21
"""Parameters times examples up to which taking vectors at once is faster than one by one."""


class CurvatureOperator(LinearOperator):
    """A symmetric matrix [P, P] known by its products, averaged over the data.

    Vectors are flat, in parameter order, of the dtype of the parameters (`layout.dtype`).
    Parameters that `padding_idx` holds fixed have rows and columns of zeros. Where memory runs out
    the batches are halved, and `notes` says so.

    Args:
        objective: what is differentiated.
        make: makes what prepares the products with one batch of an objective.
        plan: says which kernels to use and whether vectors can be taken at once.
        batched: whether vectors can be taken at once.
        kept: number of leading batches whose prepared graphs stay in memory between products;
            None keeps the first, and more while they fit into `KEPT_BYTES`.
        once: makes what multiplies one vector by a batch that is not kept, in a single pass; None
            prepares these batches like the others.
        signals: makes products by stored signals of the outputs; None where there are none.

    Cost of `matvec`: with reverse-over-reverse one to two gradients on kept batches, two to
    three on others. Memory: the graphs of the kept batches and of one more.

    """

    def __init__(
        self,
        objective: Objective,
        make: Callable[[Objective], Prepare],
        plan: Plan,
        *,
        batched: bool,
        kept: int | None,
        once: Callable[[Objective], SinglePass] | None = None,
        signals: Callable[[Objective, Prepare], SignalProducts[BatchProduct]] | None = None,
    ) -> None:
        self.layout = Layout.of(objective.parameters)
        self._objective = objective
        self._plan = plan
        self._batched = batched
        self._part = partial(
            CurvatureOperator,
            make=make,
            plan=plan,
            batched=batched,
            kept=kept,
            once=once,
            signals=signals,
        )
        self._pieces = Pieces(objective)
        prepare = make(objective)
        self._batches = KeptBatches(
            self._pieces,
            prepare,
            None if once is None else partial(_alone, once(objective)),
            None if signals is None else signals(objective, prepare),
            plan.bytes_per_example,
            kept,
        )
        self._fixed = fixed_entries(objective, self.layout)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, (P, P)."""
        return self.layout.size, self.layout.size

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the products: the widest of the parameters'."""
        return self.layout.dtype

    @property
    def device(self) -> torch.device:
        """Where products live: with the first parameter."""
        return self.layout.device

    @property
    def symmetric(self) -> bool:
        """The matrix equals its transpose."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done on the way, full sentences: whether memory ran out."""
        return self._pieces.notes

    def block(self, pattern: Pattern) -> CurvatureOperator:
        """Return the block of some parameters: their rows and columns of the matrix.

        Args:
            pattern: names of parameters or of modules that hold them, wildcards allowed.

        Cost: products take what the graph of these parameters takes, less than the whole.

        Raises:
            InputError: a pattern that no parameter of the operator answers to.

        """
        return self._part(restricted(self._objective, pattern, "pattern"))

    def entries(self, pattern: Pattern) -> Tensor:
        """Return where the parameters of a block stand in the vectors of this operator, [p]."""
        chosen = restricted(self._objective, pattern, "pattern").parameters
        spans = torch.split(torch.arange(self.size), list(self.layout.sizes))
        named = zip(self.layout.names, spans, strict=True)
        return torch.cat([span for name, span in named if name in chosen])

    def matmat(self, columns: Tensor) -> Tensor:
        """Multiply columns [P, k]; returns [P, k].

        Each batch is prepared once for all columns.

        Raises:
            ValueError: the columns have another length.
            MemoryError: one row of the data does not fit into memory.

        """
        columns = columns.to(self.layout.dtype)
        if self._fixed is not None:
            columns = columns.masked_fill(self._fixed[:, None], 0)
        vectors = self.layout.unflatten_many(columns)
        with exact_kernels(onednn=self._plan.onednn), kept_random_state(vectors):
            total = self._sum(vectors)
        total /= self._objective.count
        return total if self._fixed is None else total.masked_fill_(self._fixed[:, None], 0)

    def adjoint_matmat(self, columns: Tensor) -> Tensor:
        """Multiply by the transposed matrix, which is the same."""
        return self.matmat(columns)

    def _sum(self, vectors: Vector) -> Tensor:
        def work() -> Tensor:
            total: Tensor | None = None
            for rows, product in self._batches.each(len(vectors[0])):
                total = self._add(product, vectors, rows, total)
            if total is None:  # no columns
                return torch.zeros(self.size, len(vectors[0]), dtype=self.dtype, device=self.device)
            return total.T

        return self._batches.fitted(work)

    def _add(
        self, product: BatchProduct, vectors: Vector, rows: int, total: Tensor | None
    ) -> Tensor | None:
        """Add the products of one batch to a total [k, P], in place where there is one."""
        chunk, count = 1, len(vectors[0])
        if product.many is not None:
            chunk = product.most or (self._chunk(rows) if self._batched else 1)
        for start in range(0, count, chunk):
            part = tuple(v[start : start + chunk] for v in vectors)
            if len(part[0]) > 1 and product.many is not None:
                found = product.many(part)
            else:
                found = tuple(piece[None] for piece in product.one(tuple(v[0] for v in part)))
            flat = self.layout.flatten_many(found).T
            if total is None and len(flat) == count:
                return flat
            if total is None:
                total = flat.new_zeros(count, self.size)
            total[start : start + chunk] += flat
        return total

    def _chunk(self, rows: int) -> int:
        if self._pieces.halved or self.size * rows > SMALL:
            return 1
        room = CHUNK_BYTES / max(1.0, self._plan.bytes_per_example * rows + 8 * self.size)
        return max(1, min(CHUNK, int(room)))


def _alone(multiply: SinglePass, inputs: Any, targets: Any) -> BatchProduct:
    """Return the product of one vector by a batch in a single pass."""
    return BatchProduct(partial(multiply, inputs, targets), None)


def hessian(objective: Objective, plan: Plan, *, kept: int | None = None) -> CurvatureOperator:
    """Return the Hessian of the objective as an operator.

    Args:
        objective: what is differentiated; its parameters must not change while the operator
            lives.
        plan: how, from `choose_plan` for the same objective.
        kept: number of leading batches whose graphs stay in memory between products; None keeps
            the first, and more while they fit into `KEPT_BYTES`.

    """

    def make(of: Objective) -> Prepare:
        return hessian_way(of, plan.way)

    once = partial(single_pass, gauss_newton=False) if plan.once else None
    return CurvatureOperator(objective, make, plan, batched=plan.vmap, kept=kept, once=once)


def gauss_newton(
    objective: Objective,
    plan: Plan,
    *,
    kept: int | None = None,
    way: GaussNewtonPlan | None = None,
) -> CurvatureOperator | NotApplicable:
    """Return the Gauss-Newton matrix of the objective as an operator, or why there is none.

    Args:
        objective: what is differentiated.
        plan: how, from `choose_plan` for the same objective.
        kept: number of leading batches whose graphs stay in memory between products; None keeps
            the first, and more while they fit into `KEPT_BYTES`.
        way: how its outputs are differentiated, where that is not the plan's.

    """
    chosen = way or plan.gauss_newton
    if isinstance(chosen, NotApplicable):
        return chosen
    ways = (chosen.way, chosen.loss_way)

    def make(of: Objective) -> Prepare:
        wide = of.wide() if "finite-differences" in ways else None

        def prepare(inputs: Any, targets: Any) -> BatchProduct:
            return prepare_gauss_newton(of, wide, inputs, targets, chosen.way, chosen.loss_way)

        return prepare

    def stored(of: Objective, prepare: Prepare) -> SignalProducts[BatchProduct]:
        return gauss_newton_signals(of, chosen.loss_way, prepare)

    return CurvatureOperator(
        objective,
        make,
        plan,
        batched=chosen.vmap,
        kept=kept,
        once=partial(single_pass, gauss_newton=True) if chosen.once else None,
        signals=stored if chosen.signals else None,
    )


def gradient(objective: Objective) -> Tensor:
    """Return the gradient of the objective as a vector [P], one batch in memory at a time."""
    layout = Layout.of(objective.parameters)
    point = tuple(objective.parameters.values())

    def work(inputs: Any, targets: Any) -> Tensor:
        return layout.flatten(loss_gradient(objective, point, inputs, targets)[2])

    with exact_kernels(), kept_random_state(point):
        total = Pieces(objective).summed(work)
    fixed = fixed_entries(objective, layout)
    total /= objective.count
    return total if fixed is None else total.masked_fill(fixed, 0)


def loss(objective: Objective) -> float:
    """Return the value of the objective, summed over batches in float64."""
    tensors = objective.parameters.values()

    def work(inputs: Any, targets: Any) -> Tensor:
        return objective.loss(objective.parameters, inputs, targets).double()

    with exact_kernels(), kept_random_state(tensors), torch.no_grad():
        return float(Pieces(objective).summed(work)) / objective.count


def fixed_entries(objective: Objective, layout: Layout) -> Tensor | None:
    """Return a mask [P] of the entries that are held fixed, None where there are none."""
    masks = held_fixed(objective)
    if not masks:
        return None
    parts = [
        masks[name].reshape(-1) if name in masks else torch.zeros(size, dtype=torch.bool)
        for name, size in zip(layout.names, layout.sizes, strict=True)
    ]
    return torch.cat([part.to(layout.device) for part in parts])
