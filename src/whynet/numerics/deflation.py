"""Deflation: an operator without the directions that are known already."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics.lanczos import Operator
from whynet.numerics.long_products import long_product


def project_out(basis: Tensor, columns: Tensor) -> Tensor:
    """Return (I - Q Q^T) V for an orthonormal Q [P, q] and columns V [P, p]; twice, for round-off.

    Cost: 8 P q p flops.
    """
    for _ in range(2):
        columns = columns.addmm(basis, long_product(basis.T, columns).to(columns), alpha=-1)
    return columns


def deflated(matmat: Operator, basis: Tensor) -> Operator:
    """Return the operator (I - Q Q^T) A (I - Q Q^T) on columns [P, p] of the complement of Q.

    There it is (I - Q Q^T) A: what is multiplied must have been projected, as start vectors are
    and all that Lanczos makes of them, so that only what comes back is.

    Raises:
        InputError: `basis` is not orthonormal.

    """
    check_orthonormal(basis)
    return lambda columns: project_out(basis, matmat(columns))


def check_orthonormal(basis: Tensor, size: int | None = None) -> None:
    """Refuse a basis [P, q] whose columns are not orthonormal to the square root of eps.

    Args:
        basis: columns Q.
        size: P, where it is known.

    Raises:
        InputError: another shape, or |Q^T Q - I| above sqrt(eps) in an entry.

    """
    if basis.ndim != 2 or (size is not None and len(basis) != size):
        rows = "P" if size is None else str(size)
        raise InputError("deflation", f"shape {tuple(basis.shape)}", f"columns [{rows}, q]")
    if basis.shape[1] == 0:
        return
    gram = long_product(basis.T, basis)
    error = float((gram - torch.eye(len(gram)).to(gram)).abs().max())
    if not error <= math.sqrt(torch.finfo(basis.dtype).eps):
        raise InputError("deflation", f"Q^T Q off the identity by {error:.1e}", "orthonormal Q")
