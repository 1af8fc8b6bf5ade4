"""Lanczos tridiagonalization of a symmetric operator, from one or many start vectors.

Lanczos (1950, J. Res. Nat. Bur. Stand. 45:255); reorthogonalized twice against the whole basis
("twice is enough": Giraud, Langou, Rozloznik and van den Eshof 2005, Numer. Math. 101:87), so that
the basis is orthonormal and the tridiagonal matrix a projection of the operator up to round-off.

The operator is assumed symmetric and always the same; neither is checked here. Vectors live in
the dtype and on the device of the start vectors (float32 or float64); coefficients are float64 on
the CPU. The number of steps is fixed by the caller and never depends on values, except that a run
stops early where the Krylov space is invariant, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics.long_products import long_norm, long_product

Operator = Callable[[Tensor], Tensor]
"""Maps a vector [P] to [P], or columns [P, p] to [P, p]."""


@dataclass(frozen=True)
class LanczosResult:
    """A Krylov space in the form that a later run can continue.

    Attributes:
        alphas: [m] float64, diagonal of the tridiagonal matrix T.
        betas: [m - 1] float64, its off-diagonal, positive.
        basis: [P, m] orthonormal columns Q, with Q^T A Q = T; column 0 is the start vector.
        residual: [P] the vector r with A Q = Q T + r e_m^T; zero where `invariant`.
        invariant: whether the run stopped because A maps the span of the basis into itself;
            then the eigenvalues of T are eigenvalues of A, and more steps change nothing.

    """

    alphas: Tensor
    betas: Tensor
    basis: Tensor
    residual: Tensor
    invariant: bool

    @property
    def steps(self) -> int:
        """Number of finished steps m, equal to the products with A that were spent."""
        return len(self.alphas)

    @property
    def residual_norm(self) -> float:
        """Norm of `residual`, the next off-diagonal entry."""
        return float(long_norm(self.residual))

    def eigen(self) -> tuple[Tensor, Tensor]:
        """Ritz values [m], ascending, and eigenvectors [m, m] of T, both float64."""
        values, vectors = torch.linalg.eigh(tridiagonal(self.alphas, self.betas))
        return values, vectors


@dataclass(frozen=True)
class LanczosBatch:
    """Coefficients of p independent Lanczos runs.

    Attributes:
        alphas: [p, m] float64. After a run's `length` its entries are zero.
        betas: [p, m - 1] float64; zero from entry `length` - 1 on, so that the trailing block
            has no weight in anything that starts from the first basis vector.
        lengths: [p] int64, steps of each run before its Krylov space was invariant, at most m.
        norms: [p] float64, norms of the start vectors.

    """

    alphas: Tensor
    betas: Tensor
    lengths: Tensor
    norms: Tensor


def tridiagonal(alphas: Tensor, betas: Tensor) -> Tensor:
    """Assemble dense symmetric tridiagonal matrices [..., m, m] from their two diagonals."""
    off = torch.diag_embed(betas, offset=1)
    return torch.diag_embed(alphas) + off + off.mT


def lanczos(
    matvec: Operator, start_vector: Tensor, steps: int, *, reorthogonalize: bool = True
) -> LanczosResult:
    """Run `steps` Lanczos steps from one start vector.

    Cost: one product with A per step, and with reorthogonalization 4 m P more flops in step m.
    Memory: the basis, m P numbers. Without reorthogonalization the basis loses orthogonality as
    soon as a Ritz value converges, and copies of it appear.

    Args:
        matvec: symmetric operator, [P] to [P].
        start_vector: [P], not zero; need not be normalized.
        steps: number of steps, at least 1; never more than P are run.
        reorthogonalize: whether to reorthogonalize twice against the whole basis.

    Raises:
        InputError: `steps` below 1; a start vector of another shape, or zero, or not finite.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if start_vector.ndim != 1:
        found = f"shape {tuple(start_vector.shape)}"
        raise InputError("start_vector", found, "a vector with one axis")
    unit = start_vector / _norms(start_vector[None])[0].to(start_vector)
    empty = torch.zeros(0, dtype=torch.float64)
    begun = LanczosResult(empty, empty, start_vector.new_zeros(len(unit), 0), unit, False)
    return continue_lanczos(matvec, begun, steps, reorthogonalize=reorthogonalize)


def continue_lanczos(
    matvec: Operator, state: LanczosResult, steps: int, *, reorthogonalize: bool = True
) -> LanczosResult:
    """Run `steps` more steps of a run, in the same Krylov space; the old state stays as it was.

    Equal up to round-off to one longer run. Returns `state` itself where it is invariant or
    spans the whole space.

    Raises:
        InputError: `steps` below 1.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if steps < 1:
        raise InputError("steps", str(steps), "at least 1")
    size, before = state.basis.shape
    after = before if state.invariant else min(before + steps, size)
    if after == before:
        return state
    rows = state.basis.new_empty(after, size)  # row-major, so that products stream
    rows[:before] = state.basis.T
    alphas, betas = state.alphas.tolist(), state.betas.tolist()
    residual, length = state.residual, state.residual_norm
    for step in range(before, after):
        rows[step] = residual / length
        if step:
            betas.append(length)
        image = _apply(matvec, rows[step], step)
        alpha = float(long_product(rows[step : step + 1], image))
        alphas.append(alpha)
        residual = image - alpha * rows[step]
        if step:
            residual -= betas[-1] * rows[step - 1]
        if reorthogonalize:
            known = rows[: step + 1]
            for _ in range(2):
                residual -= known.T @ long_product(known, residual).to(residual)
        length = float(long_norm(residual))
        invariant = step + 1 == size or length <= _negligible(alphas, betas, residual)
        if invariant:
            residual, after = torch.zeros_like(residual), step + 1
            break
    diagonal = torch.tensor(alphas, dtype=torch.float64)
    beside = torch.tensor(betas, dtype=torch.float64)
    return LanczosResult(diagonal, beside, rows[:after].T, residual, invariant)


def lanczos_batch(
    matmat: Operator, start_vectors: Tensor, steps: int, *, reorthogonalize: bool = True
) -> LanczosBatch:
    """Run p independent Lanczos runs at the same time, one batched product per step.

    The runs do not mix: this is no block Lanczos. Cost: `steps` calls of `matmat`. Memory: with
    reorthogonalization steps * P * p numbers, without it 3 * P * p; quadratures stay accurate
    without it (Chen 2024, arXiv:2410.11090), at the price of more steps.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p]; the argument may be a transposed
            view.
        start_vectors: [P, p], no column zero.
        steps: number of steps m, at least 1; never more than P are run.
        reorthogonalize: whether to reorthogonalize twice against the whole basis of each run.

    Raises:
        InputError: `steps` below 1; start vectors of another shape, zero or not finite.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if steps < 1:
        raise InputError("steps", str(steps), "at least 1")
    if start_vectors.ndim != 2 or start_vectors.shape[1] == 0:
        found = f"shape {tuple(start_vectors.shape)}"
        raise InputError("start_vectors", found, "vectors as columns, [P, p]")
    size, runs = start_vectors.shape
    steps = min(steps, size)
    norms = _norms(start_vectors.T)
    current = start_vectors.T / norms.to(start_vectors)[:, None]  # [p, P]
    previous = torch.zeros_like(current)
    basis = current.new_empty(runs, steps if reorthogonalize else 0, size)
    alphas = torch.zeros(runs, steps, dtype=torch.float64)
    betas = torch.zeros(runs, steps, dtype=torch.float64)
    alive = torch.ones(runs, dtype=torch.bool)
    lengths = torch.zeros(runs, dtype=torch.int64)
    scale = torch.zeros(runs, dtype=torch.float64)
    for step in range(steps):
        lengths += alive
        image = _apply(matmat, current.T, step).T
        alpha = (current * image).sum(1)
        residual = image - alpha[:, None] * current
        if step:
            residual -= betas[:, step - 1, None].to(current) * previous
        if reorthogonalize:
            basis[:, step] = current
            _reorthogonalize(residual, basis[:, : step + 1])
        alphas[:, step] = alpha.double().cpu()
        beta = long_norm(residual, dim=1).cpu()
        behind = betas[:, step - 1] if step else torch.zeros_like(beta)
        scale = torch.maximum(scale, alphas[:, step].abs() + behind)
        alive &= beta > 10 * torch.finfo(current.dtype).eps * scale
        betas[:, step] = torch.where(alive, beta, 0.0)
        shrink = torch.where(alive, 1 / beta.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        previous, current = current, residual * shrink.to(current)[:, None]
        if not alive.any():
            break
    return LanczosBatch(alphas, betas[:, : steps - 1], lengths, norms)


def _reorthogonalize(residual: Tensor, basis: Tensor) -> None:
    """Remove from each row of `residual` [p, P] its part in `basis` [p, j, P], twice, in place."""
    for _ in range(2):
        parts = long_product(basis, residual[:, :, None]).to(basis)
        residual -= torch.bmm(basis.mT, parts)[:, :, 0]


def _negligible(alphas: list[float], betas: list[float], vector: Tensor) -> float:
    """Largest length of a residual that is taken for round-off: 10 eps times a norm of T."""
    behind = [0.0, *betas]
    scale = max(abs(alpha) + beta for alpha, beta in zip(alphas, behind, strict=True))
    return 10 * torch.finfo(vector.dtype).eps * scale


def _apply(operator: Operator, argument: Tensor, step: int) -> Tensor:
    image = operator(argument)
    if image.shape != argument.shape:
        found = f"shape {tuple(image.shape)} for an argument of {tuple(argument.shape)}"
        raise InputError("operator", found, "a result of the argument's shape")
    if not bool(torch.isfinite(image).all()):
        raise FloatingPointError(
            f"The operator returned NaN or infinity in Lanczos step {step + 1}; "
            "its eigenvalues cannot be measured."
        )
    return image


def _norms(rows: Tensor) -> Tensor:
    """Norms of start vectors [p, P], checked: [p] float64 on the CPU."""
    if rows.shape[1] == 0 or not rows.dtype.is_floating_point:
        raise InputError("start_vector", f"{rows.shape[1]} entries of {rows.dtype}", "real numbers")
    norms = long_norm(rows, dim=1).cpu()
    if not bool(((norms > 0) & torch.isfinite(norms)).all()):
        raise InputError("start_vector", "one that is zero or not finite", "a direction")
    return norms
