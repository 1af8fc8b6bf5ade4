"""The median of independent draws, with an interval that assumes nothing of their distribution."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate


def median_interval(
    values: ArrayLike,
    *,
    unit: str = "",
    over: str = "draws",
    level: float = 0.95,
) -> Estimate:
    """Median of draws between two of its order statistics.

    The interval from the k-th least to the k-th largest misses the median of a continuous
    distribution with probability `2 P(Binomial(n, 1/2) < k)`; the largest k that keeps the level
    is taken. Coverage is at least `level` for every distribution, hence the kind `certified`.

    Args:
        values: `[n]` draws; infinities are allowed.
        unit: unit of the draws.
        over: what the draws are.
        level: coverage that is guaranteed.

    Returns:
        Kind `certified`; with too few draws for the level (fewer than 6 at 95 %) the interval is
        the whole line.

    Raises:
        InputError: no draws, not one axis, not a number, or a level outside (0, 1).

    """
    draws = np.sort(np.asarray(values, dtype=np.float64))
    if draws.ndim != 1 or draws.size == 0 or np.isnan(draws).any():
        raise InputError("values", f"an array of shape {draws.shape}", "a row of numbers")
    if not 0 < level < 1:
        raise InputError("level", str(level), "a number between 0 and 1, such as 0.95")
    count = draws.size
    # Up to k − 1 draws may lie beyond the median on a side.
    kept = int(stats.binom.ppf((1 - level) / 2, count, 0.5))
    if stats.binom.cdf(kept, count, 0.5) > (1 - level) / 2:
        kept -= 1
    how = f"median between order statistics of {count}"
    low, high = -np.inf, np.inf
    if kept >= 0:
        low, high = float(draws[kept]), float(draws[count - 1 - kept])
    middle = float((draws[(count - 1) // 2] + draws[count // 2]) / 2)
    return Estimate(middle, low, high, "certified", level, unit, how, over)
