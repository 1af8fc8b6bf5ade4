"""Averages of pairs of activations against quadrature, mpmath's arc cosine, and Price's theorem."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mpmath import mp
from scipy.special import erf, expit
from scipy.stats import norm

from whynet.numerics.gaussian_averages import CLOSED, Averages, leaky_relu
from whynet.numerics.hermite_averages import Series
from whynet.numerics.rectified_entries import rectified_then_dense

VARIANCES = np.array([0.3, 1.0, 2.5, 1.0, 0.7])
OTHERS = np.array([0.9, 1.0, 0.4, 1.0, 0.7])
COVARIANCES = np.array([0.2, -0.6, 0.9, 0.999, -0.7])

SMOOTH: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "linear": (lambda z: z, np.ones_like),
    "erf": (erf, lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2))),
    "sin": (np.sin, np.cos),
    "cos": (np.cos, lambda z: -np.sin(z)),
    "gelu": (lambda z: z * norm.cdf(z), lambda z: norm.cdf(z) + z * norm.pdf(z)),
}


def quadrature(function: Callable[..., np.ndarray], a: float, b: float, c: float) -> float:
    """Average a product by a two-dimensional Gauss-Hermite rule."""
    points, weights = np.polynomial.hermite_e.hermegauss(90)
    weights = weights / weights.sum()
    first = np.sqrt(a) * points[:, None]
    rest = np.sqrt(max(b - c**2 / a, 0.0))
    second = c / np.sqrt(a) * points[:, None] + rest * points[None]
    return float(weights @ (function(first) * function(second)) @ weights)


@pytest.mark.parametrize("name", SMOOTH)
def test_closed_forms_and_series_are_what_quadrature_finds(name: str) -> None:
    series = Series(*SMOOTH[name])
    for found in (CLOSED[name], series.averages):
        both = found(VARIANCES, OTHERS, COVARIANCES)
        for function, values in zip(SMOOTH[name], both, strict=True):
            wanted = [
                quadrature(function, *three)
                for three in zip(VARIANCES, OTHERS, COVARIANCES, strict=True)
            ]
            assert np.allclose(values, wanted, rtol=0, atol=1e-11)
    assert max(series.error(np.concatenate([VARIANCES, OTHERS]))) < 1e-13


@pytest.mark.parametrize("averages", [*CLOSED.values(), leaky_relu(0.3)])
def test_slopes_are_the_derivative_by_the_covariance(averages: Averages) -> None:
    """Price's theorem, by central differences inside the open interval."""
    a, b, c = VARIANCES[:3], OTHERS[:3], COVARIANCES[:3] * 0.5
    step = 1e-5
    up, down = averages(a, b, c + step)[0], averages(a, b, c - step)[0]
    assert np.allclose((up - down) / (2 * step), averages(a, b, c)[1], rtol=1e-7, atol=1e-9)


def test_the_bound_on_what_a_series_leaves_out_holds_and_is_not_idle() -> None:
    """A tanh of large arguments, of which few terms are kept: errors below their bound."""
    long = Series(np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    short = Series(long.value, long.slope, terms=12)
    a = np.array([1.0, 4.0, 9.0])
    for share in (-1.0, -0.7, 0.2, 0.95, 1.0):
        exact, cut = (one.averages(a, a, share * a) for one in (long, short))
        for place in range(2):
            miss = np.abs(exact[place] - cut[place])
            bound = np.array([short.error(a[i : i + 1])[place] for i in range(3)])
            assert np.all(miss <= bound + 1e-6)
            if share == 1.0:  # there nothing cancels, and the bound is the error
                assert np.allclose(miss, bound, rtol=0.05, atol=1e-6)


def test_sigmoid_series_beside_tanh() -> None:
    """`sigmoid(z) = (1 + tanh(z/2))/2`, and an odd function has mean zero."""
    sigmoid = Series(expit, lambda z: expit(z) * expit(-z))
    tanh = Series(np.tanh, lambda z: 1 - np.tanh(z) ** 2)
    a, b, c = VARIANCES, OTHERS, COVARIANCES
    wanted = (1 + tanh.averages(a / 4, b / 4, c / 4)[0]) / 4
    assert np.allclose(sigmoid.averages(a, b, c)[0], wanted, atol=1e-13)


@pytest.mark.parametrize(
    "cosine", [0.0, 0.1, 0.5, 0.9, 0.999, 1 - 1e-8, 1 - 1e-12, 1.0, -0.3, -1.0]
)
def test_rectified_layers_keep_small_angles(cosine: float) -> None:
    """The compiled pass against forty digits; a plain series would lose half of them."""
    with mp.workdps(40):
        angle = mp.acos(mp.mpf(cosine))
        value = float((mp.sin(angle) + (mp.pi - angle) * mp.mpf(cosine)) / mp.pi)
        slope = float((mp.pi - angle) / mp.pi)
        turned = float(angle)
    covariance, tangent = np.array([[cosine]]), np.ones((1, 1))
    one = np.ones(1)
    rectified_then_dense(covariance, tangent, one, one, 0.0, 2.0, 0.0, 0.0, 0.0)
    assert covariance[0, 0] == pytest.approx(value, abs=1e-15)
    assert tangent[0, 0] == pytest.approx(slope, abs=1e-14)
    if cosine > 0.5 and turned > 1e-7:
        assert (1 - tangent[0, 0]) * np.pi == pytest.approx(turned, rel=1e-8)


def test_the_compiled_pass_is_the_closed_form_and_a_dense_layer() -> None:
    random = np.random.default_rng(3)
    a, b = random.uniform(0.2, 3, 5), random.uniform(0.2, 3, 7)
    c = np.tanh(2 * random.standard_normal((5, 7))) * np.sqrt(np.outer(a, b))
    before = random.uniform(0, 2, (5, 7))
    for slope in (0.0, 0.2, -1.0):
        covariance, tangent = c.copy(), before.copy()
        rectified_then_dense(covariance, tangent, a, b, slope, 1.7, 0.9, 0.3, 0.2)
        values, slopes = leaky_relu(slope)(a[:, None], b[None], c)
        assert np.allclose(covariance, 1.7 * values + 0.3, rtol=1e-13)
        assert np.allclose(tangent, 0.9 * values + 1.7 * before * slopes + 0.2, rtol=1e-13)
