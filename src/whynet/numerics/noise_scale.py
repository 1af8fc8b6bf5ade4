"""The gradient noise scale: from which batch size on larger batches stop paying.

McCandlish, Kaplan, Amodei et al. (2018, arXiv:1812.06162): B = tr(Sigma) / |G|^2, with Sigma the
covariance of the gradients of single examples and G their mean. Gradients of groups of rows give
both without bias: the spread between groups is tr(Sigma) over their size, and what the noise adds
to the square of the mean is taken away.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind

LEAST_GROUPS = 4
ENOUGH_GROUPS = 30
"""Below this many groups an interval is called `indicative`."""

HOW = "tr(covariance of gradients of single examples) / |mean gradient|^2, unbiased parts, Fieller"


def noise_scale(
    squares: np.ndarray,
    overlaps: np.ndarray,
    size: int,
    population: int | None = None,
    *,
    level: float = 0.95,
    over: str = "draws of training rows",
) -> Estimate:
    """Estimate the noise scale from the gradients of groups of rows of equal size.

    Rows are drawn without replacement from `population` rows, whose own gradient and covariance
    are meant; None for a distribution without end. The two parts are treated as jointly normal
    with the covariance of their jackknife pseudo-values, and the interval is Fieller's (1954) of
    their ratio: where the mean gradient cannot be told from zero it has no upper end.

    Args:
        squares: `[groups]`, square norm of the mean gradient of each group.
        overlaps: `[groups]`, inner product of each with the mean over all groups.
        size: rows of a group.
        population: rows that the groups are drawn from.
        level: nominal coverage.
        over: what the interval is over.

    Returns:
        In examples. NaN where the unbiased square of the mean gradient is not positive.

    Raises:
        InputError: fewer than four groups, a size below 1, or a population below the rows drawn.

    """
    count = len(squares)
    if count < LEAST_GROUPS:
        raise InputError("squares", f"{count} groups", f"at least {LEAST_GROUPS}")
    if size < 1:
        raise InputError("size", str(size), "at least 1 row")
    rows = count * size
    if population is not None and population < rows:
        raise InputError("population", str(population), f"at least the {rows} rows drawn")
    unseen = 1.0 if population is None else 1 - rows / population
    whole, left = _parts(squares.astype(float), overlaps.astype(float), size, unseen)
    pseudo = count * whole - (count - 1) * left
    pseudo[:, 1] = whole[1] + math.sqrt(unseen) * (pseudo[:, 1] - whole[1])
    covariance = np.cov(pseudo.T) / count
    kind: Kind = "interval" if count >= ENOUGH_GROUPS else "indicative"
    trace, signal = (float(part) for part in whole)
    if not signal > 0 or not math.isfinite(trace):
        return Estimate(math.nan, math.nan, math.nan, kind, level, "examples", HOW, over)
    value = max(0.0, trace / signal)
    reach = float(stats.t.ppf(0.5 + level / 2, count - 1))
    low, high = _fieller(trace, signal, covariance, reach)
    if value > 0 and high < math.inf:
        # The spread is skewed where few directions carry it: the upper end is that of logarithms.
        relative = np.array([1 / trace, -1 / signal])
        high = max(high, value * math.exp(reach * math.sqrt(relative @ covariance @ relative)))
    return Estimate(
        value, min(low, value), max(high, value), kind, level, "examples", HOW, over
    )  # fmt: skip


def _parts(
    squares: np.ndarray, overlaps: np.ndarray, size: int, unseen: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return trace and signal on all groups `[2]`, and with each left out `[groups, 2]`."""
    count, total, mean = len(squares), squares.sum(), overlaps.mean()

    def both(sums: np.ndarray, means: np.ndarray, groups: int) -> np.ndarray:
        trace = size * (sums - groups * means) / (groups - 1)
        return np.stack([trace, means - unseen * trace / (groups * size)], axis=-1)

    means = (count**2 * mean - 2 * count * overlaps + squares) / (count - 1) ** 2
    return both(total, mean, count), both(total - squares, means, count - 1)


def _fieller(
    trace: float, signal: float, covariance: np.ndarray, reach: float
) -> tuple[float, float]:
    """Ratios r >= 0 at which trace - r signal is within `reach` standard errors of zero."""
    a = signal**2 - reach**2 * covariance[1, 1]
    b = trace * signal - reach**2 * covariance[0, 1]
    c = trace**2 - reach**2 * covariance[0, 0]
    root = math.sqrt(max(0.0, b * b - a * c))
    if a > 0:
        return max(0.0, (b - root) / a), (b + root) / a
    if c <= 0 or a == 0:
        return 0.0, math.inf
    return max(0.0, (b - root) / a), math.inf
