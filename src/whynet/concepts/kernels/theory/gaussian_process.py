"""Regression with a Gaussian process, and with a wide network trained to the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg

from whynet.concepts.kernels.theory.infinite_network import InfiniteNetwork
from whynet.core.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Posterior:
    """What is expected of functions at new inputs, given targets.

    Attributes:
        mean: `[m, outputs]`.
        covariance: `[m, m]`, the same for each output.

    """

    mean: Array
    covariance: Array

    @property
    def variance(self) -> Array:
        """Return the variances, `[m]`."""
        return np.array(np.diagonal(self.covariance))


def bayesian(kernel: Array, cross: Array, new: Array, targets: Array, noise: float) -> Posterior:
    """Condition a Gaussian process of mean 0 on noisy targets.

    `mean = K(x, X) (K(X, X) + noise)⁻¹ y`, `K(x, x) − K(x, X) (K(X, X) + noise)⁻¹ K(X, x)`
    (Rasmussen and Williams 2006, equations 2.23 and 2.24).

    Args:
        kernel: `[n, n]`, of the training inputs.
        cross: `[m, n]`, of new and training inputs.
        new: `[m, m]`.
        targets: `[n, outputs]`.
        noise: variance of what is added to the function; positive, or 0 where the kernel is
            positive definite.

    Raises:
        InputError: the kernel and the noise are not positive definite.

    """
    factor = _factor(kernel, noise)
    solved = linalg.cho_solve(factor, cross.T)
    covariance = new - cross @ solved
    return Posterior(solved.T @ targets, (covariance + covariance.T) / 2)


def trained_to_the_end(
    covariance: tuple[Array, Array, Array],
    tangent: tuple[Array, Array],
    targets: Array,
    ridge: float,
) -> Posterior:
    """Return mean and covariance, over draws of the start, of wide networks trained on squares.

    With `A = Θ(x, X) (Θ(X, X) + ridge)⁻¹`: mean `A y`, covariance
    `K(x, x) + A K(X, X) Aᵀ − A K(X, x) − (A K(X, x))ᵀ` (Lee et al. 2019, arXiv:1902.06720,
    corollary 1). It is no posterior of any prior.

    Args:
        covariance: K of training inputs, of new and training inputs, and of new ones.
        tangent: Θ of training inputs, and of new and training inputs.
        targets: `[n, outputs]`.
        ridge: added to the diagonal of Θ.

    Raises:
        InputError: Θ and the ridge are not positive definite.

    """
    own, cross, new = covariance
    reached = linalg.cho_solve(_factor(tangent[0], ridge), tangent[1].T).T
    mixed = reached @ cross.T
    spread = new + reached @ own @ reached.T - mixed - mixed.T
    return Posterior(reached @ targets, (spread + spread.T) / 2)


def posterior(
    network: InfiniteNetwork,
    train: tuple[ArrayLike, ArrayLike],
    inputs: ArrayLike,
    *,
    noise: float = 0.0,
    trained: bool = False,
) -> Posterior:
    """Return what an infinitely wide network says of new inputs.

    Args:
        network: from `infinite_width`.
        train: n inputs and targets `[n]` or `[n, outputs]`.
        inputs: m new inputs.
        noise: variance of noise on the targets; with `trained` a ridge on the tangent kernel.
        trained: all layers are trained by gradient flow on squares to the end, instead of the
            weights being drawn from their posterior (the Gaussian process).

    Raises:
        InputError: shapes do not go together, noise is negative, or the kernel of the training
            inputs is singular (equal inputs, say) and there is no noise.

    Cost: the kernels, and a Cholesky factorization of size n.

    """
    targets = np.asarray(train[1], dtype=np.float64)
    if noise < 0 or not np.isfinite(noise):
        raise InputError("noise", repr(noise), "a number of at least 0")
    if targets.ndim not in (1, 2) or len(targets) != len(np.asarray(train[0])):
        raise InputError(
            "train", f"targets of shape {targets.shape}", "one row of targets for each input"
        )
    targets = targets.reshape(len(targets), -1)
    own, cross = network.kernels(train[0]), network.kernels(inputs, train[0])
    new = network.kernels(inputs)
    if not trained:
        return bayesian(own.covariance, cross.covariance, new.covariance, targets, noise)
    return trained_to_the_end(
        (own.covariance, cross.covariance, new.covariance),
        (own.tangent, cross.tangent),
        targets,
        noise,
    )


def _factor(kernel: Array, noise: float) -> tuple[Array, bool]:
    try:
        return linalg.cho_factor(kernel + noise * np.eye(len(kernel)), lower=True)  # type: ignore[no-any-return]
    except linalg.LinAlgError as error:
        raise InputError(
            "noise",
            f"{noise:g}, with which the kernel of the training inputs is not positive definite",
            "more noise, or training inputs without repetitions",
        ) from error
