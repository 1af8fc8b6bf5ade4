"""Thick restarts, XTrace, converged quadratures, moments and log-determinants: a known spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.numerics import diagonal_moments as moments_of_diagonals
from whynet.numerics.converged_quadrature import converged_quadrature
from whynet.numerics.diagonal_moments import DiagonalMoments, diagonal_moments
from whynet.numerics.effective_dimension import bracketing_quadratures
from whynet.numerics.exchangeable_trace import exchangeable_samples, exchangeable_trace
from whynet.numerics.log_determinant import bracketed_log_determinant, log_determinant
from whynet.numerics.probes import rademacher
from whynet.numerics.thick_restart import Eigenpairs, extreme_eigenpairs

SIZE = 200
BULK = np.concatenate([[-5.0, -2.0], np.geomspace(1e-4, 1.0, SIZE - 12), np.linspace(3, 100, 10)])


def matrix(values: np.ndarray, dtype: torch.dtype = torch.float64) -> Tensor:
    draws = np.random.default_rng(7).standard_normal((len(values), len(values)))
    turn, _ = np.linalg.qr(draws)
    return torch.tensor(turn * values @ turn.T, dtype=dtype)


MIXED = matrix(BULK)
POSITIVE = matrix(np.abs(BULK))


def pairs(dtype: torch.dtype = torch.float64, **options: float) -> Eigenpairs:
    held = MIXED.to(dtype)
    settings = {"largest": 8, "smallest": 2, "dtype": dtype, **options}
    return extreme_eigenpairs(lambda v: held @ v, SIZE, **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("room", [None, 13])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
def test_eigenpairs_lie_within_their_bounds(
    dtype: torch.dtype, room: int | None, tolerance: float
) -> None:
    found = pairs(dtype, room=room, tolerance=tolerance)
    true = np.concatenate([BULK[::-1][:8], BULK[:2]])
    error = np.abs(found.values - true)
    assert found.converged
    assert (error <= tolerance * np.maximum(np.abs(true), 1.0) + found.roundoff).all()
    assert (error <= found.residuals + found.roundoff).all()
    # The gap between Ritz values can be larger than that between eigenvalues.
    assert (error <= 2 * found.estimates + found.roundoff).all()
    vectors = found.vectors.double()
    gram = vectors.T @ vectors
    assert (gram - torch.eye(10)).abs().max() < (1e-5 if dtype == torch.float32 else 1e-12)
    rest = MIXED @ vectors - vectors * torch.tensor(found.values)
    np.testing.assert_allclose(
        rest.norm(dim=0).numpy(), found.residuals, atol=found.roundoff + 1e-12
    )
    if room:
        assert found.products > room, "it must have restarted"
        assert len(found.alphas) == 13


def test_the_angle_bounds_how_far_the_span_is_off() -> None:
    _, exact = np.linalg.eigh(MIXED.numpy())
    for seed in range(5):
        found = pairs(tolerance=1e-4, seed=seed, smallest=0)
        inside = exact[:, -8:].T @ found.vectors.numpy()
        sine = np.sqrt(max(0.0, 1 - np.linalg.svd(inside)[1].min() ** 2))
        assert sine <= found.angle + 1e-9
        assert found.angle < 1


def test_a_run_that_is_cut_off_says_so_and_an_invariant_space_ends_it() -> None:
    assert not pairs(products=11, tolerance=1e-9).converged
    small = matrix(np.array([3.0, 2.0, 1.0]))
    found = extreme_eigenpairs(lambda v: small @ v, 3, largest=2, smallest=1, dtype=torch.float64)
    np.testing.assert_allclose(found.values, [3, 2, 1], rtol=1e-12)
    with pytest.raises(InputError, match="largest: found 3 largest and 1 smallest of 3"):
        extreme_eigenpairs(lambda v: small @ v, 3, largest=3, smallest=1)
    with pytest.raises(FloatingPointError):
        extreme_eigenpairs(lambda v: v * torch.nan, 3, largest=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_single_eigenvalue_is_sought_until_it_is_found(dtype: torch.dtype) -> None:
    """One Ritz value alone has no gap, and was taken for converged after a single product."""
    found = pairs(dtype, largest=1, smallest=0)
    assert found.values[0] == pytest.approx(100, rel=1e-3)
    assert 5 < found.products < 40
    assert found.residuals[0] < 10


def test_xtrace_is_near_and_covers() -> None:
    truth = float(MIXED.trace())
    found = [
        exchangeable_trace(
            exchangeable_samples(
                lambda v: MIXED @ v, SIZE, products=30, seed=seed, dtype=torch.float64
            )
        )
        for seed in range(300)
    ]
    covered = sum(each.low <= truth <= each.high for each in found)
    assert covered >= 0.93 * 300
    assert np.mean([abs(each.value / truth - 1) for each in found]) < 7e-3
    values = np.array([each.value for each in found])
    assert abs(values.mean() - truth) < 4 * values.std() / 300**0.5, "it is unbiased"
    assert {each.kind for each in found} == {"interval"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("flat", np.linspace(0.2, 2, 150)),
        ("one outlier", np.concatenate([[100.0], np.linspace(0.2, 2, 149)])),
        ("both signs", np.random.default_rng(0).standard_normal(150)),
        ("decay", 0.9 ** np.arange(150)),
        ("drop before", np.concatenate([np.ones(14), np.full(136, 1e-2)])),
        ("drop past", np.concatenate([np.ones(16), np.full(134, 1e-3)])),
        ("drop far past", np.concatenate([np.ones(20), np.full(130, 1e-9)])),
    ],
)
def test_xtrace_covers_with_15_vectors_whatever_the_spectrum(name: str, values: np.ndarray) -> None:
    """Test vectors are isotropic, so that diagonal matrices stand for all."""
    column, covered, draws = torch.tensor(values)[:, None], 0, 60
    for seed in range(draws):
        found = exchangeable_trace(
            exchangeable_samples(
                lambda v: column * v, 150, products=30, seed=seed, dtype=torch.float64
            )
        )
        assert found.kind == "interval"
        slack = 1e-10 * np.abs(values).sum()
        covered += found.low - slack <= values.sum() <= found.high + slack
    assert covered >= 54, "93 % of 60 but for chance"


def test_t_over_the_samples_of_xtrace_would_not_cover() -> None:
    """The control of the test above: what the samples share is most of the error."""
    values = np.concatenate([np.ones(16), np.full(134, 1e-3)])
    column, covered = torch.tensor(values)[:, None], 0
    for seed in range(60):
        samples = exchangeable_samples(
            lambda v: column * v, 150, products=30, seed=seed, dtype=torch.float64
        ).samples
        half = 2.145 * samples.std(ddof=1) / 15**0.5
        covered += abs(samples.mean() - values.sum()) <= half
    assert covered < 48


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_band_of_a_spectral_measure_covers(dtype: torch.dtype) -> None:
    held, places = MIXED.to(dtype), np.array([-3.0, -1e-3, 1e-3, 0.01, 0.1, 0.5, 2.0, 50.0])
    true = (BULK[:, None] <= places).mean(0)
    inside, widths = [], []
    for seed in range(40):
        found = converged_quadrature(
            lambda v: held @ v, SIZE, steps=25, probes=30, seed=1000 * seed, dtype=dtype
        )
        band = found.band(places)
        assert band.kind == "interval"
        inside.append((band.low - 1e-9 <= true) & (true <= band.high + 1e-9))
        widths.append(band.high - band.low)
    assert np.mean(inside) >= 0.93
    assert np.mean(inside, axis=0).min() >= 0.8
    assert np.mean(widths) < 0.25
    few = converged_quadrature(lambda v: held @ v, SIZE, probes=4, dtype=dtype).band(places)
    assert few.kind == "indicative"


def test_xtrace_is_exact_where_the_sketch_spans_the_range() -> None:
    low_rank = matrix(np.concatenate([np.zeros(SIZE - 5), [1, 2, 3, -4, 5]]))
    samples = exchangeable_samples(
        lambda v: low_rank @ v, SIZE, products=16, seed=0, dtype=torch.float64
    )
    np.testing.assert_allclose(samples.samples, 7.0, rtol=1e-8)
    small = matrix(np.array([3.0, 2.0, 1.0]))
    whole = exchangeable_samples(lambda v: small @ v, 3, products=8, seed=0, dtype=torch.float64)
    assert exchangeable_trace(whole).kind == "exact"
    assert whole.samples[0] == pytest.approx(6.0)
    with pytest.raises(InputError, match="products: found 7"):
        exchangeable_samples(lambda v: small @ v, 3, products=7, seed=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converged_eigenvalues_have_their_exact_weight(dtype: torch.dtype) -> None:
    held = MIXED.to(dtype)
    for seed in range(5):
        found = converged_quadrature(lambda v: held @ v, SIZE, seed=10 * seed, dtype=dtype)
        assert len(found.known) >= 10
        assert np.isin(np.round(found.known[:10], 3), np.round(BULK[::-1][:10], 3)).all()
        places, weights = found.measure()
        assert weights.sum() == pytest.approx(1.0)
        assert (np.diff(places) >= 0).all()
        assert found.distance(BULK) < 4e-4 * 100
        plain = converged_quadrature(lambda v: held @ v, SIZE, seed=10 * seed, dtype=dtype, steps=9)
        assert found.distance(BULK) < plain.distance(BULK)


def drawn(seed: int, known: int) -> DiagonalMoments:
    _, vectors = np.linalg.eigh(MIXED.numpy())
    basis = torch.tensor(vectors[:, -known:]) if known else None
    return diagonal_moments(
        lambda v: MIXED @ v,
        SIZE,
        seed=seed,
        blocks=(50, 30, 120),
        deflation=basis,
        dtype=torch.float64,
    )


@pytest.mark.parametrize("known", [0, 6])
def test_moments_cover_and_are_unbiased(known: int) -> None:
    diagonal = MIXED.diagonal().numpy()
    blocks = [diagonal[:50].sum(), diagonal[50:80].sum(), diagonal[80:].sum()]
    truths = [*blocks, diagonal.sum(), float(MIXED.norm())]
    hits, offs = [], []
    for seed in range(300):
        found = drawn(seed, known)
        every = [*found.block_traces(), found.trace(), found.frobenius_norm()]
        hits.append([e.low <= t <= e.high for e, t in zip(every, truths, strict=True)])
        offs.append((found.diagonal - diagonal) / found.error)
        assert found.trace().value == pytest.approx(found.diagonal.sum())
    share = np.mean(hits, axis=0)
    assert (share[:4] > 0.91).all() and (share[:4] < 0.99).all(), share
    # The squared norm is skewed where nothing is known: one eigenvalue carries it.
    assert share[4] > (0.9 if known else 0.85), share
    assert abs(np.mean(offs)) < 0.02
    assert 0.9 < np.std(offs) < 1.15


def test_what_is_known_tightens_the_intervals() -> None:
    assert drawn(0, 6).trace().width < 0.3 * drawn(0, 0).trace().width
    with pytest.raises(InputError, match="blocks: found sizes that add up to 3"):
        diagonal_moments(lambda v: v, 4, blocks=(1, 2))
    with pytest.raises(InputError, match="probes: found 1"):
        diagonal_moments(lambda v: v, 4, probes=1)


@pytest.mark.parametrize("ridge", [1.0, 1e-2])
def test_log_determinants_cover_with_few_steps_too(ridge: float) -> None:
    values, vectors = np.linalg.eigh(POSITIVE.numpy())
    known, basis = values[-6:], torch.tensor(vectors[:, -6:])
    truth = log_determinant(values, SIZE, ridge)
    assert truth == pytest.approx(np.log(values + ridge).sum(), rel=1e-12)
    for steps in (4, 16):
        hits = 0
        for seed in range(60):
            brackets = bracketing_quadratures(
                lambda v: POSITIVE @ v,
                SIZE,
                steps=steps,
                probes=30,
                seed=seed,
                deflation=basis,
                dtype=torch.float64,
            )
            found = bracketed_log_determinant(brackets, known, ridge)
            hits += found.low <= truth <= found.high
        assert hits >= 0.88 * 60
    assert found.width < 0.05 * abs(truth) or ridge == 1.0
    with pytest.raises(InputError, match="ridge: found 1e-18"):
        bracketed_log_determinant(brackets, known, 1e-18)


@pytest.mark.parametrize("held", [SIZE, 7 * SIZE, 1000 * SIZE])
def test_probes_in_groups_give_the_moments_of_all_together(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moments_of_diagonals, "HELD", held)
    _, vectors = np.linalg.eigh(POSITIVE.numpy())
    known = torch.tensor(vectors[:, -9:].copy())
    seen: list[Tensor] = []
    drawn: list[Tensor] = []

    def draw(*given: object, **options: object) -> Tensor:
        drawn.append(rademacher(*given, **options))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr(moments_of_diagonals, "rademacher", draw)

    def matmat(columns: Tensor) -> Tensor:
        seen.append(columns)
        return POSITIVE @ columns

    found = diagonal_moments(
        matmat, SIZE, probes=30, blocks=(50, 150), deflation=known, dtype=torch.float64
    )
    assert max(columns.shape[1] for columns in seen) <= max(1, held // SIZE)
    columns = torch.cat(seen, dim=1)
    assert torch.equal(columns[:, :9], known)
    rest = columns[:, 9:]
    assert rest.shape == (SIZE, 30)
    signs = torch.cat(drawn, dim=1)
    samples = signs * (POSITIVE @ rest)
    exact = ((POSITIVE @ known) * known).sum(1)
    assert found.diagonal == pytest.approx((exact + samples.mean(1)).numpy(), abs=1e-9)
    assert found.error == pytest.approx((samples.std(1) / 30**0.5).numpy(), rel=1e-9)
    assert found.block_samples[:, 0] == pytest.approx(samples[:50].sum(0).numpy(), abs=1e-9)
    assert found.square_samples == pytest.approx(
        (POSITIVE @ rest).square().sum(0).numpy(), rel=1e-9
    )
