"""The inverse of a damped Gauss-Newton matrix, seen from the outputs of rows.

With H = sum_j J_j' B_j J_j + damping over the rows of the training data, B_j = R_j R_j' the
curvature of a row's loss, this gives the blocks J_i H^-1 J_i' that leaving out rows needs: by
writing H out where the parameters are few, else in the span of the weighted gradients R_j' J_j,
of which those without weight against the damping are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from whynet.derivatives.empirical_ntk import gradients
from whynet.derivatives.gradient_parts import Gradients, joined
from whynet.derivatives.ntk_plan import NtkPlan
from whynet.models.subject import Subject

MOST_DIRECTIONS = 2000
"""Directions that are kept."""

NEGLIGIBLE = 1e-3
"""Directions whose curvature is below this share of the damping are left out."""

STILL = 1e-3
"""Rows whose outputs cannot move by more than this are not solved for."""

HELD = 2**27
"""Numbers of gradients in memory."""

KEPT = 2**25
"""Numbers of gradients up to which those of all rows are computed once and kept."""

BLOCK, AT_ONCE = 2**23, 64
"""Numbers of a block of rows; rows that are solved for at once."""


class Solver(Protocol):
    """A Gauss-Newton matrix that can be damped and inverted.

    Attributes:
        largest: its largest eigenvalue.
        neglected: share of its trace that is left out.

    """

    largest: float
    neglected: float

    def blocks(self, damping: float) -> Tensor:
        """Return J_i H^-1 J_i' of every row, `[rows, outputs, outputs]`."""

    def group(self, places: np.ndarray, damping: float) -> Tensor:
        """Return the same of some rows together, `[rows * outputs, rows * outputs]`."""


@dataclass(frozen=True)
class Jacobians:
    """Where the gradients of rows come from.

    Attributes:
        network: the network.
        plan: how its gradients are computed.
        inputs: returns the inputs of rows at some places.
        root: `[rows, outputs, outputs]`, R_j with R_j R_j' the curvature of the loss.
        gradient: `[rows, outputs]` of the loss.

    """

    network: Subject
    plan: NtkPlan
    inputs: Callable[[np.ndarray], Any]
    root: Tensor
    gradient: Tensor

    def of(self, places: np.ndarray) -> Iterator[Gradients]:
        """Yield the gradients of some rows, a block at a time.

        A block has no more rows than a batch: the network runs on them, whatever is kept.
        """
        size = max(1, min(BLOCK // max(1, self.plan.row_numbers), self.network.batch_size))
        for start in range(0, len(places), size):
            part = places[start : start + size]
            if self._all is None:
                yield self._computed(part)
            else:
                yield self._all.at(torch.as_tensor(part))

    @cached_property
    def _all(self) -> Gradients | None:
        """The gradients of all rows where they are few numbers; else None."""
        if len(self.root) * self.plan.row_numbers > KEPT:
            return None
        places = self.everything()
        size = self.network.batch_size
        starts = range(0, len(places), size)
        return joined([self._computed(places[start : start + size]) for start in starts])

    def _computed(self, places: np.ndarray) -> Gradients:
        return gradients(self.network, self.inputs(places), self.plan).on_cpu()

    def everything(self) -> np.ndarray:
        """Return the places of all rows."""
        return np.arange(len(self.root))


class InWeights:
    """The Gauss-Newton matrix written out, for few parameters."""

    neglected = 0.0

    def __init__(self, jacobians: Jacobians) -> None:
        self._jacobians = jacobians
        self._matrix, done = torch.zeros((), dtype=jacobians.root.dtype), 0
        for found in jacobians.of(jacobians.everything()):
            written = found.written_out()
            root = jacobians.root[done : done + len(written)]
            weighted = (root.transpose(1, 2) @ written).flatten(0, 1)
            self._matrix = self._matrix + weighted.T @ weighted
            done += len(written)
        self.largest = _largest(self._matrix)

    def blocks(self, damping: float) -> Tensor:
        """Return J_i H^-1 J_i' of every row, `[rows, outputs, outputs]`."""
        factor = _factor(self._matrix, damping)
        parts = []
        for found in self._jacobians.of(self._jacobians.everything()):
            half = _half(factor, found.written_out())
            parts.append(half @ half.transpose(1, 2))
        return torch.cat(parts)

    def group(self, places: np.ndarray, damping: float) -> Tensor:
        """Return the same of some rows together, `[rows * outputs, rows * outputs]`."""
        factor = _factor(self._matrix, damping)
        halves = [_half(factor, part.written_out()) for part in self._jacobians.of(places)]
        flat = torch.cat(halves).flatten(0, 1)
        return flat @ flat.T


class InDirections:
    """The Gauss-Newton matrix in the span of the weighted gradients of the rows.

    Args:
        jacobians: the gradients.
        least: no damping below this will be asked for.
        also: places of rows that groups will be asked for.
        condition: the damping will be at least the largest eigenvalue over this.

    Raises:
        MemoryError: the gradients of the rows that matter are too many.

    """

    def __init__(
        self, jacobians: Jacobians, least: float, condition: float, also: np.ndarray
    ) -> None:
        root, everything = jacobians.root, jacobians.everything()
        own = torch.cat([part.own() for part in jacobians.of(everything)])
        sizes, vectors = torch.linalg.eigh(root.transpose(1, 2) @ own @ root)
        # The largest eigenvalue of all rows is at least that of one.
        least = max(least, float(sizes.max()) / condition)
        kept = _largest_directions(sizes, NEGLIGIBLE * least)
        where, which = torch.nonzero(kept, as_tuple=True)
        reach = (own @ jacobians.gradient[..., None])[..., 0].norm(dim=1)
        self._reach = reach.numpy()
        moving = np.flatnonzero(self._reach > STILL * least)
        self._rows = np.union1d(np.union1d(where.numpy(), moving), also)
        if len(self._rows) * jacobians.plan.row_numbers > HELD:
            raise MemoryError
        self._own = own
        self._groups: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
        self._held = joined(list(jacobians.of(self._rows)))
        weights = (root[where] @ vectors[where, :, which][..., None]).transpose(1, 2)
        self._directions = self._at(where.numpy()).along(weights)
        self._gram = self._directions.products(self._directions, "full")[:, 0, :, 0]
        self.largest = _largest(self._gram)
        total = float(sizes.sum())
        self.neglected = max(0.0, 1 - float(sizes[kept].sum()) / total) if total > 0 else 0.0

    def _at(self, places: np.ndarray) -> Gradients:
        return self._held.at(torch.as_tensor(np.searchsorted(self._rows, places)))

    def _solved(self, factor: Tensor, places: np.ndarray) -> Tensor:
        across = self._at(places).products(self._directions, "full")[..., 0]
        return _half(factor, across)

    def blocks(self, damping: float) -> Tensor:
        """Return J_i H^-1 J_i' of every row, `[rows, outputs, outputs]`.

        Rows that cannot move get J_i J_i' / damping, which is at least as much.
        """
        factor = _factor(self._gram, damping)
        blocks = self._own / damping
        moving = np.flatnonzero(self._reach > STILL * damping)
        for start in range(0, len(moving), AT_ONCE):
            part = moving[start : start + AT_ONCE]
            half = self._solved(factor, part)
            blocks[part] -= half @ half.transpose(1, 2) / damping
        return blocks

    def group(self, places: np.ndarray, damping: float) -> Tensor:
        """Return the same of some rows together, `[rows * outputs, rows * outputs]`."""
        key = tuple(int(place) for place in places)
        if key not in self._groups:
            found = self._at(places)
            inner = found.products(found, "full").flatten(2).flatten(0, 1)
            across = found.products(self._directions, "full")[..., 0]
            self._groups = {key: (inner, across)}
        inner, across = self._groups[key]
        half = _half(_factor(self._gram, damping), across).flatten(0, 1)
        return (inner - half @ half.T) / damping


def _largest(matrix: Tensor) -> float:
    """Return the largest eigenvalue of a symmetric matrix."""
    if len(matrix) < 50:
        return float(torch.linalg.eigvalsh(matrix)[-1])
    start = np.ones(len(matrix))
    return float(eigsh(matrix.numpy(), 1, v0=start, return_eigenvectors=False, tol=1e-6)[0])


def _factor(matrix: Tensor, damping: float) -> Tensor:
    held = matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype)
    factor: Tensor = torch.linalg.cholesky(held)
    return factor


def _half(factor: Tensor, rows: Tensor) -> Tensor:
    """Solve with the Cholesky factor from the left: `[rows, outputs, size]` to the same shape."""
    flat = rows.flatten(0, 1).T
    solved: Tensor = torch.linalg.solve_triangular(factor, flat, upper=False)
    return solved.T.reshape(rows.shape)


def _largest_directions(sizes: Tensor, least: float) -> Tensor:
    """Mark the directions above a size, at most `MOST_DIRECTIONS` of them and at least one."""
    flat = sizes.flatten()
    if int((flat > least).sum()) > MOST_DIRECTIONS:
        least = float(flat.topk(MOST_DIRECTIONS + 1).values[-1])
    return sizes >= min(least, float(flat.max()))
