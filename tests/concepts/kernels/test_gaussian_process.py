"""Posterior of the Gaussian process, and of networks trained to the end, at infinite width."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import DotProduct
from torch import nn

from whynet import InputError, kernels
from whynet.models.families import mlp

RANDOM = np.random.default_rng(2)
X, NEW, Y = (
    RANDOM.standard_normal((9, 4)),
    RANDOM.standard_normal((5, 4)),
    RANDOM.standard_normal(9),
)


def test_a_linear_layer_is_bayesian_linear_regression() -> None:
    """One layer of unit variance over 4 inputs: the kernel x·x'/4, as scikit-learn has it."""
    layer = nn.Linear(4, 1, bias=False)
    limit = kernels.infinite_width(layer, variances={"weight": 0.25})
    found = kernels.posterior(limit, (X, Y), NEW, noise=0.1)
    peer = GaussianProcessRegressor(
        0.25 * DotProduct(0.0, sigma_0_bounds="fixed"), alpha=0.1, optimizer=None
    ).fit(X, Y)
    mean, covariance = peer.predict(NEW, return_cov=True)
    assert np.allclose(found.mean[:, 0], mean, atol=1e-10)
    assert np.allclose(found.covariance, covariance, atol=1e-10)
    assert np.allclose(found.variance, np.diag(covariance), atol=1e-10)


def test_training_linear_models_from_random_starts_has_this_mean_and_covariance() -> None:
    """`w₀ + X⁺(y − X w₀)` over draws of w₀ in nine dimensions: the null space keeps its spread."""
    x, new = RANDOM.standard_normal((4, 9)), RANDOM.standard_normal((3, 9))
    y = RANDOM.standard_normal(4)
    limit = kernels.infinite_width(nn.Linear(9, 1, bias=False), variances={"weight": 1.0})
    found = kernels.posterior(limit, (x, y), new, trained=True)
    left = np.eye(9) - np.linalg.pinv(x) @ x
    assert np.allclose(found.mean[:, 0], new @ np.linalg.pinv(x) @ y, atol=1e-10)
    assert np.allclose(found.covariance, new @ left @ left.T @ new.T, atol=1e-10)


def test_targets_that_a_draw_of_the_process_has_are_covered() -> None:
    """Functions drawn from the process itself: 95 % intervals cover 95 % of new values."""
    limit = kernels.infinite_width(mlp.build(4, [64], 1, "gelu"))
    every = np.concatenate([X, NEW])
    own = limit.kernels(every).covariance + 1e-9 * np.eye(14)
    root = np.linalg.cholesky(own)
    drawn = root @ np.random.default_rng(5).standard_normal((14, 2000))
    found = kernels.posterior(limit, (X, drawn[:9]), NEW, noise=1e-9)
    away = np.abs(drawn[9:] - found.mean) / np.sqrt(found.variance)[:, None]
    assert 0.93 < float((away < 1.96).mean()) < 0.97
    prior = kernels.posterior(limit, (X, drawn[:9]), NEW, noise=1e9)
    assert np.allclose(prior.covariance, limit.kernels(NEW).covariance, rtol=1e-6)


def test_refusals() -> None:
    torch.manual_seed(0)
    limit = kernels.infinite_width(nn.Linear(4, 1, bias=False))
    with pytest.raises(InputError, match=r"noise: found 0, with which the kernel"):
        kernels.posterior(limit, (X, Y), NEW)
    with pytest.raises(InputError, match=r"noise: found -1"):
        kernels.posterior(limit, (X, Y), NEW, noise=-1)
    with pytest.raises(InputError, match=r"train: found targets of shape \(3,\)"):
        kernels.posterior(limit, (X, Y[:3]), NEW, noise=1)
