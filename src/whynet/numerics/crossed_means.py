"""The mean of a table whose rows and columns are both drawn, such as seeds and test examples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from whynet.core.errors import InputError
from whynet.core.estimate import Estimate, Kind

ENOUGH = 10
"""Rows from which on the interval is called one."""


def crossed_mean(
    table: ArrayLike, *, unit: str = "", how: str = "", over: str, level: float = 0.95
) -> Estimate:
    """Mean of a table with crossed random effects of rows and columns.

    With entries mean + row effect + column effect + rest, the variance of the grand mean is
    estimated by A + B - E: A and B are the variances of the row means and of the column means
    over their numbers, E that of the rest over all entries, which both contain. Degrees of freedom
    by Satterthwaite (1946). Few rows give a wide interval, as they should.

    Args:
        table: `[rows, columns]`, at least two of each.
        unit: unit of the entries.
        how: phrase for the reader.
        over: what rows and columns are.
        level: nominal coverage.

    Returns:
        Kind `interval`; `indicative` with fewer than 10 rows or 30 columns, or without spread.

    Raises:
        InputError: not such a table, or not finite.

    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or min(values.shape) < 2 or not np.isfinite(values).all():
        found = f"an array of shape {values.shape}"
        raise InputError("table", found, "finite numbers, at least two rows and two columns")
    rows, columns = values.shape
    by_row, by_column, mean = values.mean(1), values.mean(0), float(values.mean())
    rest = values - by_row[:, None] - by_column + mean
    within = float((rest**2).sum()) / ((rows - 1) * (columns - 1)) / values.size
    parts = np.array([by_row.var(ddof=1) / rows, by_column.var(ddof=1) / columns, within])
    # Never below the larger of the two, which the difference may be by chance.
    variance = max(float(parts[0] + parts[1] - parts[2]), float(parts[:2].max()))
    if variance <= 0:
        return Estimate(mean, mean, mean, "indicative", level, unit, how, over)
    freedom = np.array([rows - 1, columns - 1, (rows - 1) * (columns - 1)])
    degrees = variance**2 / float((parts**2 / freedom).sum())
    half = float(stats.t.ppf(0.5 + level / 2, max(1.0, degrees))) * math.sqrt(variance)
    kind: Kind = "interval" if rows >= ENOUGH and columns >= 30 else "indicative"
    return Estimate(mean, mean - half, mean + half, kind, level, unit, how, over)
