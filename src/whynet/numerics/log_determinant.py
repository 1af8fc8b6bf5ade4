"""log det(A + a I) of a positive semidefinite operator at a stated ridge a.

log det(A + a I) = P log a + tr log(1 + A / a). The even derivatives of log(1 + x / a) are negative
and the odd ones positive, so that for each probe Gauss's rule lies above and the rule of Gauss and
Radau with a node at zero below (Golub and Meurant 1994), as for the effective dimension, whose
quadratures are taken. Without the ridge the number would say nothing: most eigenvalues of a network
are round-off.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate
from whynet.numerics.effective_dimension import Brackets
from whynet.numerics.intervals import ENOUGH_DRAWS
from whynet.numerics.lanczos_quadrature import Floats, Quadrature


def log_determinant(eigenvalues: ArrayLike, size: int, ridge: float) -> float:
    """Return log det(A + a I) of a matrix [size, size] with these eigenvalues and zeros else."""
    known = np.maximum(np.asarray(eigenvalues, dtype=np.float64), 0.0)
    return float(size * math.log(ridge) + np.log1p(known / ridge).sum())


def bracketed_log_determinant(
    brackets: Brackets, known: ArrayLike, ridge: float, *, level: float = 0.95
) -> Estimate:
    """Estimate log det(A + a I) from quadratures of probes.

    Args:
        brackets: of `whynet.numerics.effective_dimension.bracketing_quadratures`.
        known: eigenvalues of the directions that were removed.
        ridge: a, at least what the quadratures resolve.
        level: nominal coverage over the draw of the probes, at least.

    Returns:
        Kind `interval` from 30 probes on. The interval covers the finite number of steps as well.

    Raises:
        InputError: a ridge that is not positive or within round-off.

    """
    if not ridge > 0 or not brackets.resolves(ridge):
        raise InputError("ridge", f"{ridge:g}", "a number well above the round-off of products")
    ends = [_samples(part, ridge) for part in (brackets.radau, brackets.gauss)]
    low, high = np.minimum(*ends), ends[1]
    count = len(low)
    exact = log_determinant(known, brackets.gauss.size, ridge)
    point = float(stats.t.ppf(0.5 + level / 2, max(1, count - 1)))
    below, above = (
        point * float(part.std(ddof=1)) / count**0.5 if count > 1 else math.inf
        for part in (low, high)
    )
    slack = 1e-12 * abs(exact)
    return Estimate(
        exact + float(low.mean() + high.mean()) / 2,
        exact + float(low.mean()) - below - slack,
        exact + float(high.mean()) + above + slack,
        "interval" if count >= ENOUGH_DRAWS else "indicative",
        level,
        "nats",
        f"log det(matrix + {ridge:g} I): deflated stochastic Lanczos quadrature, bracketed per "
        "probe, t interval",
        "probes",
    )


def _samples(part: Quadrature, ridge: float) -> Floats:
    """Return z' log(1 + A / a) z of every probe; a negative node is round-off here."""
    grown = np.log1p(np.maximum(part.nodes / ridge, -0.5))
    return np.asarray(part.size * (part.weights * grown).sum(1))
