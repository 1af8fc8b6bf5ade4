"""A network along a polyline of its input space: every breakpoint and affine piece, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics.segment_pieces import SegmentPieces, joined

_AT_ONCE = 64
"""Segments between two looks at whether the user wants to stop."""


@dataclass(frozen=True)
class ClassChange:
    """A point of a polyline where the predicted class changes.

    Attributes:
        segment: which segment it lies on.
        t: position on that segment, from 0 to 1.
        point: the input there, float64 [*input_shape].
        before: the class left of it; of one logit, 1 where it is positive.
        after: the class right of it.

    """

    segment: int
    t: float
    point: Tensor
    before: int
    after: int


@dataclass(frozen=True)
class PolylinePieces:
    """A network along a polyline, exact up to the round-off of float64.

    Attributes:
        points: float64 [P, *input_shape], the corners; segment s runs from corner s to s + 1.
        lengths: float64 [S], Euclidean lengths of the segments.
        segments: the knots of every segment and the network there.
        complete: whether all segments were walked; after an interruption those that were are
            here, and every count is a lower bound.

    """

    points: Tensor
    lengths: Tensor
    segments: SegmentPieces
    complete: bool = True

    @property
    def pieces(self) -> int:
        """Intervals of constant activation pattern, summed over the segments."""
        return int(self.segments.activation_pieces().sum())

    @property
    def output_pieces(self) -> int:
        """Affine pieces of the output, summed over the segments."""
        return int(self.segments.output_pieces().sum())

    @property
    def breakpoints(self) -> Tensor:
        """float64 [N]: where units switch, ascending; segment s covers [s, s + 1]."""
        inner = self.segments.switches > 0
        return (self.segments.segment + self.segments.t)[inner]

    @property
    def slopes(self) -> Tensor:
        """float64 [pieces, *output_shape]: derivative of the output by distance, piece by piece."""
        left = self.segments.knots.pieces
        step = self.segments.width[left] * self.lengths[self.segments.segment[left]]
        step = torch.where(step > 0, step, 1.0).reshape(
            -1, *[1] * (self.segments.outputs.dim() - 1)
        )
        return (self.segments.outputs[left + 1] - self.segments.outputs[left]) / step

    @property
    def slope_variation(self) -> float:
        """Total variation of the slope inside the segments: sum of norms of its jumps."""
        lengths = torch.where(self.lengths > 0, self.lengths, 1.0)
        return float((self.segments.slope_variation() / lengths).sum())

    @property
    def image_length(self) -> float:
        """Euclidean length of the curve of outputs."""
        return float(self.segments.path_length().sum())

    def class_changes(self) -> tuple[ClassChange, ...]:
        """Find every change of the predicted class, in order.

        Raises:
            ValueError: the network returns no vector of scores.

        """
        found = self.segments.argmax_changes()
        owner = torch.arange(self.segments.segments).repeat_interleave(found.offsets.diff())
        first, last = self.points[owner], self.points[owner + 1]
        t = found.t.reshape(-1, *[1] * (self.points.dim() - 1))
        where = first + t * (last - first)
        rows = zip(owner, found.t, where, found.before, found.after, strict=True)
        return tuple(ClassChange(int(s), float(t), x, int(b), int(a)) for s, t, x, b, a in rows)

    def evaluate(self, position: Tensor) -> Tensor:
        """Return the outputs, [N, *output_shape], at positions in [0, S]: segment and t."""
        segment = position.long().clamp(0, self.segments.segments - 1)
        return self.segments.evaluate(segment, position.double() - segment)


def along(
    model: nn.Module | Subject, points: Any, *, max_pieces: int = 1_000_000
) -> PolylinePieces | NotApplicable:
    """Find every breakpoint of a piecewise-linear network along a polyline, exactly.

        pieces = whynet.regions.along(model, torch.stack([a, b, c]))
        pieces.pieces, pieces.slope_variation, pieces.class_changes()

    Between neighboring knots every unit and the output are affine. Where many units switch at
    one point, that point is one knot that knows how many (Raghu et al. 2017, arXiv:1606.05336;
    Hanin and Rolnick 2019, arXiv:1901.09021).

    Args:
        model: a network, taken in evaluation mode and left as it is, or a subject.
        points: [P, *input_shape], at least two corners, finite.
        max_pieces: most pieces that one segment may have.

    Returns:
        The pieces; or the sentence that says what is not piecewise linear, or that a segment has
        too many pieces. A keyboard interrupt returns the finished segments with `complete` false.

    Raises:
        InputError: points do not fit the network or are not finite, or weights are not finite.

    Cost: about one forward pass in float64 per knot.

    """
    corners = torch.as_tensor(points).detach().cpu()
    if corners.dim() < 1 or corners.shape[0] < 2:
        raise InputError(
            "points", f"an array of shape {list(corners.shape)}", "at least two points"
        )
    corners = corners.double()
    if not bool(corners.isfinite().all()):
        raise InputError("points", "values that are not finite", "finite points")
    graph = graph_from(model, corners[0])
    if isinstance(graph, NotApplicable):
        return graph
    done: list[SegmentPieces] = []
    count = corners.shape[0] - 1
    complete = True
    with preserved():
        try:
            for begin in range(0, count, _AT_ONCE):
                stop = min(begin + _AT_ONCE, count)
                found = segment_pieces(
                    graph, corners[begin:stop], corners[begin + 1 : stop + 1], max_pieces
                )
                if isinstance(found, NotApplicable):
                    return found
                done.append(found)
        except KeyboardInterrupt:
            if not done:
                raise
            complete = False
    pieces = joined(done)
    walked = corners[: pieces.segments + 1]
    lengths = walked.diff(dim=0).flatten(1).norm(dim=1)
    return PolylinePieces(walked, lengths, pieces, complete)
