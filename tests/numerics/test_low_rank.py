"""Factorizations that stop early agree with the singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from whynet.numerics.low_rank import low_rank


def with_values(values: Tensor, rows: int, columns: int, seed: int = 0) -> Tensor:
    """Return a float64 matrix of given singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(values), generator=generator, dtype=torch.float64)).Q
        for side in (rows, columns)
    )
    return (left * values) @ right.T


def decomposed(matrix: Tensor, threshold: float, most: int) -> Tensor | None:
    """Do the same by a full decomposition."""
    left, size, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((size > threshold).sum())
    return None if rank > most else (left[:, :rank] * size[:rank]) @ right[:rank]


def spectrum(kind: str, threshold: float) -> Tensor:
    """Return singular values: few, too many, and such as lie close to the threshold."""
    few = torch.logspace(1, -2, 40, dtype=torch.float64)
    if kind == "few":
        return few
    if kind == "many":
        return torch.linspace(1, 3, 330, dtype=torch.float64)
    if kind == "falling":
        return torch.logspace(1, -15, 330, dtype=torch.float64)
    ends = {"just above": 1.01, "just below": 0.99}[kind]
    close = threshold * torch.full((30,), ends, dtype=torch.float64)
    tail = threshold * torch.logspace(-1, -3, 200, dtype=torch.float64)
    return torch.cat([few, close, tail])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("kind", ["few", "many", "falling", "just above", "just below"])
@pytest.mark.parametrize(("rows", "columns", "most"), [(330, 340, 60), (400, 335, 20)])
def test_rank_and_product_are_those_of_the_full_decomposition(
    kind: str, rows: int, columns: int, most: int, dtype: torch.dtype
) -> None:
    threshold = 1e-9 if dtype == torch.float64 else 1e-3
    matrix = with_values(spectrum(kind, threshold), rows, columns).to(dtype)
    expected = decomposed(matrix, threshold, most)
    found = low_rank(matrix, threshold, most)
    if expected is None:
        assert found is None
        return
    assert found is not None
    left, right = found
    unit = torch.eye(left.shape[1], dtype=dtype)
    assert torch.allclose(left.T @ left, unit, atol=100 * torch.finfo(dtype).eps)
    assert left.shape[1] == int((torch.linalg.svdvals(expected) > threshold / 2).sum())
    # Both drop what is at most the threshold; which part of it may differ.
    assert float(torch.linalg.matrix_norm(left @ right - expected, 2)) <= threshold
    assert float(torch.linalg.matrix_norm(left @ right - matrix, 2)) <= 1.5 * threshold


@pytest.mark.parametrize("values", [40, 330])
def test_clear_cases_need_no_full_decomposition(
    values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A low rank, and one that is too high, are told by the sketch alone."""
    matrix = with_values(torch.linspace(1, 2, values, dtype=torch.float64), 330, 340)
    expected, svd = decomposed(matrix, 1e-9, 60), torch.linalg.svd

    def small_only(given: Tensor, **how: bool) -> tuple[Tensor, Tensor, Tensor]:
        assert min(given.shape) <= 128
        return svd(given, **how)

    monkeypatch.setattr(torch.linalg, "svd", small_only)
    found = low_rank(matrix, 1e-9, 60)
    assert (found is None) == (expected is None) == (values == 330)


def test_nothing_is_a_map_of_rank_none() -> None:
    for side in (3, 300):
        found = low_rank(torch.zeros(side, side, dtype=torch.float64), 0.0, 1)
        assert found is not None
        assert found[0].shape == (side, 0)
