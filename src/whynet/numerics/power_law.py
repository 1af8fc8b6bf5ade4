"""The curve a + b x^(-c) through points that double, and how it may go on.

Three numbers and a handful of points: the curve is barely determined, and its continuation less.
Each doubling lowers the curve by r = 2^(-c) times what the one before did, so that a fall by w in
the next doubling means w/r, w/r², … in those that were measured. The bounds collect every (w, r)
that no measured fall contradicts, each fall at a level that lets all hold together (Bonferroni):
they assume the form of the curve and the falls' own intervals, and nothing of their dependence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from whynet.core.estimate import Estimate

Floats = NDArray[np.float64]
Bounds = tuple[float, float, float]
"""Value, low and high."""

EXPONENTS: Final = np.geomspace(0.1, 3.0, 400)
"""Exponents that are tried; sample-size laws of learning lie well inside."""


@dataclass(frozen=True)
class Continuation:
    """How a curve may go on.

    Attributes:
        fall: by how much the next doubling lowers it.
        offset: a, at least 0.
        factor: b, where x = 1 is the last point.
        exponent: c.

    """

    fall: Bounds
    offset: Bounds
    factor: Bounds
    exponent: Bounds


def continuation(falls: Sequence[Estimate], last: Estimate) -> Continuation | None:
    """Continue a curve by one doubling of x.

    Args:
        falls: by how much each doubling lowered it, the latest last; at least two, with intervals
            that hold together at the wanted level (with that of `last`).
        last: height of the curve at its last point, which bounds what is left to fall.

    Returns:
        Values by least squares; low and high over all curves that fit. None where no curve of
        this form does.

    """
    # Cells between neighboring exponents; a fall by w next was one by w * ratio^-power before.
    ratios = 2.0**-EXPONENTS
    most, least = ratios[:-1], ratios[1:]
    power = np.arange(len(falls), 0, -1)
    scales = least[:, None] ** power, most[:, None] ** power
    lows, highs = ([getattr(fall, end) for fall in falls] for end in ("low", "high"))
    low = np.minimum(*(scale * lows for scale in scales)).max(1)
    high = np.maximum(*(scale * highs for scale in scales)).min(1)
    high = np.minimum(high, last.high * (1 - least))
    fits = low <= high
    if not fits.any():
        return None
    best, value = _least_squares(falls, last, low, high)
    low, high, cell = low[fits], high[fits], (1 - most[fits], 1 - least[fits])
    middle = float(np.sqrt(EXPONENTS[best] * EXPONENTS[best + 1]))
    factors = (
        np.minimum(*(low / left for left in cell)),
        np.maximum(*(high / left for left in cell)),
    )
    factor = value / (1 - 2.0**-middle)
    offsets = (last.low - factors[1]).clip(0), (last.high - factors[0]).clip(0)
    return Continuation(
        _around(value, low, high),
        _around(max(0.0, last.value - factor), *offsets),
        _around(factor, *factors),
        _around(middle, EXPONENTS[:-1][fits], EXPONENTS[1:][fits]),
    )


def _least_squares(
    falls: Sequence[Estimate], last: Estimate, low: Floats, high: Floats
) -> tuple[int, float]:
    """Return the cell of the best exponent and its next fall, among the curves that fit."""
    ratio = 2.0 ** -np.sqrt(EXPONENTS[:-1] * EXPONENTS[1:])
    power = np.arange(len(falls), 0, -1)
    shape = ratio[:, None] ** -power
    values = np.array([fall.value for fall in falls])
    widths = np.array([fall.width for fall in falls])
    scale = max(float(widths.max()), float(np.abs(values).max())) or 1.0
    weights = 1 / (widths / scale + 1e-3) ** 2
    next_fall = (shape * weights) @ values / ((shape**2) @ weights)
    next_fall = np.minimum(next_fall, last.value * (1 - ratio))
    next_fall = np.clip(next_fall, low, np.maximum(low, high))
    misfit = ((values - next_fall[:, None] * shape) ** 2) @ weights
    best = int(np.where(low <= high, misfit, np.inf).argmin())
    return best, float(next_fall[best])


def _around(value: float, low: Floats, high: Floats) -> Bounds:
    return value, min(value, float(low.min())), max(value, float(high.max()))
