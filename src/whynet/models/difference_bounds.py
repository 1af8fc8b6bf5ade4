"""Proven bounds on a piecewise-linear network, and on how far another one is from it, over balls.

Both networks have the same operations with other weights. Their values are followed together: h
of the first, and D, what the second has more. An affine operation maps (h, D) linearly; a kink is
held between two lines, for h by its chord and a line below, for D by what its slopes between the
bounds allow, so that units that are stable, or the same in both, cancel exactly (linear bound
propagation: Zhang et al. 2018, arXiv:1811.00866; for differences: Paulsen, Wang and Wang 2020,
arXiv:2001.03662). Bounds hold up to the round-off of float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.piecewise_linear import PiecewiseLinearGraph, Step
from whynet.models.piecewise_linear_operations import Competitors, Thresholds

Norm = Literal["l2", "linf"]

MOST_NUMBERS: Final = 2**24
"""Numbers that one pass back through the networks may hold at any step."""


@dataclass(frozen=True, eq=False)
class Balls:
    """Balls of inputs.

    Attributes:
        centers: `[points, *input]`, float64.
        radius: `[points]`.
        norm: in which they are balls.

    """

    centers: Tensor
    radius: Tensor
    norm: Norm

    def highest(self, slopes: Tensor) -> Tensor:
        """Return the largest value of linear functions `[functions, points, *input]`."""
        flat, center = slopes.flatten(2), self.centers.flatten(1)
        size = flat.abs().sum(2) if self.norm == "linf" else flat.norm(dim=2)
        return (flat * center).sum(2) + size * self.radius


@dataclass(frozen=True, eq=False)
class _Range:
    """Bounds of one value of the graph, `[points, *shape]` each: of h, of h + D, and of D."""

    low: Tensor
    high: Tensor
    other_low: Tensor
    other_high: Tensor
    gap_low: Tensor
    gap_high: Tensor


class JointBounds:
    """Bounds over balls, of two networks followed together.

    Args:
        graph: the first network.
        other: the second, with the same steps.
        balls: the balls.

    Raises:
        InputError: the graphs have different operations or shapes.

    Cost: for every value that enters a kink, one pass back for each of its entries and point.
    """

    def __init__(
        self, graph: PiecewiseLinearGraph, other: PiecewiseLinearGraph, balls: Balls
    ) -> None:
        if [step.inputs for step in graph.steps] != [step.inputs for step in other.steps]:
            raise InputError("other", "a graph of other steps", "the same operations")
        self.graph, self.other, self.balls = graph, other, balls
        pairs = zip(graph.steps, other.steps, strict=True)
        self.steps = {step.output: (step, twin) for step, twin in pairs}
        self.shapes: dict[int, tuple[int, ...]] = {}
        with torch.no_grad():
            values = (one.values(balls.centers[:1]) for one in (graph, other))
            both = zip(*values, strict=True)
            for (index, value), (_, twin_value) in both:
                if not isinstance(value, Tensor) or value.shape != twin_value.shape:
                    raise InputError("other", "values of other shapes", "the same shapes")
                self.shapes[index] = tuple(value.shape[1:])
        for step, twin in self.steps.values():
            if step.operation.bends is not None:
                _check_kink(step, twin, [self.shapes[source] for source in step.inputs])
        self.ranges: dict[int, _Range] = {}
        for step in graph.steps:
            if step.operation.bends is not None:
                for index in step.inputs:
                    if index not in self.ranges:
                        self.ranges[index] = self._range(index)

    def highest(self, own: Tensor | None, gap: Tensor | None) -> Tensor:
        """Return upper bounds of linear functions of the outputs, `[functions, points]`.

        Args:
            own: `[functions, points or 1, *output]`, weights of the first network's outputs.
            gap: the same of what the second network's outputs are more; None for zero.

        """
        return self._highest(self.graph.output, own, gap)

    def _range(self, index: int) -> _Range:
        """Bound one value: from what enters a kink where it is one's result, else by going back."""
        step = self.steps[index][0] if index in self.steps else None
        if step is not None and isinstance(step.operation.bends, Thresholds):
            return _range_after(step, step.operation.bends, self.ranges[step.inputs[0]])
        size = math.prod(self.shapes[index])
        unit = torch.eye(size, dtype=torch.float64).reshape(size, 1, *self.shapes[index])
        ends = []
        for own, gap in ((unit, None), (None, unit)):
            negative = [None if part is None else -part for part in (own, gap)]
            high = self._highest(index, own, gap).T.reshape(-1, *self.shapes[index])
            low = -self._highest(index, *negative).T.reshape(-1, *self.shapes[index])
            ends.append((torch.minimum(low, high), high))
        (low, high), (gap_low, gap_high) = ends
        return _Range(low, high, low + gap_low, high + gap_high, gap_low, gap_high)

    def _highest(self, index: int, own: Tensor | None, gap: Tensor | None) -> Tensor:
        given = own if own is not None else gap
        assert given is not None
        points = len(self.balls.centers)
        widest = max(self.graph.widest, 1)
        chunk = max(1, MOST_NUMBERS // (points * widest))
        found = []
        for start in range(0, len(given), chunk):
            parts = [None if p is None else p[start : start + chunk] for p in (own, gap)]
            found.append(self._back(index, *parts))
        return torch.cat(found)

    def _back(self, index: int, own: Tensor | None, gap: Tensor | None) -> Tensor:
        """Carry linear functions of one value back to the input."""
        given = own if own is not None else gap
        assert given is not None
        count, points = len(given), len(self.balls.centers)
        shape = (count, points, *self.shapes[index])
        zero = torch.zeros(shape, dtype=torch.float64)
        held = {
            index: (
                zero if own is None else own.expand(shape).clone(),
                zero.clone() if gap is None else gap.expand(shape).clone(),
            )
        }
        constant = torch.zeros(count, points, dtype=torch.float64)
        for place in sorted(self.steps, reverse=True):
            if place not in held or place > index:
                continue
            step, twin = self.steps[place]
            weights = held.pop(place)
            made, more = self._through(step, twin, *weights)
            constant += more
            for source, (first, second) in made.items():
                if source in held:
                    first, second = held[source][0] + first, held[source][1] + second
                held[source] = (first, second)
        own_back, _ = held.get(0, (torch.zeros(count, points, *self.shapes[0]).double(), None))
        return self.balls.highest(own_back) + constant

    def _through(
        self, step: Step, twin: Step, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        bends = step.operation.bends
        if bends is None:
            return self._affine(step, twin, own, gap)
        if isinstance(bends, Thresholds):
            (source,) = step.inputs
            return self._kink(source, step, bends, own, gap)
        return self._maximum(step, bends, own, gap)

    def _affine(
        self, step: Step, twin: Step, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        count, points = own.shape[:2]
        shapes = [self.shapes[source] for source in step.inputs]
        rest = own - gap
        first, at_zero = _transposed(step.operation.apply, shapes, rest.flatten(0, 1))
        second, other_zero = _transposed(twin.operation.apply, shapes, gap.flatten(0, 1))
        axes = tuple(range(2, own.ndim))
        constant = (rest * at_zero[:1]).sum(axes) + (gap * other_zero[:1]).sum(axes)
        made: dict[int, tuple[Tensor, Tensor]] = {}
        for source, one, two in zip(step.inputs, first, second, strict=True):
            rest_in, gap_in = (part.reshape(count, points, *part.shape[1:]) for part in (one, two))
            before = made.get(source, (0.0, 0.0))
            made[source] = (before[0] + rest_in + gap_in, before[1] + gap_in)
        return made, constant

    def _kink(
        self, source: int, step: Step, bends: Thresholds, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        held = self.ranges[source]
        apply = step.operation.apply
        upper, lower = _lines(apply, bends.levels, held.low, held.high)
        slope = torch.where(own > 0, upper[0], lower[0])
        offset = torch.where(own > 0, upper[1], lower[1])
        wide_low, wide_high = (
            torch.minimum(held.low, held.other_low),
            torch.maximum(held.high, held.other_high),
        )
        least, most = _slopes(apply, bends.levels, wide_low, wide_high)
        above, below = _between(least, most, held.gap_low, held.gap_high)
        gap_slope = torch.where(gap > 0, above[0], below[0])
        gap_offset = torch.where(gap > 0, above[1], below[1])
        # Where either network's unit stays on one piece, what is made of D is known.
        first, second = (
            _piece(apply, bends.levels, *ends)
            for ends in ((held.low, held.high), (held.other_low, held.other_high))
        )
        known = first[2] & second[2]
        gap_slope = torch.where(known, second[0], gap_slope)
        gap_offset = torch.where(known, second[1] - first[1], gap_offset)
        aside = torch.where(known, second[0] - first[0], 0.0)
        axes = tuple(range(2, own.ndim))
        constant = (own * offset).sum(axes) + (gap * gap_offset).sum(axes)
        return {source: (own * slope + gap * aside, gap * gap_slope)}, constant

    def _maximum(
        self, step: Step, bends: Competitors, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        """Hold a maximum: exact where one competitor is always the largest, else by its ends."""
        ranges = [self.ranges[source] for source in step.inputs]
        names = ("low", "high", "other_low", "other_high", "gap_low", "gap_high")
        if bends.sign < 0:  # what is gathered are negatives
            names = ("high", "low", "other_high", "other_low", "gap_high", "gap_low")
        low, high, other_low, other_high, gap_low, gap_high = (
            bends.gather([getattr(held, name) for held in ranges]) for name in names
        )
        best = low.argmax(2, keepdim=True)
        sure = _dominates(low, high, best)
        both = sure & _dominates(other_low, other_high, best)
        count, points = own.shape[:2]
        mine, rest = bends.sign * own.flatten(2), bends.sign * gap.flatten(2)
        # Below the maximum is each competitor; above it the largest upper bound.
        held_by_best = (mine < 0) | sure
        linear = torch.where(held_by_best, mine, 0.0)
        linear_gap = torch.where(both, rest, 0.0)
        constant = torch.where(held_by_best, 0.0, mine * high.amax(2)).sum(2)
        ends = torch.where(rest > 0, gap_high.amax(2), gap_low.amin(2))
        constant = constant + torch.where(both, 0.0, rest * ends).sum(2)

        def chosen(values: Sequence[Any]) -> Tensor:
            gathered = bends.gather(values)
            return gathered.gather(2, best.repeat(len(gathered) // points, 1, 1))[..., 0]

        shapes = [self.shapes[source] for source in step.inputs]
        first, at_zero = _transposed(chosen, shapes, linear.flatten(0, 1))
        second, _ = _transposed(chosen, shapes, linear_gap.flatten(0, 1))
        constant = constant + (linear * at_zero.reshape(linear.shape)).sum(2)
        made = {
            source: (
                one.reshape(count, points, *one.shape[1:]),
                two.reshape(count, points, *two.shape[1:]),
            )
            for source, one, two in zip(step.inputs, first, second, strict=True)
        }
        return made, constant


def _range_after(step: Step, bends: Thresholds, held: _Range) -> _Range:
    """Bound what leaves a kink by what enters it."""
    apply, levels = step.operation.apply, bends.levels
    own = torch.stack([apply([knot]) for knot in _knots(levels, held.low, held.high)])
    other = torch.stack([apply([k]) for k in _knots(levels, held.other_low, held.other_high)])
    wide_low = torch.minimum(held.low, held.other_low)
    wide_high = torch.maximum(held.high, held.other_high)
    slopes = _slopes(apply, levels, wide_low, wide_high)
    gaps = torch.stack([s * end for s in slopes for end in (held.gap_low, held.gap_high)])
    return _Range(
        own.amin(0), own.amax(0), other.amin(0), other.amax(0), gaps.amin(0), gaps.amax(0)
    )


def _check_kink(step: Step, twin: Step, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse networks whose kinks differ, as where slopes were learned."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(8, *shape, generator=generator).double() * 3 for shape in shapes]
    with torch.no_grad():
        one, two = step.operation.apply(values), twin.operation.apply(values)
    if not torch.equal(one, two):
        raise InputError("other", f"another kink ({step.name})", "the same kinks")


def _dominates(low: Tensor, high: Tensor, best: Tensor) -> Tensor:
    """Say where the competitor of the largest lower bound is above all others' upper bounds."""
    others = high.scatter(2, best, -torch.inf).amax(2)
    return low.gather(2, best)[..., 0] >= others


def _transposed(
    apply: Any, shapes: Sequence[tuple[int, ...]], weights: Tensor
) -> tuple[list[Tensor], Tensor]:
    """Return the transpose of an affine map at weights `[rows, *output]`, and its value at zero."""
    zeros = [
        torch.zeros(len(weights), *shape, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    with torch.enable_grad():
        value = apply(zeros)
    grads = torch.autograd.grad(value, zeros, weights.reshape(value.shape), allow_unused=True)
    found = [
        torch.zeros_like(zero) if grad is None else grad
        for zero, grad in zip(zeros, grads, strict=True)
    ]
    return found, value.detach()


def _knots(levels: Sequence[Any], low: Tensor, high: Tensor) -> list[Tensor]:
    inside = [torch.as_tensor(level, dtype=torch.float64).expand_as(low) for level in levels]
    return [low, *(torch.clamp(knot, low, high) for knot in inside), high]


Line = tuple[Tensor, Tensor]


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


def _between(least: Tensor, most: Tensor, low: Tensor, high: Tensor) -> tuple[Line, Line]:
    """Return lines above and below what a kink with slopes between two makes of a difference.

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
