"""Parameter gradients of every output on rows of data, layers kept as factors where that is less.

The gradient of output c on row x with respect to a weight matrix that is used at T positions is
`sum_t returning[c, t] entering[t]'`: what comes back to the layer and what enters it. Inner
products of two such gradients need the two small Gram matrices alone, never the gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from whynet.numerics.long_products import PIECE, long_product

Form = Literal["full", "per-output", "trace"]
"""What is kept of the outputs: `[n, C, m, C]`, `[n, m, C]`, or their sum `[n, m]`."""


class Part(Protocol):
    """The gradients of n rows and C outputs with respect to some parameters."""

    def products(self, other: Part, form: Form) -> Tensor:
        """Return inner products with the gradients of m rows in a form."""

    def own(self) -> Tensor:
        """Return inner products within each row, `[n, C, C]`."""

    def along(self, vectors: Tensor) -> Part:
        """Combine the outputs of each row by `[n, combinations, C]`."""

    def each(self, change: Callable[[Tensor], Tensor]) -> Part:
        """Change each tensor; all have the rows first."""

    def written_out(self) -> Tensor:
        """Return `[n, C, parameters]`."""

    def pulled(self, vectors: Tensor) -> Tensor:
        """Return the sum over rows and outputs of vectors `[n, C, k]` times gradients, `[k, p]`."""

    def pushed(self, directions: Tensor) -> Tensor:
        """Return gradients times directions `[k, p]`, `[n, C, k]`."""


@dataclass(frozen=True)
class Written:
    """Gradients that are written out.

    Attributes:
        jacobian: `[n, C, parameters]`.

    """

    jacobian: Tensor

    def products(self, other: Part, form: Form) -> Tensor:
        """Return inner products with the gradients of m rows in a form."""
        assert isinstance(other, Written)
        return _between(self.jacobian, other.jacobian, form)

    def own(self) -> Tensor:
        """Return inner products within each row, `[n, C, C]`."""
        return _summed(self.jacobian, self.jacobian.mT)

    def along(self, vectors: Tensor) -> Written:
        """Combine the outputs of each row by `[n, combinations, C]`."""
        return Written(vectors @ self.jacobian)

    def each(self, change: Callable[[Tensor], Tensor]) -> Written:
        """Change each tensor; all have the rows first."""
        return Written(change(self.jacobian))

    def written_out(self) -> Tensor:
        """Return `[n, C, parameters]`."""
        return self.jacobian

    def pulled(self, vectors: Tensor) -> Tensor:
        """Return the sum over rows and outputs of vectors `[n, C, k]` times gradients, `[k, p]`."""
        return vectors.flatten(0, 1).T @ self.jacobian.flatten(0, 1)

    def pushed(self, directions: Tensor) -> Tensor:
        """Return gradients times directions `[k, p]`, `[n, C, k]`."""
        return _summed(self.jacobian, directions.T)


@dataclass(frozen=True)
class Factored:
    """Gradients of a weight matrix as sums over T positions of products of two vectors.

    Attributes:
        entering: `[n, T, features]`, or `[n, T]` integers: which row of a table is looked up.
        returning: `[n, C, T, units]`.
        table: rows of the table; 0 where none is looked up.

    """

    entering: Tensor
    returning: Tensor
    table: int = 0

    def products(self, other: Part, form: Form) -> Tensor:
        """Return inner products with the gradients of m rows in a form."""
        assert isinstance(other, Factored)
        n, outputs, positions, units = self.returning.shape
        m, others, across, _ = other.returning.shape
        inner = self._inner(other)
        if positions == across == 1:
            found = _between(self.returning.flatten(2), other.returning.flatten(2), form)
            weights = inner.reshape(n, m)
            if form == "full":
                return found.mul_(weights[:, None, :, None])
            return found.mul_(weights if form == "trace" else weights[:, :, None])
        if form == "trace":
            left = self.returning.transpose(1, 2).reshape(n * positions, outputs * units)
            right = other.returning.transpose(1, 2).reshape(m * across, outputs * units)
            signals = _summed(left, right.T).reshape(n, positions, m, across)
            return (signals * inner).sum((1, 3))
        if form == "per-output":
            each = [
                Factored(self.entering, self.returning[:, c : c + 1], self.table).products(
                    Factored(other.entering, other.returning[:, c : c + 1], self.table), "trace"
                )
                for c in range(outputs)
            ]
            return torch.stack(each, dim=2)
        signals = _summed(self.returning.reshape(-1, units), other.returning.reshape(-1, units).T)
        shaped = signals.reshape(n, outputs, positions, m, others, across)
        if positions * across <= PIECE:
            return torch.einsum("nctmds,ntms->ncmd", shaped, inner)
        pairs = shaped.permute(0, 3, 1, 4, 2, 5).reshape(n, m, outputs * others, -1)
        weights = inner.transpose(1, 2).reshape(n, m, -1, 1)
        return _summed(pairs, weights).reshape(n, m, outputs, others).transpose(1, 2)

    def _inner(self, other: Factored) -> Tensor:
        """Return inner products of what enters, `[n, T, m, S]`."""
        n, positions = self.entering.shape[:2]
        m, across = other.entering.shape[:2]
        if self.table:
            same = self.entering[:, :, None, None] == other.entering[None, None]
            return same.to(self.returning.dtype)
        found = _summed(self.entering.flatten(0, 1), other.entering.flatten(0, 1).T)
        return found.reshape(n, positions, m, across)

    def own(self) -> Tensor:
        """Return inner products within each row, `[n, C, C]`."""
        if self.returning.shape[2] == 1:
            signals = self.returning[:, :, 0]
            squares = 1.0 if self.table else self.entering.square().sum((1, 2))[:, None, None]
            return _summed(signals, signals.mT) * squares
        if self.table:
            inner = (self.entering[:, :, None] == self.entering[:, None]).to(self.returning.dtype)
        else:
            inner = _summed(self.entering, self.entering.mT)
        mixed = torch.einsum("nts,ncsb->nctb", inner, self.returning)
        return _summed(self.returning.flatten(2), mixed.flatten(2).mT)

    def along(self, vectors: Tensor) -> Factored:
        """Combine the outputs of each row by `[n, combinations, C]`."""
        mixed = vectors @ self.returning.flatten(2)
        shape = (*mixed.shape[:2], *self.returning.shape[2:])
        return Factored(self.entering, mixed.reshape(shape), self.table)

    def each(self, change: Callable[[Tensor], Tensor]) -> Factored:
        """Change each tensor; all have the rows first."""
        return Factored(change(self.entering), change(self.returning), self.table)

    def written_out(self) -> Tensor:
        """Return `[n, C, parameters]`, units first."""
        return outer(self.returning, self._spread())

    def _spread(self) -> Tensor:
        """Return what enters, `[n, T, features]`, one-hot for a table."""
        if not self.table:
            return self.entering
        return functional.one_hot(self.entering, self.table).to(self.returning.dtype)

    def pulled(self, vectors: Tensor) -> Tensor:
        """Return the sum over rows and outputs of vectors `[n, C, k]` times gradients, `[k, p]`."""
        mixed = vectors.transpose(1, 2) @ self.returning.flatten(2)
        signals = mixed.reshape(*mixed.shape[:2], *self.returning.shape[2:])
        if not self.table:
            columns = signals.permute(1, 3, 0, 2).flatten(2)
            return (columns @ self.entering.flatten(0, 1)).flatten(1)
        found = signals.new_zeros(signals.shape[1], self.table, signals.shape[-1])
        rows = signals.transpose(0, 1).flatten(1, 2)
        found.index_add_(1, self.entering.flatten(), rows)
        return found.transpose(1, 2).flatten(1)

    def pushed(self, directions: Tensor) -> Tensor:
        """Return gradients times directions `[k, p]`, `[n, C, k]`."""
        units = self.returning.shape[-1]
        matrices = directions.reshape(len(directions), units, -1)
        if self.table:
            moved = matrices[:, :, self.entering].permute(2, 3, 1, 0)
        else:
            moved = torch.einsum("nta,kba->ntbk", self.entering, matrices)
        return _summed(self.returning.flatten(2), moved.flatten(1, 2))


def outer(returning: Tensor, entering: Tensor) -> Tensor:
    """Sum products over positions: `[n, C, T, b]` and `[n, T, a]` to `[n, C, b a]`."""
    n, outputs, positions, units = returning.shape
    if positions == 1:
        return (returning[:, :, 0, :, None] * entering[:, None]).flatten(2)
    left = returning.transpose(2, 3).reshape(n, outputs * units, positions)
    return (left @ entering).reshape(n, outputs, -1)


def _between(left: Tensor, right: Tensor, form: Form) -> Tensor:
    """Inner products of `[n, C, p]` and `[m, C, p]` in a form."""
    n, outputs, size = left.shape
    m, others, _ = right.shape
    if form == "full":
        flat = _summed(left.reshape(n * outputs, size), right.reshape(m * others, size).T)
        return flat.reshape(n, outputs, m, others)
    if form == "trace":
        return _summed(left.reshape(n, -1), right.reshape(m, -1).T)
    return _summed(left.transpose(0, 1), right.permute(1, 2, 0)).permute(1, 2, 0)


def _summed(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right` in their precision, sums over long axes taken in float64."""
    if left.shape[-1] <= PIECE:
        return left @ right
    return long_product(left, right).to(left.dtype)


@dataclass(frozen=True)
class Gradients:
    """The gradients of all outputs on some rows, one part after another.

    Attributes:
        parts: of disjoint sets of parameters.

    """

    parts: tuple[Part, ...]

    def products(self, other: Gradients, form: Form) -> Tensor:
        """Return inner products with the gradients of m rows: the kernel between the two."""
        pairs = zip(self.parts, other.parts, strict=True)
        total, *rest = (one.products(two, form) for one, two in pairs)
        for part in rest:
            total = total.add_(part)
        return total

    def own(self) -> Tensor:
        """Return inner products within each row, `[n, C, C]`."""
        return torch.stack([part.own() for part in self.parts]).sum(0)

    def along(self, vectors: Tensor) -> Gradients:
        """Return the gradients of combinations of the outputs of each row.

        Args:
            vectors: `[n, combinations, C]`, the weights of the outputs.

        """
        return Gradients(tuple(part.along(vectors) for part in self.parts))

    def at(self, rows: Tensor | slice) -> Gradients:
        """Return the gradients of some rows, which may repeat."""
        return Gradients(tuple(part.each(lambda held: held[rows]) for part in self.parts))

    def on_cpu(self) -> Gradients:
        """Bring gradients to the CPU."""
        return Gradients(tuple(part.each(Tensor.cpu) for part in self.parts))

    def written_out(self) -> Tensor:
        """Write the gradients out, `[n, C, parameters]`, part by part."""
        return torch.cat([part.written_out() for part in self.parts], dim=2)


def joined(blocks: Sequence[Gradients]) -> Gradients:
    """Join gradients of several blocks of rows."""
    return Gradients(
        tuple(_joined(parts) for parts in zip(*(b.parts for b in blocks), strict=True))
    )


def _joined(parts: Sequence[Part]) -> Part:
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, Written):
        return Written(torch.cat([p.jacobian for p in parts if isinstance(p, Written)]))
    assert isinstance(first, Factored)
    held = [part for part in parts if isinstance(part, Factored)]
    return Factored(
        torch.cat([part.entering for part in held]),
        torch.cat([part.returning for part in held]),
        first.table,
    )
