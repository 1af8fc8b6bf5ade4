"""Likeness of kernels, alignment, and kernel regression against refits."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.numerics import kernel_matrices as matrices
from whynet.numerics.kernel_matrices import alignment, centered, regression, similarity


def features(rows: int = 30, columns: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def test_centering_takes_the_mean_feature_away() -> None:
    x = features() + 3
    y = x - x.mean(0)
    np.testing.assert_allclose(centered(x @ x.T), y @ y.T, atol=1e-12)


def test_likeness_sees_neither_rotation_nor_scale_nor_shift() -> None:
    x, other = features(), features(seed=1)
    turn, _ = np.linalg.qr(features(6, 6, seed=2))
    one = centered(x @ x.T)
    moved = 5 * x @ turn + 2
    assert similarity(one, one) == pytest.approx(1, abs=1e-14)
    assert similarity(one, centered(moved @ moved.T)) == pytest.approx(1, abs=1e-12)
    y = other - other.mean(0)
    wanted = np.linalg.norm((x - x.mean(0)).T @ y) ** 2 / (
        np.linalg.norm(one) * np.linalg.norm(y @ y.T)
    )
    assert similarity(one, centered(other @ other.T)) == pytest.approx(wanted, abs=1e-12)


def test_a_constant_kernel_aligns_with_nothing() -> None:
    labels = np.eye(4)[np.arange(40) % 4]
    constant = centered(np.full((40, 40), 7.3))
    assert alignment(constant, labels) == 0
    assert np.isnan(similarity(constant, centered(labels @ labels.T)))
    # Without centering it would reach one over the root of the number of classes.
    raw = labels @ labels.T
    assert raw.sum() / (np.linalg.norm(raw) * 40) == pytest.approx(0.5)


def test_the_kernel_of_the_targets_aligns_perfectly_and_shuffles_by_one_over_n() -> None:
    labels = np.eye(4)[np.arange(200) % 4]
    kernel = centered(labels @ labels.T)
    assert alignment(kernel, labels) == pytest.approx(1)
    assert alignment(kernel, np.ones((200, 2))) == 0
    random = np.random.default_rng(1)
    shuffled = [alignment(kernel, random.permutation(labels)) for _ in range(200)]
    # E <HKH, HLH> under shuffling is tr(HKH) tr(HLH) / (n - 1).
    wanted = np.trace(kernel) ** 2 / 199 / np.linalg.norm(kernel) ** 2
    assert np.mean(shuffled) == pytest.approx(wanted, rel=0.1)


def test_kernel_regression_is_ridge_regression_and_its_ridge_wins_when_left_out() -> None:
    x, new = features(25, 4), features(10, 4, seed=3)
    residual = x @ features(4, 2, seed=4) + 0.7 * features(25, 2, seed=5)
    found = regression(x @ x.T, new @ x.T, residual)
    scale = (x**2).sum() / 25

    def weights(rows: np.ndarray, targets: np.ndarray, ridge: float) -> np.ndarray:
        left = rows.T @ rows + ridge * scale * np.eye(4)
        return np.asarray(np.linalg.solve(left, rows.T @ targets))

    errors = []
    for ridge in matrices.RIDGES:
        kept = [np.arange(25) != i for i in range(25)]
        gaps = [x[i] @ weights(x[k], residual[k], ridge) - residual[i] for i, k in enumerate(kept)]
        errors.append(float((np.array(gaps) ** 2).sum()))
    assert found.ridge == matrices.RIDGES[int(np.argmin(errors))]
    np.testing.assert_allclose(found.least, new @ weights(x, residual, 1e-6), rtol=1e-6)
    np.testing.assert_allclose(found.chosen, new @ weights(x, residual, found.ridge), rtol=1e-6)


def test_a_kernel_of_zeros_adds_nothing() -> None:
    found = regression(np.zeros((5, 5)), np.zeros((2, 5)), features(5, 1))
    assert not found.least.any()
    assert not found.chosen.any()
