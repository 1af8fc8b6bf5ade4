"""Neural collapse and rank of features, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from whynet.numerics.class_geometry import collapse, covariance_ranks
from whynet.numerics.jackknife import groups_of


def simplex(classes: int) -> np.ndarray:
    return np.eye(classes) - 1 / classes


def test_a_simplex_is_full_collapse() -> None:
    labels = np.arange(40) % 4
    found = collapse(simplex(4)[labels] + 7.0, labels, 3 * simplex(4) + 1.0)
    assert found["variability"] == pytest.approx(0, abs=1e-12)
    assert found["norms"] == pytest.approx(0, abs=1e-12)
    assert found["angles"] == pytest.approx(0, abs=1e-12)
    assert found["alignment"] == pytest.approx(1)


def test_numbers_against_their_definitions() -> None:
    generator = np.random.default_rng(1)
    labels = np.repeat(np.arange(3), [5, 20, 9])
    rows = generator.standard_normal((34, 7)) + 2 * generator.standard_normal((3, 7))[labels]
    means = np.stack([rows[labels == c].mean(0) for c in range(3)])
    centered = means - means.mean(0)
    within = sum(np.cov(rows[labels == c].T, ddof=0) for c in range(3)) / 3
    between = centered.T @ centered / 3
    found = collapse(rows, labels, np.eye(3, 7))
    wanted = np.trace(within @ np.linalg.pinv(between, rcond=1e-9)) / 3
    assert found["variability"] == pytest.approx(wanted)
    length = np.linalg.norm(centered, axis=1)
    assert found["norms"] == pytest.approx(length.std() / length.mean())


def test_numbers_do_not_depend_on_scale_shift_or_rotation() -> None:
    generator = np.random.default_rng(2)
    labels = np.arange(60) % 3
    rows, weight = generator.standard_normal((60, 5)), generator.standard_normal((3, 5))
    turn = np.linalg.qr(generator.standard_normal((5, 5)))[0]
    one = collapse(rows, labels, weight)
    two = collapse(3 * rows @ turn + 1, labels, 0.2 * weight @ turn + 4)
    assert two == pytest.approx(one)


def test_two_classes_have_no_angles_and_equal_means_no_collapse() -> None:
    labels = np.arange(20) % 2
    rows = np.random.default_rng(3).standard_normal((20, 4))
    found = collapse(rows, labels, np.eye(2, 4))
    assert np.isnan(found["angles"])
    assert np.isfinite(found["variability"])
    assert np.isnan(list(collapse(np.ones((20, 4)), labels, np.eye(2, 4)).values())).all()


def test_the_rank_without_a_group_is_that_of_the_others() -> None:
    rows = np.random.default_rng(4).standard_normal((50, 6)) * np.arange(1, 7)
    groups = groups_of(np.zeros(50), 5)
    whole, left = covariance_ranks(rows, groups)
    values = np.linalg.eigvalsh(np.cov(rows[groups != 3].T))
    assert left[3] == pytest.approx(values.sum() ** 2 / (values**2).sum())
    assert 1 < whole < 6
    assert np.isnan(covariance_ranks(np.ones((50, 2)), groups)[0])
