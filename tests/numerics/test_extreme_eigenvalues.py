"""Ends of the spectrum: misses counted over thousands of start vectors, closed forms, rounds."""

import math

import numpy as np
import pytest
import torch

from whynet.core.errors import InputError
from whynet.numerics.extreme_eigenvalues import extreme_eigenvalues, read_extremes
from whynet.numerics.krylov_bounds import (
    christoffel_upper_end,
    ends_of_spectrum,
    kuczynski_wozniakowski,
    least_weight,
)
from whynet.numerics.lanczos import lanczos, lanczos_batch, tridiagonal
from whynet.numerics.probes import uniform_direction


def row(*values):
    return torch.tensor(values, dtype=torch.float64)


def line(low, high, count):
    return torch.linspace(low, high, count, dtype=torch.float64)


SPECTRA = {
    "uniform": line(-1, 1, 100),
    "outlier": torch.cat([line(0, 1, 99), row(100)]),
    "hessian": torch.cat([1e-3 * torch.ones(90).double(), row(-0.2, -0.1, 1, 2, 3, 9, 10)]),
    "close pair": torch.cat([line(0, 1, 98), row(1.0001, 1.0002)]),
    "rank one": torch.cat([0 * line(0, 1, 99), row(1)]),
    "dense edge": 1 - line(0, 1, 100) ** 4,
    "negative": -(10 ** line(-3, 0, 100)),
}


def starts(size, count, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, count, generator=generator, dtype=torch.float64)


def ends(values, steps, level, runs):
    """Ends of many runs on one spectrum; upper end a priori, from the true spread, beside them."""
    values = values.double().sort().values
    size = len(values)
    batch = lanczos_batch(lambda v: values[:, None] * v, starts(size, runs, 0), steps + 1)
    alphas, betas = batch.alphas[:, :steps], batch.betas[:, :steps]
    ritz = torch.linalg.eigvalsh(tridiagonal(alphas, betas[:, : steps - 1]))[:, [0, -1]]
    found = np.array(
        [
            ends_of_spectrum(a, b, tuple(r), size, level)
            for a, b, r in zip(alphas.tolist(), betas.tolist(), ritz.tolist(), strict=True)
        ]
    )
    spread = float(values[-1] - values[0])
    eps = kuczynski_wozniakowski(size, steps, (1 - level) / 2)
    slack = 1e-12 * float(values.abs().max())
    truth = float(values[0]) + slack, float(values[-1]) - slack
    priori = ritz[:, 1].numpy() + eps * spread
    return found[:, 0] > truth[0], found[:, 1] < truth[1], priori < truth[1]


@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [2, 5, 15])
def test_ends_miss_at_most_as_often_as_promised(name, steps):
    # 600 draws at a promised 25 % of misses: three standard deviations are 5.3 %.
    low, high, priori = ends(SPECTRA[name], steps, level=0.5, runs=600)
    for missed in (low, high, priori):
        assert missed.mean() <= 0.25 + 0.053


@pytest.mark.parametrize("name", SPECTRA)
def test_no_miss_in_a_thousand_at_the_default_level(name):
    low, high, _ = ends(SPECTRA[name], 10, level=0.9999, runs=1000)
    assert not low.any()
    assert not high.any()


def test_bound_is_sharp_on_rank_one_with_one_step():
    # A = e e^T: misses exactly where the component along e is below the least weight.
    share = ends(SPECTRA["rank one"], 1, level=0.5, runs=4000)[1].mean()
    assert 0.25 - 0.021 <= share <= 0.25 + 0.021
    assert 0.015 <= ends(SPECTRA["rank one"], 1, level=0.95, runs=4000)[1].mean() <= 0.035


def test_knowing_the_run_beats_the_bound_a_priori():
    values = SPECTRA["outlier"].double()
    run = lanczos(lambda v: values * v, uniform_direction(100, 2, dtype=torch.float64), 12)
    betas = [*run.betas.tolist(), run.residual_norm]
    top = float(run.eigen()[0][-1])
    end = christoffel_upper_end(run.alphas.tolist(), betas, top, least_weight(100, 0.025))
    assert end - top < 1e-6
    assert kuczynski_wozniakowski(100, 12, 0.025) * 100 > 1


def test_sharper_than_the_published_constant():
    for size in (10, 1000, 10**6):
        for steps in (10, 50):
            eps = kuczynski_wozniakowski(size, steps, 0.025)
            published = 1.648 * math.sqrt(size) * math.exp(-math.sqrt(eps) * (2 * steps - 1))
            assert published >= 0.025
    assert kuczynski_wozniakowski(1, 3, 0.1) == 0


def test_least_weight_is_the_quantile_of_a_component():
    squares = torch.nn.functional.normalize(starts(20, 20000, 1), dim=0)[0].square()
    assert float((squares < least_weight(20, 0.1)).double().mean()) == pytest.approx(0.1, abs=0.01)
    with pytest.raises(InputError, match="miss: found 0"):
        least_weight(3, 0)
    with pytest.raises(InputError, match="size: found 0"):
        least_weight(0, 0.1)
    with pytest.raises(InputError, match="steps: found 0"):
        kuczynski_wozniakowski(3, 0, 0.1)


def rotated(values, dtype, seed=0):
    size = len(values)
    generator = torch.Generator().manual_seed(seed)
    q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    a = (q * values.double()) @ q.T
    return ((a + a.T) / 2).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("steps", [10, 60])
def test_certified_ends_hold_on_dense_matrices(dtype, name, steps):
    a = rotated(SPECTRA[name], dtype)
    exact = np.linalg.eigvalsh(a.double().numpy())
    for seed in range(20):
        found = extreme_eigenvalues(a.mv, len(a), k=3, steps=steps, seed=seed, dtype=dtype)
        top = found.top[0]
        assert top.kind == found.smallest.kind == "certified"
        assert top.low <= exact[-1] <= top.high
        assert found.smallest.low <= exact[0] <= found.smallest.high
        for rank, bar in enumerate(found.top[1:], start=2):
            assert bar.kind == "indicative"
            assert bar.value <= exact[-rank] + found.roundoff
            assert np.any((exact >= bar.low) & (exact <= bar.high))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_vectors_values_and_residuals(dtype):
    a = rotated(SPECTRA["hessian"], dtype)
    found = extreme_eigenvalues(a.mv, len(a), k=4, steps=40, seed=1, dtype=dtype, unit="ratio")
    tolerance = 1e3 * torch.finfo(dtype).eps
    assert [bar.value for bar in found.top] == pytest.approx([10, 9, 3, 2], abs=10 * tolerance)
    assert found.smallest.value == pytest.approx(-0.2, abs=10 * tolerance)
    v = found.vectors
    assert v.shape == (len(a), 4)
    assert v.dtype == dtype
    values = torch.tensor([bar.value for bar in found.top], dtype=dtype)
    assert (a @ v - v * values).norm(dim=0).max() < 10 * tolerance
    assert max(found.residuals) < 10 * tolerance
    assert found.top[0].unit == "ratio"
    assert found.top[0].width < 1e-3


def test_residuals_are_those_of_the_vectors():
    a = rotated(SPECTRA["uniform"], torch.float64)
    found = extreme_eigenvalues(a.mv, 100, k=3, steps=12, dtype=torch.float64)
    values = torch.tensor([bar.value for bar in found.top], dtype=torch.float64)
    true = (a @ found.vectors - found.vectors * values).norm(dim=0)
    assert found.residuals == pytest.approx(true.tolist(), rel=1e-9)
    assert found.residuals[0] > 1e-4


def test_rounds_continue_and_tighten():
    a = rotated(SPECTRA["uniform"], torch.float64)
    first = extreme_eigenvalues(a.mv, 100, k=2, steps=8, seed=3, dtype=torch.float64)
    second = extreme_eigenvalues(a.mv, 100, k=2, steps=8, state=first.krylov)
    whole = extreme_eigenvalues(a.mv, 100, k=2, steps=16, seed=3, dtype=torch.float64)
    assert second.krylov.steps == 16
    assert second.top[0].low >= first.top[0].low
    assert second.top[0].high <= first.top[0].high
    assert second.smallest.low >= first.smallest.low
    assert second.top[0].width < first.top[0].width / 3
    assert second.top[0].high == pytest.approx(whole.top[0].high, rel=1e-10)
    assert read_extremes(second.krylov, k=2).top[0] == second.top[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-20])
@pytest.mark.parametrize("size", [1, 2, 50])
def test_multiples_of_the_identity(dtype, value, size):
    found = extreme_eigenvalues(lambda v: value * v, size, k=5, steps=7, dtype=dtype)
    slack = 100 * torch.finfo(dtype).eps * abs(value)
    assert len(found.top) == 1
    assert found.top[0].value == pytest.approx(value, abs=slack)
    assert found.top[0].width <= slack
    assert found.top[0].low <= value <= found.top[0].high
    assert found.smallest.low <= value <= found.smallest.high


def test_a_copy_of_the_first_is_not_certified_away():
    values = torch.tensor([5.0, 5.0, 1.0, 0.0], dtype=torch.float64)
    found = extreme_eigenvalues(lambda v: values * v, 4, k=2, steps=4, dtype=torch.float64)
    assert [bar.value for bar in found.top] == pytest.approx([5, 1])
    assert found.top[1].kind == "indicative"
    assert "not certified" in found.top[1].how


def test_refusals():
    with pytest.raises(InputError, match="k: found 0"):
        extreme_eigenvalues(lambda v: v, 3, k=0)
    with pytest.raises(InputError, match="level: found 2"):
        extreme_eigenvalues(lambda v: v, 3, level=2)
    with pytest.raises(InputError, match="steps: found 0"):
        extreme_eigenvalues(lambda v: v, 3, steps=0)
    state = lanczos(lambda v: v, uniform_direction(4, 0), 1)
    with pytest.raises(InputError, match="state: found vectors of size 4; wanted size 3"):
        extreme_eigenvalues(lambda v: v, 3, state=state)
    with pytest.raises(FloatingPointError):
        extreme_eigenvalues(lambda v: v * math.nan, 3)
    with pytest.raises(InputError, match="size: found 0"):
        extreme_eigenvalues(lambda v: v, 0)
