"""Knots on segments: where functions that are affine between known points cross and bend.

A batch of segments is a flat table of knots: every segment starts at t = 0 and ends at t = 1, and
every quantity that is carried along is affine between neighboring knots. Finding where such a
quantity crosses a threshold, or where the largest of several changes, is then one vectorized pass,
and a new knot is inserted into everything that is carried by linear interpolation, exactly.

Positions inside a piece are kept relative to the piece, so that a piece of length 1e-9 is split as
accurately as one of length one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 2.0**-52
"""Spacing of float64 numbers at one."""

_FLOOR = 4 * EPSILON
"""Knots nearer than this, in t, are one knot: a segment has no finer coordinate."""


@dataclass(frozen=True)
class Knots:
    """The knots of a batch of segments, sorted by segment and position.

    Attributes:
        segment: int64 [K], the segment of each knot.
        t: float64 [K], its position, 0 at the first and 1 at the last knot of a segment.
        width: float64 [K], distance to the next knot of the segment, with small relative error
            even where the difference of two `t` has none left; 0 at the last knot.
        switches: int64 [K], how many units change state there; 0 at both ends.
        segments: number of segments.

    """

    segment: Tensor
    t: Tensor
    width: Tensor
    switches: Tensor
    segments: int

    @classmethod
    def ends(cls, segments: int) -> Knots:
        """Return the table that holds only the two ends of each segment."""
        return cls(
            torch.arange(segments).repeat_interleave(2),
            torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(segments),
            torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(segments),
            torch.zeros(2 * segments, dtype=torch.int64),
            segments,
        )

    @property
    def pieces(self) -> Tensor:
        """int64: the left knot of every piece; its right knot is the next row."""
        return torch.nonzero(self.segment[:-1] == self.segment[1:]).flatten()

    @property
    def interior(self) -> Tensor:
        """int64: the knots that are not an end of their segment."""
        same = self.segment[:-1] == self.segment[1:]
        return torch.nonzero(same[:-1] & same[1:]).flatten() + 1

    def counts(self) -> Tensor:
        """int64 [segments]: the number of knots of each segment, ends included."""
        return torch.bincount(self.segment, minlength=self.segments)

    def with_switches(self, more: Tensor) -> Knots:
        """Return the same knots with `more`, int64 [K], added to `switches`."""
        return Knots(self.segment, self.t, self.width, self.switches + more, self.segments)


@dataclass(frozen=True)
class Crossings:
    """Where units cross inside pieces, one row a crossing.

    Attributes:
        piece: int64 [N], the left knot of the piece.
        weight: float64 [N], position inside the piece, 0 to 1.
        slack: float64 [N], how far round-off can move it, in the same unit.
        unit: int64 [N], the flat index of the unit that crosses.
        level: float64 [N], the threshold that is crossed; 0 where there is none.

    """

    piece: Tensor
    weight: Tensor
    slack: Tensor
    unit: Tensor
    level: Tensor

    @classmethod
    def join(cls, parts: list[Crossings]) -> Crossings:
        """Put several tables of crossings under one another."""
        names = ("piece", "weight", "slack", "unit", "level")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Refinement:
    """How the rows of a finer table of knots are made from those of a coarser one.

    Attributes:
        left: int64 [K'], the old row at or left of each new row.
        fresh: int64 [M], the new rows that were no knot before.
        weight: float64 [M], their position between the old rows `left` and `left + 1`.
        place: int64 [N], the new row of each crossing that was handed in.

    """

    left: Tensor
    fresh: Tensor
    weight: Tensor
    place: Tensor

    def apply(self, values: Tensor) -> Tensor:
        """Carry `values`, [K, ...] and affine between knots, to the finer table: [K', ...]."""
        if self.fresh.numel() == 0:
            return values
        finer = values[self.left]
        before = self.left[self.fresh]
        weight = self.weight.reshape(-1, *[1] * (values.dim() - 1))
        finer[self.fresh] += weight * (values[before + 1] - values[before])
        return finer


def threshold_crossings(
    values: Tensor, level: Tensor, tolerance: Tensor, knots: Knots
) -> Crossings:
    """Find where units cross a level strictly inside pieces.

    Args:
        values: float64 [K, F], affine between knots.
        level: float64 [F], the level of each unit.
        tolerance: float64 [segments, F]; a unit this near to its level at a knot is on it, and
            one that stays on it over a piece does not cross.
        knots: the table of K knots.

    Returns:
        The crossings, in order of piece and unit.

    """
    distance = values - level
    sign = signs(distance, tolerance[knots.segment])
    opposite = sign[:-1] * sign[1:] < 0
    opposite &= (knots.segment[:-1] == knots.segment[1:])[:, None]
    piece, unit = torch.nonzero(opposite, as_tuple=True)
    before, after = distance[piece, unit], distance[piece + 1, unit]
    return Crossings(
        piece,
        before / (before - after),
        tolerance[knots.segment[piece], unit] / (before - after).abs(),
        unit,
        level[unit],
    )


def signs(distance: Tensor, tolerance: Tensor) -> Tensor:
    """int8: -1, 0 or 1, where 0 is `distance` within `tolerance` of zero."""
    return (distance > tolerance).to(torch.int8) - (distance < -tolerance).to(torch.int8)


def threshold_switches(values: Tensor, level: Tensor, tolerance: Tensor, knots: Knots) -> Tensor:
    """Count, per knot, the units that lie on another side of their level right of it than left.

    A side is below, on or above. Arguments as in `threshold_crossings`, after the crossings have
    become knots, so that no unit has two sides inside a piece. Returns int64 [K].
    """
    sign = signs(values - level, tolerance[knots.segment])
    side = torch.where(sign[:-1] != 0, sign[:-1], sign[1:])
    counts = torch.zeros_like(knots.switches)
    inner = knots.interior
    counts[inner] = (side[inner - 1] != side[inner]).sum(dim=1)
    return counts


def refine(knots: Knots, crossings: Crossings) -> tuple[Knots, Refinement]:
    """Insert crossings as knots; those that round-off cannot tell apart become one knot.

    Two crossings are one where they differ by less than the floor of t (4 ulp of one) or than
    twice the smaller of their slacks. A crossing whose own slack reaches a sharper neighbor joins
    it: units with equal hyperplanes but unequal scaling meet in one knot.

    Args:
        knots: the table so far.
        crossings: what to insert; may be empty.

    Returns:
        The finer table, and how rows are carried to it.

    Cost: a sort of the crossings and one pass over the table.

    """
    rows = knots.segment.numel()
    floor = _FLOOR * torch.clamp(1 / knots.width[crossings.piece], min=1.0)
    at_left = crossings.weight <= floor
    at_right = ~at_left & (crossings.weight >= 1 - floor)
    inside = torch.nonzero(~(at_left | at_right)).flatten()
    order = inside[torch.argsort(crossings.weight[inside], stable=True)]
    order = order[torch.argsort(crossings.piece[order], stable=True)]
    owner, piece, weight = _cluster(
        crossings.piece[order], crossings.weight[order], crossings.slack[order], floor[order]
    )
    old = torch.arange(rows)
    shifted = old + torch.searchsorted(piece, old)
    fresh = torch.arange(piece.numel()) + piece + 1
    place = shifted[crossings.piece + at_right.long()]
    place[order] = fresh[owner]
    left = torch.empty(rows + piece.numel(), dtype=torch.int64)
    left[shifted], left[fresh] = old, piece
    refinement = Refinement(left, fresh, weight, place)
    return _insert(knots, refinement), refinement


def _insert(knots: Knots, refinement: Refinement) -> Knots:
    left, fresh = refinement.left, refinement.fresh
    weight = torch.zeros(left.numel(), dtype=torch.float64)
    weight[fresh] = refinement.weight
    end = torch.ones_like(weight)
    same = left[1:] == left[:-1]
    end[:-1][same] = weight[1:][same]
    switches = knots.switches[left]
    switches[fresh] = 0
    return Knots(
        knots.segment[left],
        knots.t[left] + weight * knots.width[left],
        (end - weight) * knots.width[left],
        switches,
        knots.segments,
    )


def _cluster(
    piece: Tensor, weight: Tensor, slack: Tensor, floor: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Group sorted crossings into knots: owner of each crossing, piece and weight of each knot."""
    if piece.numel() == 0:
        return piece, piece, weight
    near = torch.maximum(floor[1:], 2 * torch.minimum(slack[1:], slack[:-1]))
    starts = (piece[1:] != piece[:-1]) | (weight[1:] - weight[:-1] > near)
    owner = torch.cat([torch.zeros(1, dtype=torch.int64), torch.cumsum(starts, 0)])
    size = torch.bincount(owner)
    first = torch.cumsum(size, 0) - size
    # The mean of equal weights, offset by the first of them, is that weight to the last bit.
    offset = torch.zeros(size.numel(), dtype=torch.float64)
    offset.index_add_(0, owner, weight - weight[first][owner])
    knot_weight, knot_piece = weight[first] + offset / size, piece[first]
    sharpest = torch.full_like(offset, torch.inf).scatter_reduce(0, owner, slack, "amin")
    target = _join_sharper(knot_piece, knot_weight, sharpest)
    stays = target == torch.arange(size.numel())
    renumber = torch.cumsum(stays, 0) - 1
    return renumber[target[owner]], knot_piece[stays], knot_weight[stays]


def _join_sharper(piece: Tensor, weight: Tensor, slack: Tensor) -> Tensor:
    """Say for each knot which knot it joins: itself, or a sharper neighbor within its slack."""
    own = torch.arange(piece.numel())
    target, reach = own.clone(), slack.clone()
    for step in (-1, 1):
        other = (own + step).clamp(0, piece.numel() - 1)
        gap = (weight - weight[other]).abs()
        joins = (other != own) & (piece[other] == piece) & (slack[other] < slack) & (gap <= reach)
        target, reach = torch.where(joins, other, target), torch.where(joins, gap, reach)
    # A knot that itself moves cannot be joined: what pointed to it stays where it is.
    return torch.where(target[target] == target, target, own)


def leaders(before: Tensor, after: Tensor, tolerance: Tensor) -> Tensor:
    """Say which of several affine functions is largest just right of the left end of a piece.

    Args:
        before: float64 [N, W], values at the left ends.
        after: float64 [N, W], values at the right ends.
        tolerance: float64 [N]; values this near are equal.

    Returns:
        int64 [N], the first index among the largest.

    """
    tied = before >= (before.amax(1) - tolerance)[:, None]
    slope = after.masked_fill(~tied, -torch.inf)
    best = slope >= (slope.amax(1) - tolerance)[:, None]
    return best.to(torch.int8).argmax(1)


def envelope_crossings(
    before: Tensor, after: Tensor, tolerance: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Walk the upper envelope of affine functions over pieces, exactly.

    Args:
        before: float64 [N, W], values at the left ends.
        after: float64 [N, W], values at the right ends.
        tolerance: float64 [N]; values this near are equal.

    Returns:
        Rows of changes, walked from left to right within each `row`: row int64, weight float64
        (position inside the piece), slack float64, the leader before and the leader after, int64.

    Cost: one pass over all rows, then one over those that still change, at most W - 1 times.

    """
    lead = leaders(before, after, tolerance)
    rises = after > (after.gather(1, lead[:, None]) + tolerance[:, None])
    row = torch.nonzero(rises.any(1)).flatten()
    lead, position = lead[row], torch.zeros(row.numel(), dtype=torch.float64)
    found: list[tuple[Tensor, ...]] = []
    while row.numel():
        start = before[row] - before[row].gather(1, lead[:, None])
        stop = after[row] - after[row].gather(1, lead[:, None])
        rises = stop > tolerance[row][:, None]
        gain = torch.where(rises, stop - start, 1.0)
        weight = torch.where(rises, (-start / gain).clamp(0, 1), torch.inf)
        slack = tolerance[row][:, None] / gain
        first = weight.amin(1, keepdim=True)
        # Of several that overtake at one point, the one that is largest behind it leads.
        ready = rises & (weight - slack <= first)
        winner = stop.masked_fill(~ready, -torch.inf).argmax(1)
        at = winner[:, None]
        position = torch.maximum(position, weight.gather(1, at)[:, 0])
        found.append((row, position, slack.gather(1, at)[:, 0], lead, winner))
        beaten = stop > stop.gather(1, at) + tolerance[row][:, None]
        again = beaten.any(1)
        row, lead, position = row[again], winner[again], position[again]
    if not found:
        none = torch.zeros(0, dtype=torch.int64)
        return none, position, position, none, none
    columns = [torch.cat(column) for column in zip(*found, strict=True)]
    order = torch.argsort(columns[0], stable=True)
    by_row, weight, slack, lost, won = (column[order] for column in columns)
    return by_row, weight, slack, lost, won


def leader_switches(values: Tensor, tolerance: Tensor, knots: Knots) -> Tensor:
    """Count, per knot, the maxima whose leader changes there.

    Args:
        values: float64 [K, P, W], the W functions of each of P maxima.
        tolerance: float64 [segments, P].
        knots: the table of K knots, which holds all changes inside pieces already.

    Returns:
        int64 [K]. Functions that agree on one side are no change of leader.

    """
    counts = torch.zeros_like(knots.switches)
    inner = knots.interior
    if inner.numel() == 0:
        return counts
    _, units, window = values.shape
    near = tolerance[knots.segment]
    pieces = knots.pieces
    lead = torch.zeros(knots.t.numel(), units, dtype=torch.int64)
    lead[pieces] = leaders(
        values[pieces].reshape(-1, window),
        values[pieces + 1].reshape(-1, window),
        near[pieces].reshape(-1),
    ).reshape(-1, units)
    at, unit = torch.nonzero(lead[inner - 1] != lead[inner], as_tuple=True)
    at = inner[at]
    old, new, slack = lead[at - 1, unit], lead[at, unit], near[at, unit]
    drop_left = values[at - 1, unit, old] - values[at - 1, unit, new]
    drop_right = values[at + 1, unit, new] - values[at + 1, unit, old]
    changed = (drop_left > slack) & (drop_right > slack)
    counts.index_add_(0, at, changed.to(torch.int64))
    return counts
