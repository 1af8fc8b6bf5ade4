"""Delete-group jackknife: an interval for a smooth statistic of examples, without resampling.

The statistic is computed on all examples and with each of some groups left out; pseudo-values
remove its bias of order one over the number of examples (Quenouille 1956), and Student's t over
them gives the bounds (Tukey 1958). Assumes a statistic that is smooth in the examples' weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np
from scipy import stats

Scale = Literal["log", "atanh"]

_SCALES: Final[dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]]] = {
    "log": (np.log, np.exp),
    "atanh": (np.arctanh, np.tanh),
}

_NEARLY_ONE: Final = 1 - 1e-12
_STEADY: Final = 0.01
"""A positive statistic that falls below this share of itself when a group is left out lives on
that group alone, and has no logarithm worth averaging."""


def groups_of(classes: np.ndarray, count: int) -> np.ndarray:
    """Assign examples to groups of nearly one size, each class spread over the groups.

    Args:
        classes: `[examples]` whole numbers; all equal where there are none.
        count: number of groups.

    Returns:
        `[examples]`, the group of each, from 0.

    """
    order = np.argsort(classes, kind="stable")
    groups = np.empty(len(classes), dtype=int)
    groups[order] = np.arange(len(classes)) % count
    return groups


def delete_group(
    whole: np.ndarray | float, left_out: np.ndarray, scale: Scale, level: float = 0.95
) -> tuple[float, float, float]:
    """Return value, low and high of a statistic from its values with each group left out.

    Args:
        whole: the statistic on all examples.
        left_out: `[groups]`, with each group left out; at least 2.
        scale: `log` for positive statistics, `atanh` for those between -1 and 1.
        level: nominal coverage.

    Returns:
        Three numbers in order. A positive statistic that some group carries almost alone is
        treated on its own scale, and bounded by zero.

    """
    full, left = float(whole), np.asarray(left_out, dtype=float)
    if scale == "log" and not float(left.min(initial=full)) > _STEADY * full > 0:
        value, low, high = _pseudo(np.array(full), left, level)
        low, value, high = (max(0.0, bound) for bound in (low, value, high))
        return value, low, high
    forward, backward = _SCALES[scale]
    if scale == "atanh":
        full, left = np.clip(full, -_NEARLY_ONE, _NEARLY_ONE), left.clip(-_NEARLY_ONE, _NEARLY_ONE)
    value, low, high = (float(backward(x)) for x in _pseudo(forward(full), forward(left), level))
    return value, low, high


def _pseudo(full: np.ndarray, left: np.ndarray, level: float) -> tuple[float, float, float]:
    count = len(left)
    values = count * full - (count - 1) * left
    center = float(values.mean())
    reach = float(stats.t.ppf(0.5 + level / 2, count - 1))
    half = reach * float(values.std(ddof=1)) / float(np.sqrt(count))
    return center, center - half, center + half
