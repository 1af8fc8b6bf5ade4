"""Lanczos against dense eigenvalues and closed forms, one run and many at a time."""

import numpy as np
import pytest
import torch

from whynet.core.errors import InputError
from whynet.numerics.lanczos import continue_lanczos, lanczos, lanczos_batch, tridiagonal
from whynet.numerics.probes import rademacher, uniform_direction

DTYPES = [torch.float32, torch.float64]


def symmetric(size, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return ((matrix + matrix.T) / (2 * size) ** 0.5).to(dtype)


def laplacian(size, dtype=torch.float64):
    ones = torch.ones(size - 1, dtype=dtype)
    values = 2 - 2 * torch.cos(torch.arange(1, size + 1).double() * torch.pi / (size + 1))
    return tridiagonal(2 * torch.ones(size, dtype=dtype), -ones), values


@pytest.mark.parametrize("dtype", DTYPES)
def test_basis_is_orthonormal_and_reproduces_the_recurrence(dtype):
    a = symmetric(120, 0, dtype)
    run = lanczos(a.mv, uniform_direction(120, 1, dtype=dtype), 60)
    tolerance = 100 * torch.finfo(dtype).eps
    t = tridiagonal(run.alphas, run.betas).to(dtype)
    assert run.basis.shape == (120, 60)
    assert (run.basis.T @ run.basis - torch.eye(60, dtype=dtype)).abs().max() < tolerance
    rest = a @ run.basis - run.basis @ t
    rest[:, -1] -= run.residual
    assert rest.abs().max() < tolerance
    assert not run.invariant
    assert run.alphas.dtype == run.betas.dtype == torch.float64


@pytest.mark.parametrize("dtype", DTYPES)
def test_all_eigenvalues_of_the_laplacian(dtype):
    matrix, values = laplacian(40, dtype)
    run = lanczos(matrix.mv, uniform_direction(40, 0, dtype=dtype), 100)
    assert run.steps == 40
    assert run.invariant
    assert run.residual_norm == 0
    assert (run.eigen()[0] - values).abs().max() < 200 * torch.finfo(dtype).eps


def test_reorthogonalization_is_what_keeps_the_basis():
    values = torch.cat([torch.linspace(0, 1, 199), torch.tensor([50.0])]).double()
    start = uniform_direction(200, 0, dtype=torch.float64)

    def loss(flag):
        basis = lanczos(lambda v: values * v, start, 80, reorthogonalize=flag).basis
        return float((basis.T @ basis - torch.eye(80, dtype=torch.float64)).abs().max())

    assert loss(True) < 1e-13
    assert loss(False) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("values", "distinct"),
    [
        ([0.0] * 30, 1),
        ([3.0] * 20, 1),
        ([-2.0] * 5 + [1.0] * 25, 2),
        ([0.0] * 29 + [7.0], 2),
        ([-1.0, -2.0, -3.0] * 6, 3),
        ([4.0], 1),
    ],
)
def test_invariant_subspace_stops_the_run_and_says_so(dtype, values, distinct):
    diagonal = torch.tensor(values, dtype=dtype)
    run = lanczos(lambda v: diagonal * v, uniform_direction(len(values), 3, dtype=dtype), 20)
    assert run.invariant
    assert run.steps == distinct
    expected = torch.tensor(sorted(set(values)), dtype=torch.float64)
    assert (run.eigen()[0] - expected).abs().max() <= 50 * torch.finfo(dtype).eps
    assert continue_lanczos(lambda v: diagonal * v, run, 5) is run


@pytest.mark.parametrize("dtype", DTYPES)
def test_continuing_equals_one_long_run(dtype):
    a = symmetric(80, 4, dtype)
    start = uniform_direction(80, 5, dtype=dtype)
    long, first = lanczos(a.mv, start, 30), lanczos(a.mv, start, 10)
    copy = first.basis.clone()
    pieces = continue_lanczos(a.mv, continue_lanczos(a.mv, first, 1), 19)
    tolerance = 1e5 * torch.finfo(dtype).eps
    assert (long.alphas - pieces.alphas).abs().max() < tolerance
    assert (long.betas - pieces.betas).abs().max() < tolerance
    assert (long.residual - pieces.residual).abs().max() < tolerance
    assert torch.equal(first.basis, copy)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_batch_equals_single_runs(dtype, reorthogonalize):
    a = symmetric(60, 6, dtype)
    starts = rademacher(60, 5, 7, dtype=dtype)
    batch = lanczos_batch(lambda v: a @ v, starts, 8, reorthogonalize=reorthogonalize)
    assert batch.alphas.shape == (5, 8)
    assert batch.betas.shape == (5, 7)
    assert torch.equal(batch.lengths, torch.full((5,), 8))
    assert batch.norms == pytest.approx(np.full(5, 60**0.5))
    for row in range(5):
        single = lanczos(a.mv, starts[:, row], 8, reorthogonalize=reorthogonalize)
        tolerance = 1e3 * torch.finfo(dtype).eps
        assert (batch.alphas[row] - single.alphas).abs().max() < tolerance
        assert (batch.betas[row] - single.betas).abs().max() < tolerance


def test_batch_where_some_runs_end_early():
    diagonal = torch.tensor([1.0, 1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    starts = torch.eye(5, dtype=torch.float64)[:, [0, 2]].clone()
    starts = torch.cat([starts, torch.ones(5, 1, dtype=torch.float64)], 1)
    batch = lanczos_batch(lambda v: diagonal[:, None] * v, starts, 9)
    assert batch.lengths.tolist() == [1, 1, 4]
    assert batch.alphas.shape == (3, 5)
    assert batch.alphas[0].tolist() == [1, 0, 0, 0, 0]
    assert batch.betas[1].tolist() == [0, 0, 0, 0]
    values = torch.linalg.eigvalsh(tridiagonal(batch.alphas[2, :4], batch.betas[2, :3]))
    assert values.tolist() == pytest.approx([1, 2, 3, 5])


def test_scale_of_the_operator_does_not_matter():
    diagonal = torch.linspace(1, 2, 30, dtype=torch.float64)
    start = uniform_direction(30, 0, dtype=torch.float64)
    plain = lanczos(lambda v: diagonal * v, start, 8)
    tiny = lanczos(lambda v: 1e-30 * diagonal * v, start, 8)
    assert (tiny.alphas * 1e30).tolist() == pytest.approx(plain.alphas.tolist())
    assert tiny.steps == 8


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_of_the_operator_is_named(bad):
    sentence = "The operator returned NaN or infinity in Lanczos step 1"
    with pytest.raises(FloatingPointError, match=sentence):
        lanczos(lambda v: v * bad, torch.ones(3), 2)
    with pytest.raises(FloatingPointError, match=sentence):
        lanczos_batch(lambda v: v * bad, torch.ones(3, 2), 2)


def test_refusals():
    with pytest.raises(InputError, match="steps: found 0"):
        lanczos(lambda v: v, torch.ones(3), 0)
    with pytest.raises(InputError, match="steps: found 0"):
        lanczos_batch(lambda v: v, torch.ones(3, 1), 0)
    with pytest.raises(InputError, match="start_vector: found one that is zero"):
        lanczos(lambda v: v, torch.zeros(3), 1)
    with pytest.raises(InputError, match="start_vector: found shape"):
        lanczos(lambda v: v, torch.ones(3, 1), 1)
    with pytest.raises(InputError, match="start_vectors: found shape"):
        lanczos_batch(lambda v: v, torch.ones(3), 1)
    with pytest.raises(InputError, match="operator: found shape"):
        lanczos(lambda v: v[:2], torch.ones(3), 1)
    with pytest.raises(InputError, match="real numbers"):
        lanczos(lambda v: v, torch.ones(3, dtype=torch.int64), 1)
