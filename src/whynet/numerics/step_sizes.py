"""The best step size of a grid, and power laws in the width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def best_on_grid(rates: Sequence[float], losses: ArrayLike) -> float:
    """Return log2 of the step size at which a loss is lowest.

    A parabola in log2 of the step size is put through the lowest point and its neighbors; where
    one of them is infinite, the lowest point itself is taken.

    Args:
        rates: step sizes, each twice the one before.
        losses: `[rates]`, on a scale on which a parabola is fit, such as the logarithm; infinite
            where training diverged.

    Returns:
        NaN where the loss is lowest at an end of the grid, so that the best may lie beyond.

    >>> best_on_grid([1, 2, 4], [1.0, 0.0, 1.0])
    1.0

    """
    values = np.asarray(losses, dtype=float)
    if np.isnan(values).any():
        return float("nan")
    place = int(np.argmin(values))
    if place in (0, len(values) - 1) or not np.isfinite(values[place]):
        return float("nan")
    left, low, right = values[place - 1 : place + 2]
    center = float(np.log2(rates[place]))
    bend = left - 2 * low + right
    if not np.isfinite(bend) or bend <= 0:
        return center
    return center + float(left - right) / (2 * float(bend))


def slope(widths: Sequence[float], logs: ArrayLike) -> np.ndarray:
    """Return the least-squares slope of log2 values in log2 of the width, for every row.

    Args:
        widths: at least two different ones.
        logs: `[rows, widths]`, log2 of the values; a NaN makes the slope of its row NaN.

    >>> slope([1, 2, 4], [[0.0, 1.0, 2.0]]).tolist()
    [1.0]

    """
    places = np.log2(np.asarray(widths, dtype=float))
    weights = (places - places.mean()) / ((places - places.mean()) ** 2).sum()
    return np.asarray(np.asarray(logs, dtype=float) @ weights)
