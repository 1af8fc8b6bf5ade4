"""Products over an axis as long as the parameters, without the round-off of single precision.

A float32 matrix product keeps its sums in float32: over 22 million terms MKL was measured to miss
the squared length of a unit vector by 4e-2 where rows are contiguous and by 6e-3 where columns are
(`v.norm()` by 2e-3). Cut into pieces whose sums are added in float64, the same product misses
1e-6 and takes the same time. The first of these again, beside the same sum in float64:

    python -c "import torch; v = torch.randn(22_713_986, 8, generator=torch.manual_seed(0));
    v /= v.double().norm(dim=0).float(); print((v.T @ v - v.double().T @ v.double()).abs().max())"
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

PIECE: Final = 2**14
"""Terms that are summed in the precision of the factors."""


def long_product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, summed in float64 over pieces of the long axis.

    Args:
        left: `[..., q, P]`, float32 or float64, of any strides.
        right: `[..., P, p]`, or one vector `[P]`.

    Returns:
        `[..., q, p]` or `[..., q]`, float64, on the device of the factors.

    Cost: that of the product; it is the plain one where `P` is at most `PIECE`.

    """
    size = left.shape[-1]
    if size <= PIECE or left.dtype == torch.float64:
        return (left @ right).double()
    column = right.unsqueeze(-1) if right.ndim == 1 else right
    starts = range(0, size, PIECE)
    total = sum(
        (left[..., at : at + PIECE] @ column[..., at : at + PIECE, :]).double() for at in starts
    )
    assert isinstance(total, Tensor)
    return total.squeeze(-1) if right.ndim == 1 else total


def long_dots(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products of columns `[P, p]` with each other, `[p]`, all in float64.

    Memory: a piece of both in float64.
    """
    pairs = zip(left.split(PIECE), right.split(PIECE), strict=True)  # type: ignore[no-untyped-call]
    total = sum((one.double() * two.double()).sum(0) for one, two in pairs)
    assert isinstance(total, Tensor)
    return total


def long_norm(vector: Tensor, dim: int | None = None) -> Tensor:
    """Return the Euclidean norm, accumulated in float64, along one axis or of all numbers."""
    found: Tensor = torch.linalg.vector_norm(vector, dim=dim, dtype=torch.float64)
    return found
