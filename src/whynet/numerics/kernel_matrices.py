"""Kernel matrices: how alike two are, how they fit targets, and regression with one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Ridges that are tried, relative to the mean of the kernel's diagonal; the first is the least."""

SMALL = 1e-12
"""Size of a centered kernel, relative to the kernel, below which it counts as constant."""


def centered(kernel: np.ndarray) -> np.ndarray:
    """Take the mean feature away: H K H with H = I - 1 1' / n; `[n, n]` to `[n, n]`.

    A kernel that is constant up to round-off becomes zero.
    """
    means = kernel.mean(0)
    found = kernel - means
    found -= means[:, None] - means.mean()
    if np.linalg.norm(found) <= SMALL * np.linalg.norm(kernel):
        return np.zeros_like(found)
    return np.asarray(found)


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Centered kernel alignment (CKA) of two kernels on the same rows, 0 to 1.

    Args:
        first: `[n, n]`, centered, symmetric and positive semidefinite.
        second: the same.

    Returns:
        <K, L> / (|K| |L|) by the Frobenius product; NaN where a kernel is zero.

    """
    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    if min(sizes) == 0:
        return float("nan")
    return min(1.0, max(0.0, float(np.vdot(first, second)) / (sizes[0] * sizes[1])))


def alignment(kernel: np.ndarray, targets: np.ndarray) -> float:
    """Centered alignment of a kernel with the kernel of its targets, 0 to 1.

    Args:
        kernel: `[n, n]`, centered.
        targets: `[n, c]`; their mean is taken away.

    Returns:
        CKA of K and Y Y'; 0 where the kernel or the targets are constant.

    """
    y = targets - targets.mean(0)
    size, spread = float(np.linalg.norm(kernel)), float(np.linalg.norm(y.T @ y))
    if size == 0 or spread <= SMALL * float(np.linalg.norm(targets)) ** 2:
        return 0.0
    return min(1.0, max(0.0, float((y * (kernel @ y)).sum()) / (size * spread)))


def raw_alignment(kernel: np.ndarray, targets: np.ndarray) -> float:
    """Alignment of a kernel with the kernel of its targets, nothing centered.

    A constant kernel has one over the root of the number of (even) classes against one-hot targets,
    so that it says little without its value for shuffled targets.

    Args:
        kernel: `[n, n]`.
        targets: `[n, c]`.

    Returns:
        `<K, Y Y'> / (|K| |Y Y'|)`; 0 where either is zero.

    """
    size = float(np.linalg.norm(kernel)) * float(np.linalg.norm(targets.T @ targets))
    return float((targets * (kernel @ targets)).sum()) / size if size else 0.0


def participation(kernel: np.ndarray) -> float:
    """Return `(trace K)² / |K|²`, 1 to n: how many equal eigenvalues would be as spread out."""
    size = float(np.vdot(kernel, kernel))
    return float(np.trace(kernel)) ** 2 / size if size else float("nan")


@dataclass(frozen=True)
class Fitted:
    """What kernel regression adds to the initial function on new rows.

    Attributes:
        least: `[rows, c]`, with the least ridge.
        chosen: `[rows, c]`, with the ridge that leaves the least error on rows left out.
        ridge: that ridge, relative to the mean of the diagonal.

    """

    least: np.ndarray
    chosen: np.ndarray
    ridge: float


def regression(kernel: np.ndarray, cross: np.ndarray, residual: np.ndarray) -> Fitted:
    """Fit what is left to explain by kernel ridge regression.

    The ridge is chosen by the squared error on training rows left out one at a time, which has
    the closed form a_i / (K + ridge)^-1_ii with a = (K + ridge)^-1 residual.

    Args:
        kernel: `[n, n]`, of the training rows.
        cross: `[rows, n]`, between new rows and training rows.
        residual: `[n, c]`, targets minus the initial function.

    Returns:
        `cross (kernel + ridge)^-1 residual`. Cost: a Cholesky factorization and an inverse a ridge.

    """
    scale = float(np.trace(kernel)) / len(kernel)
    weights, errors = [], []
    for ridge in RIDGES:
        shifted = kernel + (ridge * scale if scale > 0 else 1.0) * np.eye(len(kernel))
        factor = linalg.cholesky(shifted, lower=True, overwrite_a=True)
        weight = linalg.cho_solve((factor, True), residual)
        inverse, _ = linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        weights.append(weight)
        errors.append(float(((weight / np.diag(inverse)[:, None]) ** 2).sum()))
    best = int(np.argmin(errors))
    return Fitted(cross @ weights[0], cross @ weights[best], RIDGES[best])
