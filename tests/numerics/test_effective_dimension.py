"""The effective dimension against dense eigenvalues: brackets, intervals, deflation, invariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whynet.core.errors import InputError
from whynet.numerics.effective_dimension import (
    bracketed_dimension,
    bracketing_quadratures,
    dimension_samples,
    effective_dimension,
    together,
)
from whynet.numerics.probes import gaussian

SIZE = 60


def matrix(spectrum: np.ndarray, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum),) * 2))
    return torch.tensor(turn * spectrum @ turn.T, dtype=dtype)


def decaying(size: int = SIZE) -> np.ndarray:
    return np.asarray(np.geomspace(1e-5, 1.0, size))


def test_it_is_the_sum_and_the_trace_of_the_resolvent() -> None:
    values, dense = decaying(), matrix(decaying()).numpy()
    for ridge in (1e-6, 1e-2, 3.0):
        resolvent = np.linalg.solve(dense + ridge * np.eye(SIZE), dense)
        assert effective_dimension(values, ridge)[0] == pytest.approx(np.trace(resolvent))
    assert effective_dimension([0.0, -1e-12, 2.0], 2.0)[0] == 0.5


@pytest.mark.parametrize("steps", [2, 5, 12, 60, 80])
def test_every_probe_is_bracketed_whatever_the_number_of_steps(steps: int) -> None:
    dense = matrix(decaying())
    found = bracketing_quadratures(
        lambda v: dense @ v, SIZE, steps=steps, probes=9, seed=4, dtype=torch.float64
    )
    probes = gaussian(SIZE, 9, 4, dtype=torch.float64).numpy()
    probes *= SIZE**0.5 / np.linalg.norm(probes, axis=0)
    for ridge in (1e-4, 1e-2, 1.0):
        solved = np.linalg.solve(dense.numpy() + ridge * np.eye(SIZE), dense.numpy() @ probes)
        true = (probes * solved).sum(0)
        low, high = (dimension_samples(part, ridge) for part in (found.radau, found.gauss))
        assert (low <= true + 1e-8).all()
        assert (true <= high + 1e-8).all()
        if steps == 60:
            np.testing.assert_allclose(low, high, atol=1e-4 * SIZE)


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.float32, marks=pytest.mark.endurance), torch.float64]
)
@pytest.mark.parametrize("steps", [4, 30])
def test_its_interval_covers_with_an_outlier_removed_or_left_in(
    steps: int, dtype: torch.dtype
) -> None:
    """One eigenvalue 100 times the bulk; few steps only widen the interval."""
    spectrum = np.append(np.geomspace(0.05, 1.0, SIZE - 1), 100.0)
    wide = matrix(spectrum)
    dense, ridge = wide.to(dtype), 0.3
    true = (spectrum / (spectrum + ridge)).sum()
    top = torch.linalg.eigh(wide)[1][:, -1:].to(dtype)
    for basis, known in ((top, spectrum[-1:]), (None, np.zeros(0))):
        hits = 0
        for seed in range(100):
            found = bracketing_quadratures(
                lambda v: dense @ v, SIZE, steps=steps, probes=30, seed=seed, deflation=basis,
                dtype=dtype,
            )  # fmt: skip
            estimate = bracketed_dimension(found, known, ridge)
            assert estimate.kind == "interval"
            hits += estimate.low <= true <= estimate.high
        assert hits >= 88  # 95 % less three standard deviations of this count
        assert hits < 100 or steps == 4


def test_rounds_join_and_few_probes_are_indicative() -> None:
    dense = matrix(decaying())
    rounds = [
        bracketing_quadratures(
            lambda v: dense @ v, SIZE, steps=30, probes=15, seed=seed, dtype=torch.float64
        )
        for seed in range(8)
    ]
    one = bracketed_dimension(rounds[0], np.zeros(0), 0.01)
    all_of_them = bracketed_dimension(together(rounds), np.zeros(0), 0.01)
    assert (one.kind, all_of_them.kind) == ("indicative", "interval")
    assert all_of_them.width < 0.6 * one.width


def test_a_projection_ends_after_two_steps() -> None:
    """The Krylov space is invariant: both ends are the same."""
    dense = matrix(np.repeat([0.0, 1.0], SIZE // 2))
    found = bracketing_quadratures(
        lambda v: dense @ v, SIZE, steps=10, probes=30, seed=0, dtype=torch.float64
    )
    for ridge in (0.5, 1e-3):
        low, high = (dimension_samples(part, ridge) for part in (found.radau, found.gauss))
        np.testing.assert_allclose(low, high, atol=1e-6)
        estimate = bracketed_dimension(found, np.zeros(0), ridge)
        assert estimate.low <= SIZE / 2 / (1 + ridge) <= estimate.high


def test_a_ridge_within_round_off_is_not_resolved() -> None:
    dense = matrix(decaying(), torch.float32)
    found = bracketing_quadratures(lambda v: dense @ v, SIZE, steps=8, probes=3, seed=0)
    assert found.resolves(1e-4)
    assert not found.resolves(1e-6)


def test_what_cannot_be_asked_is_refused() -> None:
    for options, name in (({"steps": 1}, "steps"), ({"deflation": torch.eye(SIZE)}, "deflation")):
        settings = {"steps": 5, "probes": 3, "seed": 0, **options}
        with pytest.raises(InputError, match=name):
            bracketing_quadratures(lambda v: v, SIZE, **settings)
