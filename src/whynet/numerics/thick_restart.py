"""Eigenpairs at both ends of a symmetric operator by Lanczos with thick restarts.

Wu and Simon (2000, SIAM J. Matrix Anal. Appl. 22:602): a Lanczos basis grows until the wanted pairs
have converged or memory is full; then the wanted Ritz vectors and some more are kept, and the basis
grows again from the residual. All vectors are reorthogonalized twice against the whole basis.

For a Ritz value t with residual r an eigenvalue lies within r of t, without chance, and by
interlacing the eigenvalue of that rank from the end is at least as far out as t. The estimate
r^2 / gap (Kato 1949; Temple 1928) is what the error is where the gap to the other Ritz values is
the gap of the spectrum; convergence is judged by the smaller of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics.lanczos import Operator
from whynet.numerics.long_products import long_product
from whynet.numerics.probes import uniform_direction

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenpairs at the two ends of a spectrum.

    Attributes:
        values: [q] float64, the largest from the top down, then the smallest from the bottom up.
        vectors: [P, q] orthonormal.
        residuals: [q], norms of A v - t v from the recurrence: an eigenvalue is that near, surely.
        estimates: [q], what the error is likely to be: at most the residual.
        roundoff: what round-off may add to each of them.
        angle: sine of the largest angle by which the span of the largest may be off: the norm of
            their residuals over the gap to the Ritz value below them (Davis and Kahan 1970); at
            most 1.
        largest: how many of them are the largest; the others are the smallest.
        products: products with the operator that were spent.
        converged: whether every estimate is within the tolerance.
        alphas: diagonal of the tridiagonal matrix of the steps before the first restart.
        betas: its off-diagonal, the norm of the last residual included.

    """

    values: Floats
    vectors: Tensor
    residuals: Floats
    estimates: Floats
    roundoff: float
    angle: float
    largest: int
    products: int
    converged: bool
    alphas: tuple[float, ...]
    betas: tuple[float, ...]


class _Basis:
    """An orthonormal basis Q with T = Q' A Q, and the residual of its last vector."""

    def __init__(self, start: Tensor, room: int) -> None:
        self.rows = start.new_empty(room, len(start))
        self.matrix = np.zeros((room, room))
        self.count = 0
        self.residual, self.length = start, float(start.double().norm())
        self.coupling = np.zeros(0)

    def grow(self, matvec: Operator) -> None:
        """Take the residual as next vector and multiply it."""
        place = self.count
        self.rows[place] = self.residual / self.length
        image = matvec(self.rows[place])
        if not bool(torch.isfinite(image).all()):
            raise FloatingPointError("The operator returned NaN or infinity.")
        known = self.rows[: place + 1]
        parts = long_product(known, image)
        residual = image - known.T @ parts.to(image)
        residual -= known.T @ long_product(known, residual).to(image)
        column = parts.cpu().numpy()
        # What couples it to the vectors before is known exactly from their own step.
        column[:place] = self.coupling
        self.matrix[: place + 1, place] = self.matrix[place, : place + 1] = column
        self.count = place + 1
        self.residual, self.length = residual, float(residual.double().norm())
        self.coupling = np.zeros(self.count)
        self.coupling[-1] = self.length

    def ritz(self) -> tuple[Floats, Floats]:
        """Ritz values ascending, and their coefficients [count, count]."""
        values, vectors = np.linalg.eigh(self.matrix[: self.count, : self.count])
        return values, vectors

    def restart(self, values: Floats, vectors: Floats) -> None:
        """Keep some Ritz pairs [kept], [count, kept] and go on from the residual."""
        kept = len(values)
        turn = torch.from_numpy(np.ascontiguousarray(vectors.T)).to(self.rows)
        self.rows[:kept] = turn @ self.rows[: self.count]
        self.matrix[:] = 0
        self.matrix[np.arange(kept), np.arange(kept)] = values
        self.coupling = self.length * vectors[self.count - 1]
        self.count = kept


def extreme_eigenpairs(
    matvec: Operator,
    size: int,
    *,
    largest: int = 10,
    smallest: int = 0,
    tolerance: float = 1e-3,
    room: int | None = None,
    products: int = 300,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Eigenpairs:
    """Find the largest and smallest eigenpairs.

    Cost: at most `products` products, and 8 m P flops each for the basis of m vectors. Memory: the
    basis, `room` times P numbers.

    Args:
        matvec: symmetric operator, [P] to [P].
        size: P.
        largest: how many from the top.
        smallest: how many from the bottom.
        tolerance: on the estimated error of an eigenvalue, relative to itself, or to a hundredth of
            the largest magnitude where that is more.
        room: vectors in the basis before a restart; by default twice what is wanted and 20.
        products: most products.
        seed: seed of the start vector, uniform on the sphere.
        dtype: float32 or float64.
        device: where vectors live.

    Raises:
        InputError: numbers out of range.
        FloatingPointError: the operator returned NaN or infinity.

    """
    wanted = largest + smallest
    if largest < 0 or smallest < 0 or not 1 <= wanted <= size:
        found = f"{largest} largest and {smallest} smallest of {size}"
        raise InputError("largest", found, "at least 1 and no more than there are")
    room = min(size, 2 * wanted + 20 if room is None else max(room, wanted + 2))
    basis = _Basis(uniform_direction(size, seed, dtype=dtype, device=device), room)
    return _iterate(basis, matvec, (largest, smallest), tolerance, products)


def _iterate(
    basis: _Basis,
    matvec: Operator,
    ends: tuple[int, int],
    tolerance: float,
    products: int,
) -> Eigenpairs:
    """Grow and restart the basis until the wanted pairs have converged."""
    (room, size), wanted, spent = basis.rows.shape, sum(ends), 0
    first: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    while True:
        basis.grow(matvec)
        spent += 1
        done = basis.count == size or basis.length <= _negligible(basis)
        if basis.count < wanted and not done and spent < products:
            continue
        values, vectors = basis.ritz()
        chosen = _chosen(len(values), *ends)
        residuals, estimates = _errors(values, basis.length * np.abs(vectors[-1]), chosen)
        scale = np.maximum(np.abs(values[chosen]), 1e-2 * np.abs(values).max())
        met = len(chosen) == min(wanted, size) and bool((estimates <= tolerance * scale).all())
        over, full = met or done or spent >= products, basis.count == room
        if first is None and (over or full):
            first = _tridiagonal_part(basis)
        if over and first is not None:
            break
        if full:
            kept = min(room - 2, wanted + (room - wanted) // 2)
            more = kept - wanted if ends[0] else 0
            held = _chosen(len(values), ends[0] + more, ends[1])
            basis.restart(values[held], vectors[:, held])
    turn = torch.from_numpy(np.ascontiguousarray(vectors[:, chosen])).to(basis.rows)
    top = min(ends[0], len(chosen))
    return Eigenpairs(
        values[chosen],
        basis.rows[: basis.count].T @ turn,
        residuals,
        estimates,
        _roundoff(basis.rows.dtype, size, spent, values),
        _angle(values, residuals[:top]),
        top,
        spent,
        met or done,
        *first,
    )


def _chosen(count: int, largest: int, smallest: int) -> NDArray[np.intp]:
    """Places of the wanted among ascending values: from the top down, then from the bottom up."""
    top = np.arange(count - 1, max(-1, count - 1 - largest), -1)
    bottom = np.arange(min(smallest, count - len(top)))
    return np.concatenate([top, bottom]).astype(np.intp)


def _errors(values: Floats, residuals: Floats, chosen: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Residuals of the chosen, and the smaller of them and of their squares over the gap."""
    apart = np.abs(values[chosen][:, None] - values[None])
    apart[np.arange(len(chosen)), chosen] = np.inf
    gaps = (apart - residuals[chosen][:, None]).min(1)
    mine = residuals[chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        # A single Ritz value has no gap, whatever its residual.
        squared = np.where((gaps > 0) & np.isfinite(gaps), mine**2 / gaps, np.inf)
    return mine, np.minimum(mine, squared)


def _angle(values: Floats, residuals: Floats) -> float:
    """Sine of the angle between the span of the top Ritz vectors and that of eigenvectors."""
    count = len(residuals)
    if count in (0, len(values)):
        return 0.0 if not residuals.any() else 1.0
    gap = float(values[-count] - values[-count - 1])
    return min(1.0, float(np.linalg.norm(residuals)) / gap) if gap > 0 else 1.0


def _tridiagonal_part(basis: _Basis) -> tuple[tuple[float, ...], tuple[float, ...]]:
    matrix = basis.matrix[: basis.count, : basis.count]
    betas = [*np.diagonal(matrix, 1).tolist(), basis.length]
    return tuple(np.diagonal(matrix).tolist()), tuple(betas)


def _negligible(basis: _Basis) -> float:
    size = np.abs(basis.matrix[: basis.count, : basis.count]).sum(1).max()
    return float(10 * torch.finfo(basis.rows.dtype).eps * size)


def _roundoff(dtype: torch.dtype, size: int, steps: int, values: Floats) -> float:
    """As in `whynet.numerics.extreme_eigenvalues`."""
    return float(torch.finfo(dtype).eps * (4 * size**0.5 + steps) * np.abs(values).max())
