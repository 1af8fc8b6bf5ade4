"""Products over millions of terms in single precision, against float64."""

from __future__ import annotations

import pytest
import torch

from whynet.core.errors import InputError
from whynet.numerics.deflation import check_orthonormal, project_out
from whynet.numerics.lanczos import lanczos
from whynet.numerics.long_products import PIECE, long_norm, long_product

LONG = 3_000_001


def unit_columns(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    drawn = torch.randn(LONG, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(drawn)[0].to(dtype)


def test_sums_are_as_good_as_their_terms_in_every_layout() -> None:
    columns = unit_columns()
    for held in (columns, columns.T.contiguous().T):
        gram = long_product(held.T, held)
        assert gram.dtype == torch.float64
        exact = held.double().T @ held.double()
        assert float((gram - exact).abs().max()) < 3e-6
        assert torch.allclose(long_product(held.T, held[:, 0]), exact[:, 0], atol=3e-6, rtol=0)
    batch = torch.stack([columns.T[:2], columns.T[2:4]])
    wanted = batch.double() @ columns.double()
    assert torch.allclose(long_product(batch, columns), wanted, atol=3e-6, rtol=0)


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE])
def test_pieces_end_where_the_axis_ends(size: int) -> None:
    left = torch.arange(2.0 * size).reshape(2, size) % 7
    right = torch.arange(3.0 * size).reshape(size, 3) % 5
    assert torch.equal(long_product(left, right), left.double() @ right.double())
    assert torch.equal(long_norm(left, dim=1), left.double().norm(dim=1))


def test_a_basis_of_millions_of_numbers_is_seen_to_be_orthonormal() -> None:
    columns = unit_columns()
    check_orthonormal(columns)
    with pytest.raises(InputError, match="off the identity"):
        check_orthonormal(columns * 1.001)
    left = project_out(columns[:, :3], columns)
    assert float(left[:, :3].abs().max()) < 1e-8
    assert torch.allclose(left[:, 3:], columns[:, 3:], atol=1e-8)


def test_lanczos_stays_orthonormal_on_millions_of_numbers() -> None:
    weights = torch.linspace(0, 1, LONG) ** 40
    start = torch.randn(LONG, generator=torch.Generator().manual_seed(1))
    found = lanczos(lambda vector: weights * vector, start, 8)
    basis = found.basis.double()
    assert float((basis.T @ basis - torch.eye(8)).abs().max()) < 1e-6
    middle = basis.T @ (weights.double()[:, None] * basis)
    exact = torch.diag(found.alphas) + torch.diag(found.betas, 1) + torch.diag(found.betas, -1)
    assert float((middle - exact).abs().max()) < 1e-5
