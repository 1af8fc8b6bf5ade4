"""Proven bounds on a network, and on how far another one is from it, over balls.

Both networks have the same operations with other weights. Their values are followed together: h
of the first, and D, what the second has more. An affine operation maps (h, D) linearly; a unit is
held between two lines, for h by chords and tangents, for D by planes in (h, D) that its slopes
between the bounds allow, so that units that are stable, or the same in both, cancel exactly (linear
bound propagation: Zhang et al. 2018, arXiv:1811.00866; for differences: Paulsen, Wang and Wang
2020, arXiv:2001.03662). Curved units: `whynet.models.curve_lines`; products of two values:
`whynet.models.difference_products`. Bounds hold up to the round-off of float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.models.difference_lines import Range, Relaxed, range_after, relaxed
from whynet.models.difference_products import product_back, transposed
from whynet.models.piecewise_linear_operations import Competitors, Product
from whynet.models.step_graph import Step, StepGraph, is_affine, is_elementwise, whole_steps

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

    def __init__(self, graph: StepGraph, other: StepGraph, balls: Balls) -> None:
        if [step.inputs for step in graph.steps] != [step.inputs for step in other.steps]:
            raise InputError("other", "a graph of other steps", "the same operations")
        self.graph, self.other, self.balls = graph, other, balls
        pairs = zip(whole_steps(graph), whole_steps(other), strict=True)
        self.steps = {step.output: (step, twin) for step, twin in pairs}
        self.shapes: dict[int, tuple[int, ...]] = {}
        with torch.no_grad():
            values = (one.values(balls.centers[:1]) for one in (graph, other))
            both = zip(*values, strict=True)
            for (index, value), (_, twin_value) in both:
                if not isinstance(value, Tensor):
                    continue
                if value.shape != twin_value.shape:
                    raise InputError("other", "values of other shapes", "the same shapes")
                self.shapes[index] = tuple(value.shape[1:])
        self.ranges: dict[int, Range] = {}
        self.relaxed: dict[int, Relaxed] = {}
        for step, twin in self.steps.values():
            if not is_affine(step):
                _check_same(step, twin, [self.shapes[source] for source in step.inputs])
        for step, _ in self.steps.values():
            if not is_affine(step):
                for index in step.inputs:
                    self._bound(index)

    def highest(self, own: Tensor | None, gap: Tensor | None) -> Tensor:
        """Return upper bounds of linear functions of the outputs, `[functions, points]`.

        Args:
            own: `[functions, points or 1, *output]`, weights of the first network's outputs.
            gap: the same of what the second network's outputs are more; None for zero.

        """
        return self._highest(self.graph.output, own, gap)

    def _bound(self, index: int) -> Range:
        """Bound one value: by what enters the unit it leaves, else by going back."""
        if index in self.ranges:
            return self.ranges[index]
        step, twin = self.steps.get(index, (None, None))
        if step is not None and is_elementwise(step):
            found = range_after(step, self._bound(step.inputs[0]))
        elif step is not None and twin is not None and not step.operation.carried:
            found = _range_by_interval(step, twin, self._bound(step.inputs[0]))
        else:
            found = self._carried(index)
            if step is not None and twin is not None and self._is_cheap(index):
                found = _within(found, _range_by_interval(step, twin, self._bound(step.inputs[0])))
        self.ranges[index] = found
        return found

    def _is_cheap(self, index: int) -> bool:
        """Whether an interval bounds a value without another pass back."""
        step = self.steps[index][0] if index in self.steps else None
        if step is None or is_elementwise(step) or not step.operation.carried:
            return step is not None
        return step.operation.interval is not None and self._is_cheap(step.inputs[0])

    def _carried(self, index: int) -> Range:
        shape = self.shapes[index]
        size = math.prod(shape)
        unit = torch.eye(size, dtype=torch.float64).reshape(size, 1, *shape)
        parts = [self._ends(index, unit[some]) for some in self._chunks(size, 4)]
        found = torch.cat(parts, 1).transpose(1, 2)
        high, low, gap_high, gap_low = (
            sign * part.reshape(-1, *shape)
            for sign, part in zip((1, -1, 1, -1), found, strict=True)
        )
        # Round-off never leaves an interval empty.
        low, gap_low = torch.minimum(low, high), torch.minimum(gap_low, gap_high)
        return Range(low, high, low + gap_low, high + gap_high, gap_low, gap_high)

    def _ends(self, index: int, unit: Tensor) -> Tensor:
        """Bound entries of h and of D above, and their negatives, `[4, entries, points]`.

        What is affine is carried back once for all four, and for all points.
        """
        count, zero = len(unit), torch.zeros_like(unit)
        step, twin = self.steps.get(index, (None, None))
        held = {index: (torch.cat([unit, -unit, zero, zero]), torch.cat([zero, zero, unit, -unit]))}
        constant = torch.zeros(4 * count, 1, dtype=torch.float64)
        if step is not None and twin is not None and is_affine(step):
            # Of both networks alone: of D the second has its own part, and what h's weights differ.
            first, own = self._transposed(step, unit)
            second, other = self._transposed(twin, unit)
            constant = torch.cat([own, -own, other - own, own - other])
            held = {}
            for source, here in first.items():
                there, nothing = second[source], torch.zeros_like(here)
                aside = there - here
                gaps = torch.cat([nothing, nothing, there, -there])
                held[source] = (torch.cat([here, -here, aside, -aside]), gaps)
        return self._back(held, constant).reshape(4, count, -1)

    def _chunks(self, count: int, times: int = 1) -> list[slice]:
        """Cut functions, each held so many times, into as many as may be carried at a time."""
        chunk = max(
            1, MOST_NUMBERS // (times * len(self.balls.centers) * max(self.graph.widest, 1))
        )
        return [slice(start, start + chunk) for start in range(0, count, chunk)]

    def _highest(self, index: int, own: Tensor | None, gap: Tensor | None) -> Tensor:
        given = own if own is not None else gap
        assert given is not None
        zero = torch.zeros_like(given)
        one, two = (zero if part is None else part for part in (own, gap))
        each = max(one.shape[1], two.shape[1])
        pair = [part.expand(-1, each, *part.shape[2:]) for part in (one, two)]
        found = []
        for some in self._chunks(len(given)):
            constant = torch.zeros(len(pair[0][some]), 1, dtype=torch.float64)
            found.append(self._back({index: (pair[0][some], pair[1][some])}, constant))
        return torch.cat(found)

    def _back(self, held: dict[int, tuple[Tensor, Tensor]], constant: Tensor) -> Tensor:
        """Carry linear functions of values back to the input; returns `[functions, points]`.

        Weights are `[functions, points or 1, *value]`: one for all points until a unit, whose
        lines are each point's own.
        """
        count, points = len(constant), len(self.balls.centers)
        for place in sorted(self.steps, reverse=True):
            if place not in held:
                continue
            step, twin = self.steps[place]
            made, more = self._through(step, twin, *held.pop(place))
            constant = constant + more
            for source, (first, second) in made.items():
                if source in held:
                    first, second = held[source][0] + first, held[source][1] + second
                held[source] = (first, second)
        nothing = torch.zeros(count, 1, *self.shapes[0], dtype=torch.float64)
        own, _ = held.get(0, (nothing, None))
        total = (self.balls.highest(own) + constant).expand(count, points)
        # A unit over an interval where its function has no bound gives none.
        return torch.nan_to_num(total, nan=torch.inf)

    def _through(
        self, step: Step, twin: Step, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        if is_elementwise(step):
            return self._units(step, own, gap)
        if not is_affine(step):
            points = len(self.balls.centers)
            own, gap = (t.expand(len(t), points, *t.shape[2:]) for t in (own, gap))
        if isinstance(step.operation.curved, Product):
            ranges = [self.ranges[source] for source in step.inputs]
            return product_back(step, ranges, own, gap)
        bends = step.operation.bends
        if isinstance(bends, Competitors):
            return self._maximum(step, bends, own, gap)
        return self._affine(step, twin, own, gap)

    def _affine(
        self, step: Step, twin: Step, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        first, constant = self._transposed(step, own - gap)
        second, more = self._transposed(twin, gap)
        made = {source: (first[source] + second[source], second[source]) for source in first}
        return made, constant + more

    def _transposed(self, step: Step, weights: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Carry `[functions, points, *output]` back through one network's affine step."""
        shapes = [self.shapes[source] for source in step.inputs]
        found, at_zero = transposed(step.operation.apply, shapes, weights.flatten(0, 1))
        made: dict[int, Tensor] = {}
        for source, part in zip(step.inputs, found, strict=True):
            part = part.reshape(*weights.shape[:2], *part.shape[1:])
            made[source] = made[source] + part if source in made else part
        return made, (weights * at_zero[:1]).sum(tuple(range(2, weights.ndim)))

    def _units(
        self, step: Step, own: Tensor, gap: Tensor
    ) -> tuple[dict[int, tuple[Tensor, Tensor]], Tensor]:
        (source,) = step.inputs
        if step.output not in self.relaxed:
            self.relaxed[step.output] = relaxed(step, self.ranges[source])
        lines = self.relaxed[step.output]
        slope, offset = (torch.where(own > 0, lines.up[i], lines.down[i]) for i in (0, 1))
        aside, gap_slope, gap_offset = (
            torch.where(gap > 0, getattr(lines.above, name), getattr(lines.below, name))
            for name in ("own", "gap", "offset")
        )
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
        first, at_zero = transposed(chosen, shapes, linear.flatten(0, 1))
        second, _ = transposed(chosen, shapes, linear_gap.flatten(0, 1))
        constant = constant + (linear * at_zero.reshape(linear.shape)).sum(2)
        made = {
            source: (
                one.reshape(count, points, *one.shape[1:]),
                two.reshape(count, points, *two.shape[1:]),
            )
            for source, one, two in zip(step.inputs, first, second, strict=True)
        }
        return made, constant


def _range_by_interval(step: Step, twin: Step, held: Range) -> Range:
    """Bound what an affine step of nonnegative weights, or one that says how, makes of ends."""
    first, second = step.operation.interval, twin.operation.interval
    assert first is not None and second is not None
    own, other, gap = held.ends
    low, high = first(*own)
    other_low, other_high = second(*other)
    if step.operation.carried:  # what networks' constants differ by is not known here
        return Range(low, high, other_low, other_high, other_low - high, other_high - low)
    return Range(low, high, other_low, other_high, *first(*gap))


def _within(one: Range, two: Range) -> Range:
    """Return the intersection of bounds; round-off never leaves it empty."""
    ends = []
    for (low, high), (least, most) in zip(one.ends, two.ends, strict=True):
        lower = torch.maximum(low, least)
        ends += [lower, torch.maximum(lower, torch.minimum(high, most))]
    return Range(*ends)


def _check_same(step: Step, twin: Step, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse networks whose units differ, as where slopes were learned."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(8, *shape, generator=generator).double() * 3 for shape in shapes]
    with torch.no_grad():
        one, two = (torch.nan_to_num(s.operation.apply(values)) for s in (step, twin))
    if not torch.equal(one, two):
        raise InputError("other", f"another kink ({step.name})", "the same kinks")


def _dominates(low: Tensor, high: Tensor, best: Tensor) -> Tensor:
    """Say where the competitor of the largest lower bound is above all others' upper bounds."""
    others = high.scatter(2, best, -torch.inf).amax(2)
    return low.gather(2, best)[..., 0] >= others
