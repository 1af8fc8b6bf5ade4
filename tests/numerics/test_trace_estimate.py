"""Traces: coverage over a thousand seeds, exact cases, deflation, probes."""

import math

import numpy as np
import pytest
import torch

from whynet.core.errors import InputError
from whynet.numerics.deflation import check_orthonormal, deflated, project_out
from whynet.numerics.probes import rademacher, uniform_direction
from whynet.numerics.trace_estimate import deflated_trace, exact_trace, trace_samples


def outlier_matrix(size, dtype=torch.float64, seed=0):
    """Random bulk in [-1, 1] with one eigenvalue 100, and the eigenvector of that one."""
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    values = torch.cat([torch.linspace(-0.5, 1, size - 1), torch.tensor([100.0])]).double()
    a = (q * values) @ q.T
    return ((a + a.T) / 2).to(dtype), q[:, -1:].to(dtype), float(values.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [50, 100])
def test_deflated_trace_covers(dtype, size):
    a, top, truth = outlier_matrix(size, dtype)
    known = exact_trace(lambda v: a @ v, top)
    assert known == pytest.approx(100, rel=1e-5)
    bars = []
    for seed in range(1000):
        samples = trace_samples(
            lambda v: a @ v, size, probes=30, seed=seed, deflation=top, dtype=dtype
        )
        bars.append(deflated_trace(known, samples))
    assert 0.93 <= np.mean([bar.low <= truth <= bar.high for bar in bars]) <= 0.99
    assert {(bar.kind, bar.over) for bar in bars} == {("interval", "probes")}
    assert np.mean([bar.width for bar in bars]) < 10


def test_deflation_is_what_narrows_it():
    a, top, _ = outlier_matrix(60)
    plain, deflate = (
        trace_samples(lambda v: a @ v, 60, probes=200, seed=0, deflation=q, dtype=torch.float64)
        for q in (None, top)
    )
    assert deflate.std() < plain.std() / 20


def test_deflation_by_any_basis_is_unbiased():
    a, _, truth = outlier_matrix(40)
    q = torch.linalg.qr(torch.randn(40, 5, dtype=torch.float64, generator=torch.Generator()))[0]
    known = exact_trace(lambda v: a @ v, q)
    samples = trace_samples(
        lambda v: a @ v, 40, probes=4000, seed=1, deflation=q, dtype=torch.float64
    )
    bar = deflated_trace(known, samples, level=0.999)
    assert bar.low <= truth <= bar.high
    assert abs(known - truth) > 1


def test_diagonal_matrix_is_exact_for_every_probe():
    diagonal = torch.arange(1.0, 11.0, dtype=torch.float64)
    samples = trace_samples(
        lambda v: diagonal[:, None] * v, 10, probes=40, seed=0, dtype=torch.float64
    )
    assert samples.tolist() == [55.0] * 40
    assert deflated_trace(0.0, samples).kind == "indicative"


@pytest.mark.parametrize("value", [0.0, -4.0])
def test_size_one_and_zero(value):
    samples = trace_samples(lambda v: value * v, 1, probes=3, seed=0)
    assert samples.tolist() == [value] * 3


def test_whole_space_deflated_leaves_nothing():
    a, _, truth = outlier_matrix(20)
    eye = torch.eye(20, dtype=torch.float64)
    assert exact_trace(lambda v: a @ v, eye) == pytest.approx(truth)
    rest = trace_samples(lambda v: a @ v, 20, probes=3, seed=0, deflation=eye, dtype=torch.float64)
    assert np.abs(rest).max() < 1e-10
    assert exact_trace(lambda v: a @ v, eye[:, :0]) == 0.0


def test_seeds_and_rounds():
    a, _, _ = outlier_matrix(20, torch.float32)
    first, again, other = (trace_samples(lambda v: a @ v, 20, probes=4, seed=s) for s in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_nan_and_refusals():
    with pytest.raises(FloatingPointError, match="its trace cannot be measured"):
        trace_samples(lambda v: v * math.nan, 3, probes=2, seed=0)
    with pytest.raises(InputError, match="probes: found 0"):
        trace_samples(lambda v: v, 3, probes=0, seed=0)
    with pytest.raises(InputError, match="deflation: found shape"):
        trace_samples(lambda v: v, 3, probes=2, seed=0, deflation=torch.eye(4))
    with pytest.raises(InputError, match="orthonormal Q"):
        exact_trace(lambda v: v, 2 * torch.eye(3))
    with pytest.raises(InputError, match="orthonormal Q"):
        deflated(lambda v: v, torch.full((3, 1), math.nan))


def test_deflated_operator_has_the_rest_of_the_spectrum():
    a, top, _ = outlier_matrix(30)
    rest = deflated(lambda v: a @ v, top)(torch.eye(30, dtype=torch.float64))
    expected = torch.linalg.eigvalsh(a)
    expected[-1] = 0
    assert (torch.linalg.eigvalsh(rest) - expected.sort().values).abs().max() < 1e-10
    check_orthonormal(top, 30)
    assert (top.T @ project_out(top, torch.ones(30, 2, dtype=torch.float64))).abs().max() < 1e-14


def test_probes():
    z = rademacher(1000, 50, 3, dtype=torch.float64)
    assert z.shape == (1000, 50)
    assert set(z.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(z.mean())) < 0.02
    assert float((z.T @ z / 1000 - torch.eye(50)).abs().max()) < 0.2
    assert torch.equal(z.float(), rademacher(1000, 50, 3))
    v = uniform_direction(500, 4)
    assert float(v.norm()) == pytest.approx(1)
    assert torch.equal(v, uniform_direction(500, 4, dtype=torch.float64).float())
    with pytest.raises(InputError, match="size: found 0"):
        rademacher(0, 1, 0)
