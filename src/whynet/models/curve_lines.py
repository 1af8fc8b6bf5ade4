"""Sound lines above and below a smooth function, and what it makes of a difference.

Everything follows from three facts. (1) Over a cell of length d a function whose second derivative
is at most M in size lies within `M d^2 / 8` of the chord of that cell: extremes over an interval
are those at the points of a grid, plus that much. (2) Its slope lies within `M d / 2` of the nearer
slope at the grid. (3) Taylor's remainder, see `difference_planes`. Slopes of lines are chosen
freely: a line is sound by its offset alone, whichever slope it has. Every offset is moved outward
by a few units of the last place of the largest number in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from whynet.models.piecewise_linear_operations import Curve

CELLS: Final = 16
"""Cells of the grid; the slack is at most 1/256 of what a chord is off by."""

_ROUND_OFF: Final = 16 * 2.0**-52

Line = tuple[Tensor, Tensor]


def _grid(curve: Curve, low: Tensor, high: Tensor) -> Iterator[Tensor]:
    """Yield points such that no two neighbors are farther apart than a cell; levels are among them.

    The ends are exact: rounding of points between changes the length of a cell by units of the last
    place, which the outward rounding covers.
    """
    yield low
    for place in range(1, CELLS):
        yield torch.clamp(low + (high - low) * (place / CELLS), low, high)
    yield high
    for level in curve.levels:
        yield torch.clamp(torch.full_like(low, level), low, high)


def _slack(curve: Curve, low: Tensor, high: Tensor) -> Tensor:
    return curve.most_bend(low, high) * ((high - low) / CELLS) ** 2 / 8


def value_range(curve: Curve, low: Tensor, high: Tensor) -> Line:
    """Return bounds of the function's values between two ends; exact where it is monotone."""
    values = torch.stack([curve.value(x) for x in (low, high)])
    least, most = values.amin(0), values.amax(0)
    flat, steep = slope_range(curve, low, high)
    monotone = (flat >= 0) | (steep <= 0)
    inner_least, inner_most = least, most
    for x in _grid(curve, low, high):
        value = curve.value(x)
        inner_least, inner_most = (
            torch.minimum(inner_least, value),
            torch.maximum(inner_most, value),
        )
    slack = _slack(curve, low, high)
    slack = torch.where(monotone, 0.0, slack)
    round_off = _ROUND_OFF * torch.maximum(least.abs(), most.abs()) + curve.error
    inner_least = torch.where(monotone, least, inner_least)
    inner_most = torch.where(monotone, most, inner_most)
    return inner_least - slack - round_off, inner_most + slack + round_off


def slope_range(curve: Curve, low: Tensor, high: Tensor) -> Line:
    """Return bounds of the function's slope between two ends."""
    length = (high - low) / CELLS
    slack = curve.most_bend(low, high) * length / 2
    twist = curve.most_twist(low, high)
    slack = torch.minimum(slack, torch.where(twist.isfinite(), twist * length**2 / 8, torch.inf))
    least, most = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    for x in _grid(curve, low, high):
        slope = curve.slope(x)
        least, most = torch.minimum(least, slope), torch.maximum(most, slope)
    for level in curve.levels:  # the slopes on both sides of a jump
        inside = (low <= level) & (high >= level)
        for side in (-1e-12, 1e-12):
            slope = curve.slope(torch.full_like(low, level + side))
            least = torch.where(inside, torch.minimum(least, slope), least)
            most = torch.where(inside, torch.maximum(most, slope), most)
        slack = torch.where(inside, slack + 2e-12 * curve.most_bend(low, high), slack)
    slack = slack + _ROUND_OFF * torch.maximum(least.abs(), most.abs())
    return least - slack, most + slack


def own_lines(curve: Curve, low: Tensor, high: Tensor) -> tuple[Line, Line]:
    """Return slope and offset of a line above and one below the function between two ends.

    The slope is that of the chord or that at the middle, whichever gives the lower line above (the
    higher one below) at the middle.
    """
    middle, width = low + (high - low) / 2, high - low
    ends = slope_range(curve, low, high)
    chord = (curve.value(high) - curve.value(low)) / torch.where(width > 0, width, 1.0)
    slopes = [torch.clamp(chord, *ends), curve.slope(middle)]
    above = [torch.full_like(low, -torch.inf) for _ in slopes]
    below = [torch.full_like(low, torch.inf) for _ in slopes]
    largest = torch.zeros_like(low)
    for x in _grid(curve, low, high):
        value = curve.value(x)
        largest = torch.maximum(largest, value.abs())
        for place, slope in enumerate(slopes):
            offset = value - slope * x
            above[place] = torch.maximum(above[place], offset)
            below[place] = torch.minimum(below[place], offset)
    reach = torch.maximum(low.abs(), high.abs())
    out = [
        _slack(curve, low, high) + _ROUND_OFF * (largest + slope.abs() * reach) + curve.error
        for slope in slopes
    ]
    above = [a + o for a, o in zip(above, out, strict=True)]
    below = [b - o for b, o in zip(below, out, strict=True)]
    up = [a + s * middle for a, s in zip(above, slopes, strict=True)]
    down = [b + s * middle for b, s in zip(below, slopes, strict=True)]
    first, last = up[0] <= up[1], down[0] >= down[1]
    return (
        (torch.where(first, slopes[0], slopes[1]), torch.where(first, above[0], above[1])),
        (torch.where(last, slopes[0], slopes[1]), torch.where(last, below[0], below[1])),
    )


@dataclass(frozen=True, eq=False)
class Plane:
    """What a function makes of a difference, held between two planes.

    With h and h + D the two inputs: `own * h + gap * D + offset` bounds `f(h + D) - f(h)`.
    """

    own: Tensor
    gap: Tensor
    offset: Tensor


def between(least: Tensor, most: Tensor, low: Tensor, high: Tensor) -> tuple[Line, Line]:
    """Return lines above and below what a function with slopes between two makes of a difference.

    The difference lies between `low` and `high`; what is made of it between `least * D` and
    `most * D`, in one order for D above zero and in the other below.
    """
    zero = torch.zeros_like(low)
    width = torch.where(high > low, high - low, 1.0)
    above = (most * high - least * low) / width
    below = (least * high - most * low) / width
    positive, negative = low >= 0, high <= 0
    upper = torch.where(positive, most, torch.where(negative, least, above))
    upper_offset = torch.where(positive | negative, zero, (least - above) * low)
    lower = torch.where(positive, least, torch.where(negative, most, below))
    lower_offset = torch.where(positive | negative, zero, (most - below) * low)
    return (upper, upper_offset), (lower, lower_offset)


def difference_planes(
    curve: Curve, own: Line, other: Line, gap: Line
) -> tuple[Plane, Plane, Tensor]:
    """Return planes above and below `f(h + D) - f(h)`, and how far they are apart at the middle.

    Two are at hand, and the nearer pair is taken for every unit.

    - By slopes: `f(h + D) - f(h)` is D times a slope of f between h and h + D.
    - By Taylor: with middles c of h (radius r) and d of D (radius q), the plane that is tangent at
      (c, d) is off by at most `M2 q (r + q / 2) + min(M3 |d|, 2 M2) r^2 / 2`, where M2 and M3
      bound the second and third derivative between all ends. For, with
      `R(x, s) = f(x + s) - f(x) - f'(x) s`, the remainder at `h = c + s`, `D = d + t` is
      `[R(c + d, s + t) - R(c + d, s)] + [R(c + d, s) - R(c, s)]`. The derivative of R in s is
      `f'(x + s) - f'(x)`, at most `M2 |s|`, which gives the first part; and
      `R(x, s) = ∫ (s - v) f''(x + v) dv` over v from 0 to s, whose integrands at c + d and c are
      at most `min(M3 |d|, 2 M2) |s - v|` apart, the second. It keeps what D owes to h, so that
      differences of many units cancel.

    Args:
        curve: the function.
        own: ends of h.
        other: ends of h + D.
        gap: ends of D.

    """
    low, high = own
    ends = torch.minimum(low, other[0]), torch.maximum(high, other[1])
    slopes = slope_range(curve, *ends)
    upper, lower = between(*slopes, *gap)
    middle, half = gap[0] + (gap[1] - gap[0]) / 2, (gap[1] - gap[0]) / 2
    by_slopes = (upper[0] - lower[0]) * middle + upper[1] - lower[1]

    center, radius = low + (high - low) / 2, (high - low) / 2
    moved = center + middle
    least, most = torch.minimum(low, low + gap[0]), torch.maximum(high, high + gap[1])
    bend, twist = curve.most_bend(least, most), curve.most_twist(least, most)
    twisted = torch.where(middle == 0, 0.0, twist * middle.abs())
    rest = bend * half * (radius + half / 2) + torch.minimum(twisted, 2 * bend) * radius**2 / 2
    for level in curve.levels:
        rest = torch.where((least <= level) & (most >= level), torch.inf, rest)
    first, second = curve.slope(center), curve.slope(moved)
    values = curve.value(center), curve.value(moved)
    tilt = second - first
    offset = values[1] - values[0] - tilt * center - second * middle
    reach = torch.maximum(least.abs(), most.abs())
    size = values[0].abs() + values[1].abs() + (first.abs() + second.abs()) * reach
    rest = rest * (1 + _ROUND_OFF) + torch.where(_same(gap), 0.0, _ROUND_OFF * size)
    # Where torch computes another function than the curve, differences are off by twice that.
    error = torch.where(_same(gap), 0.0, 2 * curve.error)
    taken = ~(by_slopes <= 2 * rest) & rest.isfinite() & offset.isfinite()

    def plane(line: Line, sign: float) -> Plane:
        return Plane(
            torch.where(taken, tilt, 0.0),
            torch.where(taken, second, line[0]),
            torch.where(taken, offset + sign * rest, line[1]) + sign * error,
        )

    apart = torch.where(taken, 2 * rest, by_slopes) + 2 * error
    return plane(upper, 1.0), plane(lower, -1.0), apart


def _same(gap: Line) -> Tensor:
    """Where the two inputs are the same number, so that the two outputs are."""
    return (gap[0] == 0) & (gap[1] == 0)


def difference_range(
    curve: Curve, own: Line, other: Line, gap: Line, made: tuple[Line, Line]
) -> Line:
    """Return ends of `f(h + D) - f(h)`, from its planes, its slopes and the ends `made` of f."""
    above, below, _ = difference_planes(curve, own, other, gap)
    ends = torch.minimum(own[0], other[0]), torch.maximum(own[1], other[1])
    products = torch.stack([s * end for s in slope_range(curve, *ends) for end in gap])
    highest = _highest(above.own, own) + _highest(above.gap, gap) + above.offset
    lowest = -_highest(-below.own, own) - _highest(-below.gap, gap) + below.offset
    (low, high), (other_low, other_high) = made
    # A bound by slopes is infinite where the slope is; nan where that is of no difference.
    high_ends = torch.stack([products.amax(0) + 2 * curve.error, highest, other_high - low])
    low_ends = torch.stack([products.amin(0) - 2 * curve.error, lowest, other_low - high])
    high_ends = torch.nan_to_num(high_ends, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    low_ends = torch.nan_to_num(low_ends, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    found = low_ends.amax(0), high_ends.amin(0)
    same = _same(gap)
    return torch.where(same, 0.0, found[0]), torch.where(same, 0.0, found[1])


def _highest(slope: Tensor, ends: Line) -> Tensor:
    return torch.where(slope > 0, slope * ends[1], slope * ends[0])
