"""XTrace: the trace of an operator from few products, each test vector used twice.

Epperly, Tropp and Webber (2024, SIAM J. Matrix Anal. Appl. 45:1, arXiv:2301.07825). Half of the
products sketch the range of A; for each test vector the part of A in the range of the others is
traced exactly and the rest is estimated with that vector. The estimates are exchangeable, unbiased,
and their mean is the result. Where the eigenvalues decay the error falls much faster than that of
random probes alone.

The estimates share the sketch and vary together, so that their spread is no measure of the error:
where the eigenvalues drop just past the number of test vectors, Student's t over them covers 60 to
80 %. The interval is that of the jackknife: the whole estimate without each test vector, from the
same products. By the inequality of Efron and Stein (1981, Ann. Statist. 9:586) its variance is on
average at least that of the estimate (Epperly and Tropp 2024, SIAM J. Sci. Comput. 46:A508,
arXiv:2207.06342).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind
from whynet.numerics.lanczos import Operator
from whynet.numerics.long_products import long_dots, long_norm, long_product
from whynet.numerics.probes import gaussian
from whynet.numerics.tall_bases import tall_qr

Floats = NDArray[np.float64]

ENOUGH = 15
"""Test vectors from which on the interval is called one. With 15, over 14 spectra (flat, one
outlier, powers, exponentials, both signs, steps just before and past the number of vectors) 95 %
intervals hold the trace in 96 % to all of 150 draws; `tests/numerics` repeats the worst of them."""


DEPENDENT = 100 * float(np.finfo(np.float64).eps)
"""Singular values of the sketch over the largest up to which they are none: the round-off of its
factors, which are float64. What single precision of the products adds to a sketch of low rank is a
direction more, which does no harm; what belongs to the test vectors and is left out does."""


@dataclass(frozen=True)
class Exchangeable:
    """Estimates of a trace.

    Attributes:
        samples: [m], one a test vector; a single exact one where the sketch spans everything.
        left_out: [m], the mean of the estimates that are left without each test vector.
        roundoff: what the precision of the products may add to the trace.

    """

    samples: Floats
    left_out: Floats
    roundoff: float = 0.0


@dataclass(frozen=True)
class _Sketch:
    """What the estimates need, in coordinates of the basis Q of the sketch; float64.

    Attributes:
        size: n, dimension of the operator.
        triangle: [m, m] R of the sketch A W = Q R.
        core: Q' A Q.
        inside: Q' W.
        crossed: Q' A W.
        forms: [m] w' A w.
        lengths: [m] w' w.
        precision: round-off of the products, relative.

    """

    size: int
    triangle: Floats
    core: Floats
    inside: Floats
    crossed: Floats
    forms: Floats
    lengths: Floats
    precision: float

    def estimates(self, chosen: NDArray[np.intp] | slice) -> Floats:
        """Return the estimates from some of the test vectors, each with the sketch of the others.

        The part of each that lies outside the sketch is scaled to the length it has on average
        (section 2.3 of the paper).
        """
        basis, left = _basis(self.triangle[:, chosen])
        core = basis.T @ self.core @ basis
        inside, crossed = basis.T @ self.inside[:, chosen], basis.T @ self.crossed[:, chosen]
        known = inside - left * (left * inside).sum(0)
        forms = self.forms[chosen] - 2 * (known * crossed).sum(0) + (known * (core @ known)).sum(0)
        lengths = self.lengths[chosen] - (known * known).sum(0)
        captured = np.trace(core) - (left * (core @ left)).sum(0)
        outside = self.size - basis.shape[1] + (1.0 if left.any() else 0.0)
        return np.asarray(captured + forms * outside / np.maximum(lengths, 1e-300))


def _basis(columns: Floats) -> tuple[Floats, Floats]:
    """Return an orthonormal basis of the columns, and what each column alone adds to it.

    Column i of the second is the direction that only column i reaches: the normalized column of
    the inverse of R'. Where the columns are dependent, they have the same span without any of
    them, and the second is zero.
    """
    basis, triangle = np.linalg.qr(columns)
    turned, sizes, _ = np.linalg.svd(triangle)
    enough = sizes > DEPENDENT * max(sizes[0], 1e-300)
    if enough.all():
        left = np.linalg.inv(triangle).T
        return basis, left / np.linalg.norm(left, axis=0)
    kept = basis @ turned[:, enough]
    return kept, np.zeros((kept.shape[1], columns.shape[1]))


def exchangeable_samples(
    matmat: Operator,
    size: int,
    *,
    products: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Exchangeable:
    """Return the estimates of the trace, one a test vector, and those without each.

    Test vectors are uniform on the sphere.

    Cost: `products` products in two blocks. Memory: three blocks of half as many vectors.

    Args:
        matmat: symmetric operator on columns, [P, p] to [P, p].
        size: P.
        products: even; half of them are test vectors.
        seed: of the test vectors.
        dtype: of the vectors.
        device: where they live.

    Raises:
        InputError: an odd number of products, or fewer than four.
        FloatingPointError: the operator returned NaN or infinity.

    """
    if products < 4 or products % 2:
        raise InputError("products", str(products), "an even number of at least 4")
    count = products // 2
    if count >= size:
        whole = matmat(torch.eye(size, dtype=dtype, device=device))
        exact = np.array([float(whole.diagonal().double().sum())])
        return Exchangeable(exact, exact)
    sketch = _sketch(matmat, size, gaussian(size, count, seed, dtype=dtype, device=device))
    every = np.arange(count)
    left_out = [sketch.estimates(np.delete(every, i)).mean() for i in every]
    samples = sketch.estimates(slice(None))
    magnitude = float(np.abs(sketch.core.diagonal()).sum() + np.abs(samples).mean())
    return Exchangeable(samples, np.array(left_out), 4 * sketch.precision * magnitude)


def _sketch(matmat: Operator, size: int, draws: Tensor) -> _Sketch:
    tests = draws.mul_((size**0.5 / long_norm(draws, dim=0)).to(draws))
    image = matmat(tests)
    basis, triangle = tall_qr(image)
    forms = long_dots(tests, image)
    del image
    through = matmat(basis)
    found = _Sketch(
        size,
        _plain(triangle),
        _plain(long_product(basis.T, through)),
        _plain(long_product(basis.T, tests)),
        _plain(long_product(through.T, tests)),
        _plain(forms),
        _plain(long_dots(tests, tests)),
        torch.finfo(tests.dtype).eps,
    )
    if not all(np.isfinite(part).all() for part in (found.core, found.crossed, found.forms)):
        raise FloatingPointError(
            "The operator returned NaN or infinity; its trace cannot be measured."
        )
    return found


def _plain(tensor: Tensor) -> Floats:
    return np.asarray(tensor.double().cpu().numpy())


def exchangeable_trace(found: Exchangeable, *, level: float = 0.95) -> Estimate:
    """Return the mean of the samples with Student's t at the error of the jackknife.

    Args:
        found: of `exchangeable_samples`; a single sample is exact.
        level: nominal coverage, at least.

    """
    count, value = len(found.samples), float(found.samples.mean())
    if count == 1:
        return Estimate(value, value, value, "exact", level, "", "sum of the diagonal")
    spread = found.left_out - found.left_out.mean()
    error = float((spread @ spread) * (count - 1) / count) ** 0.5
    half = float(stats.t.ppf(0.5 + level / 2, count - 1)) * error
    half = max(half, 1e-12 * abs(value)) + found.roundoff
    kind: Kind = "interval" if count >= ENOUGH else "indicative"
    how = "XTrace; jackknife over its test vectors"
    return Estimate(value, value - half, value + half, kind, level, "", how, "test vectors")
