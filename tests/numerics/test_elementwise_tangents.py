"""Compiled steps of GELU with a tangent, against the normal distribution of SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from whynet.numerics import shared_rows
from whynet.numerics.elementwise_tangents import gelu_tangents, smooth_gradients

TOLERANCE = {"float64": 2e-15, "float32": 1e-6}

EDGES = [0.0, -0.0, 1e-40, -1e-31, 1e-29, 13.2, -13.2, 38.5, -38.5, 200.0, -200.0]


def numbers(dtype: str, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    draw = np.random.default_rng(0)
    x = np.concatenate([EDGES, draw.uniform(-9, 9, count - len(EDGES))]).astype(dtype)
    return x, draw.standard_normal(count).astype(dtype)


def close(found: NDArray[Any], wanted: NDArray[Any]) -> bool:
    gap = np.abs(found.astype(np.float64) - wanted) / (1 + np.abs(wanted))
    return bool(gap.max() <= TOLERANCE[str(found.dtype)])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_gelu_tangents(dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_rows, "SHARED", 1000)
    x, along = numbers(dtype, 4001)
    wide = x.astype(np.float64)
    y = (wide * norm.cdf(wide)).astype(dtype)
    slope, tangent, bent = (np.full_like(x, np.nan) for _ in range(3))
    gelu_tangents(x, y, along, threads, (slope, tangent, bent))
    first = norm.cdf(wide) + wide * norm.pdf(wide)
    second = (2 - wide**2) * norm.pdf(wide)
    assert close(slope, first)
    assert close(tangent, first * along)
    assert close(bent, second * along)


def test_gelu_of_what_is_no_number() -> None:
    x = np.array([np.nan, 1.0])
    slope, tangent, bent = (np.zeros(2) for _ in range(3))
    gelu_tangents(x, x, np.ones(2), 1, (slope, tangent, bent))
    assert np.isnan([slope[0], tangent[0], bent[0]]).all()
    assert np.isfinite([slope[1], tangent[1], bent[1]]).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_smooth_gradients(dtype: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_rows, "SHARED", 1000)
    g, h, slope, bent = np.random.default_rng(1).standard_normal((4, 4001)).astype(dtype)
    by_x, by_t = np.full_like(g, np.nan), np.full_like(g, np.nan)
    smooth_gradients(g, h, slope, bent, threads, (by_x, by_t))
    wide = [a.astype(np.float64) for a in (g, h, slope, bent)]
    assert close(by_x, wide[0] * wide[2] + wide[1] * wide[3])
    assert close(by_t, wide[1] * wide[2])
