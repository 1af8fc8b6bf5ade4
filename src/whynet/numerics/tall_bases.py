"""Orthonormal bases of few columns that are as long as the parameters.

Householder QR in float32 keeps its sums over the whole length in float32: of 8 columns of 22
million numbers PyTorch's misses the identity by 7.1e-3, and what stands here by 2.5e-11, in 0.9 and
1.4 CPU seconds:

    python -c "import torch; from whynet.numerics.tall_bases import tall_qr
    a = torch.randn(8, 22_713_986, generator=torch.manual_seed(0)).T
    for qr in (torch.linalg.qr, tall_qr):
        q = qr(a)[0].double(); print((q.T @ q - torch.eye(8)).abs().max())"

Here the Gram matrix is summed in float64 over pieces of the length and factored (Cholesky QR); what
that leaves is factored once more, after which the basis is orthonormal to round-off (Yamamoto,
Nakatsukasa, Yanagisawa and Fukaya 2015, Electron. Trans. Numer. Anal. 44:306). Columns that nearly
or wholly depend on each other have no such factor; they go through Householder QR in float64 of
each piece and of the triangles of all pieces, which takes any columns (Demmel, Grigori, Hoemmen and
Langou 2012, SIAM J. Sci. Comput. 34:A206). Neither holds more in memory than the basis and a piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics.long_products import PIECE

NEAR: Final = 0.05
"""How far from orthonormal a first factor may leave the columns: a second mends up to 5/64."""


def tall_qr(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis Q of columns A and the triangle R with A = Q R.

    Where columns depend on those before them, the diagonal of R is zero there up to round-off, and
    Q is orthonormal all the same.

    Cost: 10 n k^2 flops in three passes over the columns, all but rounded in float64; twice that
    where columns depend on each other.

    Args:
        columns: [n, k], float32 or float64.

    Returns:
        Q `[n, min(n, k)]`, of the dtype of the columns, each of its columns contiguous; and R
        `[min(n, k), k]`, float64. Of columns with NaN or infinity both hold NaN.

    Raises:
        InputError: another number of axes.

    """
    if columns.ndim != 2:
        raise InputError("columns", f"shape {tuple(columns.shape)}", "columns [n, k]")
    rows, count = columns.shape
    if rows <= max(PIECE, 2 * count) or not count:
        basis, triangle = torch.linalg.qr(columns.double())
        return basis.to(columns.dtype), triangle
    pieces = columns.split(PIECE)  # type: ignore[no-untyped-call]
    return _by_gram(columns, pieces) or _by_triangles(columns, pieces)


def _by_gram(columns: Tensor, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """Factor Gram matrices, twice; None where the columns are too near to dependent."""
    one = torch.eye(columns.shape[1], dtype=torch.float64, device=columns.device)
    factors: list[Tensor] = []
    for attempt in range(2):
        gram = torch.zeros_like(one)
        for piece in pieces:
            turned = _turned(piece, factors)
            gram.addmm_(turned.T, turned)
        if attempt and not float((gram - one).abs().max()) <= NEAR:
            return None
        factor, failed = torch.linalg.cholesky_ex(gram, upper=True)
        if int(failed):
            return None
        factors.append(factor)
    basis = _room(columns)
    for piece, into in zip(pieces, basis.split(PIECE), strict=True):  # type: ignore[no-untyped-call]
        into.copy_(_turned(piece, factors))
    return basis, factors[1] @ factors[0]


def _turned(piece: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Return rows [m, k] in float64, divided by triangles from the right."""
    found = piece.double()
    for factor in factors:
        found = torch.linalg.solve_triangular(factor, found, upper=True, left=False)
    return found


def _by_triangles(columns: Tensor, pieces: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Factor each piece, and the triangles of all of them together."""
    triangles = [torch.linalg.qr(piece.double(), mode="r")[1] for piece in pieces]
    turns, triangle = torch.linalg.qr(torch.cat(triangles))
    basis, done = _room(columns), 0
    for piece, own, into in zip(pieces, triangles, basis.split(PIECE), strict=True):  # type: ignore[no-untyped-call]
        inner = torch.linalg.qr(piece.double())[0]
        into.copy_(inner @ turns[done : done + len(own)])
        done += len(own)
    return basis, triangle


def _room(columns: Tensor) -> Tensor:
    """Return room for a basis whose columns are contiguous, as operators want them."""
    rows, count = columns.shape
    return columns.new_empty(count, rows).T
