"""Orthonormal bases of long columns, against QR in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics import tall_bases
from whynet.numerics.exchangeable_trace import exchangeable_samples, exchangeable_trace
from whynet.numerics.long_products import PIECE, long_dots
from whynet.numerics.tall_bases import tall_qr

LONG, COUNT = 3 * PIECE + 5, 6
EPS = {torch.float32: 6e-8, torch.float64: 1.2e-16}


def gram_miss(basis: Tensor) -> float:
    """How far a basis is from orthonormal, summed in float64."""
    gram = torch.zeros(basis.shape[1], basis.shape[1], dtype=torch.float64)
    for piece in basis.split(PIECE):  # type: ignore[no-untyped-call]
        gram += piece.double().T @ piece.double()
    return float((gram - torch.eye(len(gram), dtype=torch.float64)).abs().max())


def drawn(kind: str, rows: int = LONG) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(rows, COUNT, generator=generator, dtype=torch.float64)
    if kind == "scaled":
        columns *= torch.logspace(-15, 15, COUNT, dtype=torch.float64)
    if kind == "ill-conditioned":
        turn = torch.linalg.qr(torch.randn(COUNT, COUNT, generator=generator).double())[0]
        columns = torch.linalg.qr(columns)[0] * torch.logspace(0, -6, COUNT).double() @ turn
    if kind == "dependent":
        columns[:, 3] = columns[:, 0] - 2 * columns[:, 1]
        columns[:, 5] = 0
    if kind == "nearly dependent":
        columns[:, 4] = columns[:, 2] + 1e-9 * columns[:, 3]
    return columns


@pytest.mark.parametrize("dtype", list(EPS))
@pytest.mark.parametrize(
    ("kind", "by_gram"),
    [
        ("random", True),
        ("scaled", True),
        ("ill-conditioned", True),
        ("dependent", False),
        ("nearly dependent", False),
    ],
)
def test_a_basis_is_orthonormal_and_spans_the_columns(
    kind: str, by_gram: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []
    by_triangles = tall_bases._by_triangles

    def noted(*given: object) -> tuple[Tensor, Tensor]:
        taken.append(True)
        return by_triangles(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(tall_bases, "_by_triangles", noted)
    columns = drawn(kind).to(dtype)
    exact, wanted = torch.linalg.qr(columns.double())
    for held in (columns, columns.T.contiguous().T):
        basis, triangle = tall_qr(held)
        assert basis.dtype == dtype
        assert triangle.dtype == torch.float64
        assert gram_miss(basis) < 50 * EPS[dtype]
        assert torch.equal(triangle, triangle.triu())
        lengths = columns.double().norm(dim=0).clamp(min=1e-300)
        residual = (basis.double() @ triangle - columns.double()).norm(dim=0) / lengths
        assert float(residual.max()) < 50 * EPS[dtype]
        gap = (triangle.abs() - wanted.abs()).norm(dim=0) / lengths
        assert float(gap[: COUNT if by_gram else 3].max()) < 1e-9  # behind it is not unique
        if by_gram:
            assert float((exact.T @ basis.double()).abs().diagonal().min()) > 1 - 1e-7
    assert bool(taken) is not by_gram


def test_short_columns_and_what_is_not_finite() -> None:
    wide = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    basis, triangle = tall_qr(wide)
    assert basis.shape == (3, 3)
    assert torch.allclose(basis @ triangle.float(), wide, atol=1e-6)
    assert tall_qr(torch.ones(LONG, 0))[0].shape == (LONG, 0)
    broken = drawn("random")
    broken[7, 2] = torch.nan
    assert torch.isnan(tall_qr(broken)[1]).any()
    with pytest.raises(InputError, match=r"columns: found shape \(3,\); wanted columns \[n, k\]"):
        tall_qr(torch.ones(3))


def test_inner_products_of_columns() -> None:
    left, right = drawn("random").float(), drawn("ill-conditioned").float()
    wanted = (left.double() * right.double()).sum(0)
    assert torch.allclose(long_dots(left, right), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", list(EPS))
def test_a_trace_of_low_rank_is_exact_over_long_vectors(dtype: torch.dtype) -> None:
    """Eigenvalues far below the largest belong to the sketch, however long the vectors are."""
    vectors = torch.linalg.qr(drawn("random"))[0].to(dtype)
    values = torch.logspace(0, -3, COUNT).to(dtype)
    samples = exchangeable_samples(
        lambda v: vectors @ (values[:, None] * (vectors.T @ v)),
        LONG,
        products=2 * COUNT + 4,
        seed=0,
        dtype=dtype,
    )
    truth = float((vectors.double().square().sum(0) * values.double()).sum())
    assert abs(samples.samples / truth - 1).max() < (1e-4 if dtype == torch.float32 else 1e-12)
    found = exchangeable_trace(samples)
    assert found.low <= truth <= found.high


@pytest.mark.parametrize(
    ("size", "draws"), [(LONG, 12), pytest.param(20_000_000, 1, marks=pytest.mark.endurance)]
)
def test_traces_of_long_vectors_cover_in_single_precision(size: int, draws: int) -> None:
    """Outliers over a flat bulk, whose part of the sketch is test vectors: none may be dropped."""
    values = torch.full((size,), 5.0 / size)
    values[:: size // 9] = torch.logspace(2, 0, 10)
    truth, covered = float(values.double().sum()), 0
    for seed in range(draws):
        samples = exchangeable_samples(lambda v: values[:, None] * v, size, products=30, seed=seed)
        found = exchangeable_trace(samples)
        assert abs(found.value / truth - 1) < 1e-4
        covered += found.low <= truth <= found.high
    assert covered >= draws * 0.8


@pytest.mark.endurance
def test_of_as_many_rows_as_a_transformer_has_parameters() -> None:
    """The control is QR in float32, which is far from orthonormal there."""
    columns = torch.randn(8, 20_000_000, generator=torch.Generator().manual_seed(0)).T
    assert gram_miss(tall_qr(columns)[0]) < 1e-7
    assert gram_miss(torch.linalg.qr(columns)[0]) > 1e-4
