"""A piecewise-affine curve over segments: its pieces, bends, length, and changes of its argmax.

The number of pieces along a line is the one-dimensional measure of how much of its expressive
power a ReLU network uses: it can grow exponentially with depth (Raghu et al. 2017,
arXiv:1606.05336), and at initialization it grows linearly with the number of neurons (Hanin and
Rolnick 2019, arXiv:1901.09021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whynet.numerics.segment_knots import EPSILON, Knots, envelope_crossings, leaders


@dataclass(frozen=True)
class ArgmaxChanges:
    """Where the index of the largest output changes along segments.

    Attributes:
        offsets: int64 [S + 1]; rows `offsets[s]:offsets[s + 1]` belong to segment s.
        t: float64 [N], positions, ascending within a segment, in [0, 1).
        before: int64 [N], the index left of the change.
        after: int64 [N], the index right of it.

    """

    offsets: Tensor
    t: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class SegmentPieces:
    """A network along segments a + t (b - a): exact up to the round-off of float64.

    Between neighboring knots every unit of the network, and its output, is affine in t.

    Attributes:
        offsets: int64 [S + 1]; rows `offsets[s]:offsets[s + 1]` belong to segment s.
        t: float64 [K], ascending within a segment from 0 to 1.
        width: float64 [K], distance to the next knot, with small relative error also where
            neighboring `t` are nearly equal; 0 at the last knot.
        outputs: float64 [K, *output_shape], the network at the knots.
        switches: int64 [K], how many units switch there; 0 at both ends. A unit that stays on its
            threshold over a piece is in a third state.
        is_output_breakpoint: bool [K], whether the output changes its affine piece; false at both
            ends. These are the knots needed to rebuild the outputs at all knots to `tolerance`.
        tolerance: float64 [S, *output_shape], the round-off of the outputs that was allowed for.

    """

    offsets: Tensor
    t: Tensor
    width: Tensor
    outputs: Tensor
    switches: Tensor
    is_output_breakpoint: Tensor
    tolerance: Tensor

    @property
    def segments(self) -> int:
        """Number of segments."""
        return self.offsets.numel() - 1

    @property
    def segment(self) -> Tensor:
        """int64 [K]: the segment of each knot."""
        return torch.arange(self.segments).repeat_interleave(self.offsets.diff())

    @property
    def knots(self) -> Knots:
        """The table of knots."""
        return Knots(self.segment, self.t, self.width, self.switches, self.segments)

    def activation_pieces(self) -> Tensor:
        """int64 [S]: intervals of constant activation pattern along each segment."""
        return self.offsets.diff() - 1

    def output_pieces(self) -> Tensor:
        """int64 [S]: affine pieces of the output along each segment."""
        marked = self.segment[self.is_output_breakpoint]
        return torch.bincount(marked, minlength=self.segments) + 1

    def path_length(self) -> Tensor:
        """float64 [S]: Euclidean length of the curve of outputs, exact."""
        steps = self.outputs.reshape(self.outputs.shape[0], -1).diff(dim=0).norm(dim=1)
        left = self.knots.pieces
        return _zeros(self).index_add(0, self.segment[left], steps[left])

    def slope_variation(self) -> Tensor:
        """float64 [S]: sum over output breakpoints of the norm of the change of slope dy/dt."""
        ends = torch.zeros_like(self.is_output_breakpoint)
        ends[self.offsets[:-1]] = ends[self.offsets[1:] - 1] = True
        rows = torch.nonzero(ends | self.is_output_breakpoint).flatten()
        segment, t = self.segment[rows], self.t[rows]
        same = segment[1:] == segment[:-1]
        step = torch.where(same, t.diff(), 1.0)
        slopes = self.outputs.reshape(self.outputs.shape[0], -1)[rows].diff(dim=0) / step[:, None]
        inner = same[1:] & same[:-1]
        jumps = slopes.diff(dim=0).norm(dim=1)
        return _zeros(self).index_add(0, segment[1:-1][inner], jumps[inner])

    def evaluate(self, segment: Tensor, t: Tensor) -> Tensor:
        """Return the outputs at other positions, by interpolation between knots.

        Args:
            segment: int64 [N].
            t: float64 [N], in [0, 1].

        Returns:
            float64 [N, *output_shape].

        """
        # One sort over knots and positions; of equal ones, the knot comes first.
        every = torch.cat([self.t, t])
        order = torch.argsort(every, stable=True)
        order = order[torch.argsort(torch.cat([self.segment, segment])[order], stable=True)]
        passed = torch.cumsum(order < self.t.numel(), 0) - 1
        place = torch.empty_like(passed)
        place[order] = passed
        last = self.offsets[segment + 1] - 2
        left = torch.minimum(place[self.t.numel() :], last)
        weight = ((t - self.t[left]) / self.width[left]).clamp(0, 1)
        weight = weight.reshape(-1, *[1] * (self.outputs.dim() - 1))
        return self.outputs[left] + weight * (self.outputs[left + 1] - self.outputs[left])

    def argmax_changes(self) -> ArgmaxChanges:
        """Find every t where the index of the largest output changes.

        Outputs have shape [K, C]; one logit alone, [K] or [K, 1], is class 1 where it is
        positive, else class 0. A tie over a whole piece goes to the lowest index, as in
        `torch.argmax`; a tie in one point is no change.

        Raises:
            ValueError: the outputs are no vectors.

        """
        if self.outputs.dim() > 2:
            raise ValueError(f"outputs have shape {tuple(self.outputs.shape[1:])}, not (classes,)")
        outputs, tolerance = (x.reshape(x.shape[0], -1) for x in (self.outputs, self.tolerance))
        if outputs.shape[1] == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], 1)
        return _argmax_changes(replace(self, outputs=outputs, tolerance=tolerance))


def _zeros(pieces: SegmentPieces) -> Tensor:
    return torch.zeros(pieces.segments, dtype=torch.float64)


def _argmax_changes(pieces: SegmentPieces) -> ArgmaxChanges:
    left, outputs = pieces.knots.pieces, pieces.outputs
    near = pieces.tolerance.amax(1)[pieces.segment[left]]
    before, after = outputs[left], outputs[left + 1]
    row, weight, _, _, won = envelope_crossings(before, after, near)
    # The leaders along a segment in order: the first of each piece, then those that overtake.
    first = leaders(before, after, near)
    owner = torch.cat([torch.arange(left.numel()), row])
    leader = torch.cat([first, won])
    start = left[owner]
    t = pieces.t[start]
    t[left.numel() :] += weight * pieces.width[left[row]]
    order = torch.argsort(owner, stable=True)
    segment, t, leader = pieces.segment[start][order], t[order], leader[order]
    # Where several leaders begin at one t, only the last of them leads over an interval.
    same = segment[1:] == segment[:-1]
    final = torch.ones_like(leader, dtype=torch.bool)
    final[:-1] = ~(same & (t[1:] - t[:-1] <= 4 * EPSILON))
    begin = t.clone()
    begin[1:] = torch.where(same & ~final[:-1], t[:-1], t[1:])
    segment, begin, leader = segment[final], begin[final], leader[final]
    change = torch.nonzero((segment[1:] == segment[:-1]) & (leader[1:] != leader[:-1])).flatten()
    counts = torch.bincount(segment[change], minlength=pieces.segments)
    return ArgmaxChanges(offsets_of(counts), begin[change + 1], leader[change], leader[change + 1])


def joined(parts: Sequence[SegmentPieces]) -> SegmentPieces:
    """Put the results of groups of segments under one another."""
    names = ("t", "width", "outputs", "switches", "is_output_breakpoint", "tolerance")
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    return SegmentPieces(offsets_of(torch.cat([part.offsets.diff() for part in parts])), **columns)


def offsets_of(counts: Tensor) -> Tensor:
    """Return where the rows of each segment begin and the last ends, int64 [S + 1]."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])


def output_bends(outputs: Tensor, tolerance: Tensor, knots: Knots) -> Tensor:
    """Choose the knots that the outputs need: where they truly leave a straight line.

    A knot where the outputs deviate from the line through its neighbors by more than round-off
    bends them. Knots too near to one another for that test are then held against the line between
    the chosen knots around them, and the worst of each gap is chosen until none deviates.

    Args:
        outputs: float64 [K, C].
        tolerance: float64 [segments, C], round-off of the outputs.
        knots: the table of K knots.

    Returns:
        bool [K], false at the ends of the segments. The outputs at all knots lie within
        `tolerance` (and the round-off of t) of the interpolation between chosen knots and ends.

    Cost: a few passes over the table; each chooses at least one knot.

    """
    rows = torch.arange(knots.t.numel())
    inner = knots.interior
    chosen = torch.ones_like(rows, dtype=torch.bool)
    near = tolerance[knots.segment]
    chosen[inner] = False
    ends = chosen.clone()
    if inner.numel() == 0:
        return chosen & ~ends
    total = knots.width[inner - 1] + knots.width[inner]
    share = (knots.width[inner - 1] / total)[:, None]
    line = outputs[inner - 1] + share * (outputs[inner + 1] - outputs[inner - 1])
    chosen[inner] = ((outputs[inner] - line).abs() > near[inner]).any(1)
    while True:
        excess, left = _excess(outputs, near, knots.t, chosen)
        # One knot a gap: the first of those that deviate most.
        worst = torch.zeros(rows.numel(), dtype=torch.float64)
        worst.scatter_reduce_(0, left, excess, "amax")
        bad = torch.nonzero((excess > 1) & (excess == worst[left])).flatten()
        if bad.numel() == 0:
            return chosen & ~ends
        fresh = torch.ones_like(bad, dtype=torch.bool)
        fresh[1:] = left[bad[1:]] != left[bad[:-1]]
        chosen[bad[fresh]] = True


def _excess(outputs: Tensor, near: Tensor, t: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation of each knot from the line between chosen knots around it, over its tolerance."""
    anchors = torch.nonzero(chosen).flatten()
    gap = torch.cumsum(chosen, 0) - 1
    left = anchors[gap]
    right = anchors[(gap + 1).clamp(max=anchors.numel() - 1)]
    other = torch.nonzero(~chosen).flatten()
    low, high = left[other], right[other]
    rise = outputs[high] - outputs[low]
    span = (t[high] - t[low])[:, None]
    share = (t[other] - t[low])[:, None] / span
    allowed = near[other] + rise.abs() * (4 * EPSILON / span)
    gaps = (outputs[other] - outputs[low] - share * rise).abs()
    excess = torch.zeros_like(t)
    excess[other] = (gaps / allowed.clamp(min=torch.finfo(torch.float64).tiny)).amax(1)
    return excess, left
