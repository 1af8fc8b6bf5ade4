"""Matrices of low rank factored, given up early where the rank is larger than of any use.

A random sketch finds the range of a matrix of low rank (Halko, Martinsson and Tropp 2011,
arXiv:0909.4061); what it says of the rank is checked, not believed. With Q of orthonormal columns,
the singular values of `Q^T A` are not above those of A, which are not above the root of their
squares plus the squared norm of `A - Q Q^T A` (Weyl's inequality for `A^T A`).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

_SMALL: Final = 256
"""Smaller side of a matrix up to which it is decomposed as a whole."""

_FIRST: Final = (32, 128, 512)
"""Ranks that are tried before the largest of use."""


Factors = tuple[Tensor, Tensor]
"""`[rows, rank]` and `[rank, columns]`."""


def low_rank(matrix: Tensor, threshold: float, most: int) -> Factors | None:
    """Factor a matrix by its singular values above a threshold, unless there are too many.

    Args:
        matrix: `[rows, columns]`, float64 or float32.
        threshold: absolute, above the round-off of products with the matrix.
        most: the largest number of singular values above it that is of use.

    Returns:
        `[rows, rank]` with orthonormal columns and `[rank, columns]`, whose product is the matrix
        up to the threshold; or None where more than `most` singular values are above it.

    Cost: order `rows * columns * rank` where the rank is low, `rows * columns * most` where it is
    found to be too large, and a full decomposition only where a singular value is as close to the
    threshold as the sketch is coarse.

    """
    small = min(matrix.shape)
    if small > _SMALL:
        for rank in [*(first for first in _FIRST if first < most), most + 1]:
            if 2 * rank > small:
                break
            sure, found = _sketched(matrix, threshold, most, rank)
            if sure:
                return found
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((size > threshold).sum())
    return None if rank > most else (left[:, :rank], right[:rank] * size[:rank, None])


def _sketched(
    matrix: Tensor, threshold: float, most: int, rank: int
) -> tuple[bool, Factors | None]:
    """Factor by a sketch of so many columns; the first says whether the sketch tells."""
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(matrix.shape[1], rank, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(matrix @ mixed.to(matrix))
    inner = basis.T @ matrix
    if rank > most and (
        _clearly_above(inner, threshold) or float(torch.linalg.svdvals(inner).min()) > threshold
    ):
        return True, None
    rest = float(torch.linalg.norm(matrix - basis @ inner))
    if rest > threshold:
        return False, None
    left, size, right = torch.linalg.svd(inner, full_matrices=False)
    above = size > threshold
    # Between these lies each singular value of the matrix; those not sketched are below `rest`.
    highest = (size.square() + rest**2).sqrt()
    if bool(((highest > threshold) & ~above).any()):
        return False, None
    found = int(above.sum())
    if found > most:
        return True, None
    return True, (basis @ left[:, :found], right[:found] * size[:found, None])


def _clearly_above(inner: Tensor, threshold: float) -> bool:
    """Whether all singular values of a wide matrix are proved to be above a threshold, cheaply.

    By a Cholesky factorization of `B B^T - s`, s above the squared threshold by its round-off.
    """
    gram = inner @ inner.T
    epsilon = torch.finfo(inner.dtype).eps
    shift = threshold**2 + 4 * epsilon * sum(inner.shape) * float(gram.diagonal().sum())
    gram.diagonal().sub_(shift)
    return int(torch.linalg.cholesky_ex(gram).info) == 0
