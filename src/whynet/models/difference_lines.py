"""Lines around the units of two networks that are followed together: kinks and curves alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whynet.models.curve_lines import (
    Line,
    Plane,
    between,
    difference_planes,
    difference_range,
    own_lines,
    value_range,
)
from whynet.models.piecewise_linear_operations import Curve, Thresholds
from whynet.models.step_graph import Step


@dataclass(frozen=True, eq=False)
class Range:
    """Bounds of one value of the graph, `[points, *shape]` each: of h, of h + D, and of D."""

    low: Tensor
    high: Tensor
    other_low: Tensor
    other_high: Tensor
    gap_low: Tensor
    gap_high: Tensor

    @property
    def ends(self) -> tuple[Line, Line, Line]:
        """The ends of h, of h + D, and of D."""
        return (
            (self.low, self.high),
            (self.other_low, self.other_high),
            (self.gap_low, self.gap_high),
        )


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A unit f between lines: `f(h)` below `up`, above `down`; `f(h + D) - f(h)` between planes."""

    up: Line
    down: Line
    above: Plane
    below: Plane


def relaxed(step: Step, held: Range) -> Relaxed:
    """Return the lines and planes around the units of a step that takes one value."""
    if isinstance(step.operation.curved, Curve):
        curve = step.operation.curved
        up, down = own_lines(curve, held.low, held.high)
        above, below, _ = difference_planes(curve, *held.ends)
        return Relaxed(up, down, above, below)
    bends = step.operation.bends
    assert isinstance(bends, Thresholds)
    return _kinks(step.operation.apply, bends.levels, held)


def range_after(step: Step, held: Range) -> Range:
    """Bound what leaves the units of a step by what enters them."""
    own, other, gap = held.ends
    if isinstance(step.operation.curved, Curve):
        curve = step.operation.curved
        made = value_range(curve, *own), value_range(curve, *other)
        return Range(*made[0], *made[1], *difference_range(curve, own, other, gap, made))
    bends = step.operation.bends
    assert isinstance(bends, Thresholds)
    apply, levels = step.operation.apply, bends.levels
    first, second = (
        torch.stack([apply([knot]) for knot in _knots(levels, *ends)]) for ends in (own, other)
    )
    slopes = _slopes(apply, levels, *_hull(own, other))
    gaps = torch.stack([s * end for s in slopes for end in gap])
    return Range(
        first.amin(0), first.amax(0), second.amin(0), second.amax(0), gaps.amin(0), gaps.amax(0)
    )


def _hull(own: Line, other: Line) -> Line:
    return torch.minimum(own[0], other[0]), torch.maximum(own[1], other[1])


def _kinks(apply: Any, levels: Sequence[Any], held: Range) -> Relaxed:
    """Hold kinks between lines.

    What is made of D lies between its products with the least and the largest slope; or, where
    that is nearer, between the lines of the two networks apart; and is known where either
    network's unit stays on one piece.
    """
    own, other, gap = held.ends
    up, down = _lines(apply, levels, *own)
    other_up, other_down = _lines(apply, levels, *other)
    above, below = between(*_slopes(apply, levels, *_hull(own, other)), *gap)
    middle, center = (gap[0] + gap[1]) / 2, (own[0] + own[1]) / 2
    by_slopes = (above[0] - below[0]) * middle + above[1] - below[1]
    moved = center + middle
    apart = (other_up[0] - other_down[0]) * moved + other_up[1] - other_down[1]
    apart = apart + (up[0] - down[0]) * center + up[1] - down[1]
    near = apart < by_slopes
    first, second = (_piece(apply, levels, *ends) for ends in (own, other))
    known = first[2] & second[2]

    def plane(line: Line, one: Line, two: Line) -> Plane:
        tilt = torch.where(near, two[0] - one[0], 0.0)
        slope = torch.where(near, two[0], line[0])
        offset = torch.where(near, two[1] - one[1], line[1])
        return Plane(
            torch.where(known, second[0] - first[0], tilt),
            torch.where(known, second[0], slope),
            torch.where(known, second[1] - first[1], offset),
        )

    return Relaxed(up, down, plane(above, down, other_up), plane(below, up, other_down))


def _knots(levels: Sequence[Any], low: Tensor, high: Tensor) -> list[Tensor]:
    inside = [torch.as_tensor(level, dtype=torch.float64).expand_as(low) for level in levels]
    return [low, *(torch.clamp(knot, low, high) for knot in inside), high]


def _lines(apply: Any, levels: Sequence[Any], low: Tensor, high: Tensor) -> tuple[Line, Line]:
    """Return slope and offset of a line above and one below a kink between two ends.

    Any slope will do with the offset that holds at all knots: the function is linear between
    them. Above stands the chord; below, for a kink bending up, the steeper or the flatter of its
    slopes, by which end is farther.
    """
    knots = _knots(levels, low, high)
    values = [apply([knot]) for knot in knots]
    width = high - low
    chord = (values[-1] - values[0]) / torch.where(width > 0, width, 1.0)
    chord = torch.where(width > 0, chord, 0.0)
    least, most = _slopes(apply, levels, low, high)
    best = torch.where(high > -low, most, least)
    offsets = torch.stack([v - best * k for v, k in zip(values, knots, strict=True)])
    chords = torch.stack([v - chord * k for v, k in zip(values, knots, strict=True)])
    bends_up = chords.amax(0) <= chords[0] + 1e-12 * (1 + chords[0].abs())
    above = torch.where(bends_up, chords.amax(0), offsets.amax(0))
    below = torch.where(bends_up, offsets.amin(0), chords.amin(0))
    slopes = torch.where(bends_up, chord, best), torch.where(bends_up, best, chord)
    return (slopes[0], above), (slopes[1], below)


def _slopes(apply: Any, levels: Sequence[Any], low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the smallest and the largest slope of a kink between two ends."""
    at = [torch.as_tensor(level, dtype=torch.float64).expand_as(low) for level in levels]
    ends = [*at, None]
    least, most = torch.full_like(low, torch.inf), torch.full_like(low, -torch.inf)
    before: Tensor | None = None
    for after in ends:
        if before is None:
            assert after is not None
            first, second = after - 2, after - 1
            inside = low < after
        elif after is None:
            first, second = before + 1, before + 2
            inside = high > before
        else:
            first, second = before, after
            inside = (low < after) & (high > before)
        slope = (apply([second]) - apply([first])) / (second - first)
        least = torch.where(inside, torch.minimum(least, slope), least)
        most = torch.where(inside, torch.maximum(most, slope), most)
        before = after
    nowhere = least > most  # a single point on a knot
    return torch.where(nowhere, 0.0, least), torch.where(nowhere, 1.0, most)


def _piece(
    apply: Any, levels: Sequence[Any], low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return slope and offset of the piece between two ends, and whether it is one piece."""
    least, most = _slopes(apply, levels, low, high)
    return least, apply([low]) - least * low, least == most
