"""XTrace: the trace of an operator from few products, each test vector used twice.

Epperly, Tropp and Webber (2024, SIAM J. Matrix Anal. Appl. 45:1, arXiv:2301.07825). Half of the
products sketch the range of A; for each test vector the part of A in the range of the others is
traced exactly and the rest is estimated with that vector. The estimates are exchangeable, unbiased,
and their mean is the result. Where the eigenvalues decay the error falls much faster than that of
random probes alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind
from whynet.numerics.lanczos import Operator
from whynet.numerics.probes import gaussian

ENOUGH = 15
"""Test vectors from which on the interval is called one; with fewer, Student's t is too short."""

WIDENED = 1.4
"""Factor on Student's t, since the samples share the sketch and vary together. Chosen on Hessians
of 2,410 parameters at four times of training and on four spectra (flat, one outlier, 1/k^2, 0.9^k):
with 15, 30 and 49 test vectors the 95 % quantile of their errors is 2.2 to 3.5 times the standard
error of independent samples, largest at 0.9^k, where the sketch matters most."""


def exchangeable_samples(
    matmat: Operator,
    size: int,
    *,
    products: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Return the estimates of the trace, one a test vector.

    Test vectors are uniform on the sphere, and the part of each that lies outside the sketch is
    scaled to the length it has on average (section 2.3 there).

    Cost: `products` products in two blocks. Memory: four blocks of half as many vectors.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        products: even; half of them are test vectors.
        seed: of the test vectors.
        dtype: of the vectors.
        device: where they live.

    Returns:
        [products / 2] float64, or one exact number where the sketch spans everything.

    Raises:
        InputError: an odd number of products, or fewer than four.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if products < 4 or products % 2:
        raise InputError("products", str(products), "an even number of at least 4")
    count = products // 2
    if count >= size:
        whole = matmat(torch.eye(size, dtype=dtype, device=device))
        return np.array([float(whole.diagonal().double().sum())])
    tests = gaussian(size, count, seed, dtype=dtype, device=device)
    tests = tests / tests.norm(dim=0) * size**0.5
    image = matmat(tests)
    basis, left = _basis(image)
    through = matmat(basis)
    if not bool(torch.isfinite(through).all() & torch.isfinite(image).all()):
        raise FloatingPointError(
            "The operator returned NaN or infinity; its trace cannot be measured."
        )
    core = (basis.T @ through).double()
    inside = (basis.T @ tests).double()
    along = (left * inside).sum(0)
    away = (inside - left * along).to(dtype)
    rest, moved = tests - basis @ away, image - through @ away
    forms = (rest.double() * moved.double()).sum(0)
    lengths = rest.double().square().sum(0)
    captured = core.diagonal().sum() - (left * (core @ left)).sum(0)
    outside = size - basis.shape[1] + (1.0 if left.any() else 0.0)
    found = captured + forms * outside / lengths.clamp(min=1e-300)
    return np.asarray(found.cpu().numpy())


def _basis(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis [P, r] of the sketch, and what each test vector alone adds to it.

    Column i of the second, [r, count] float64, is the direction that only test vector i reaches:
    the normalized column of the inverse of R'. Where the sketch has a smaller rank than columns, it
    has the same span without any of them, and the columns are zero.
    """
    basis, triangle = torch.linalg.qr(image)
    sizes = torch.linalg.svdvals(triangle)
    enough = sizes > torch.finfo(image.dtype).eps * len(image) * sizes[0]
    if bool(enough.all()):
        left = torch.linalg.inv(triangle.double()).T
        return basis, left / left.norm(dim=0)
    turned, _, _ = torch.linalg.svd(triangle)
    kept = basis @ turned[:, enough]
    return kept, torch.zeros(kept.shape[1], image.shape[1], dtype=torch.float64).to(image.device)


def exchangeable_trace(samples: NDArray[np.float64], *, level: float = 0.95) -> Estimate:
    """Return the mean of the samples with Student's t over them, widened by 1.4.

    Args:
        samples: of `exchangeable_samples`; one is exact.
        level: nominal coverage.

    """
    count, value = len(samples), float(samples.mean())
    if count == 1:
        return Estimate(value, value, value, "exact", level, "", "sum of the diagonal")
    error = float(samples.std(ddof=1)) / count**0.5
    half = WIDENED * float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    half = max(half, 1e-12 * abs(value))
    kind: Kind = "interval" if count >= ENOUGH else "indicative"
    how = "XTrace; Student's t over its exchangeable estimates"
    return Estimate(value, value - half, value + half, kind, level, "", how, "test vectors")
