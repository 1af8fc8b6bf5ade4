"""All pieces of a piecewise-linear network along segments of its input space, exactly.

Every value of the network is carried at all knots found so far, with the knots of all segments
along one batch axis; it is affine between them. At a piecewise-linear step the crossings become
knots of everything that is still needed, then the step is applied. The work is about one forward
pass per knot (Raghu et al. 2017, arXiv:1606.05336; Hanin and Rolnick 2019, arXiv:1901.09021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_operations import Competitors, Thresholds, Value
from whynet.models.step_graph import Step
from whynet.numerics.segment_knots import (
    EPSILON,
    Crossings,
    Knots,
    envelope_crossings,
    leader_switches,
    refine,
    threshold_crossings,
    threshold_switches,
)
from whynet.numerics.segment_pieces import SegmentPieces, joined, offsets_of, output_bends

_ON_LEVEL = 16.0
"""Standard round-offs within which a value counts as on its level."""

_ON_LINE = 64.0
"""Standard round-offs within which an output counts as on a line."""

_SPLIT = 2**0.5 - 1
"""Where a segment too long for memory is cut: a place where nothing happens by design."""


class _TooMany(Exception):
    """The knots of a batch of segments do not fit into the memory allowed."""


@dataclass
class _State:
    """What is carried along: the knots, and values and squared round-off of what is needed."""

    knots: Knots
    values: dict[int, Value]
    squares: dict[int, Value]


@torch.no_grad()
def segment_pieces(
    graph: PiecewiseLinearGraph,
    starts: Tensor,
    ends: Tensor,
    max_pieces: int = 1_000_000,
    max_values: int = 2**20,
) -> SegmentPieces | NotApplicable:
    """Find all knots of a network along segments, and its outputs there.

    Args:
        graph: the network.
        starts: [S, *input_shape], where the segments start.
        ends: [S, *input_shape], where they end.
        max_pieces: most pieces that one segment may have.
        max_values: most float64 numbers held for one step; segments are grouped, and long ones
            cut, to stay below. The whole needs a few times the number of live tensors as much.

    Returns:
        The pieces, or the sentence that says that a segment has too many.

    Raises:
        InputError: shapes do not fit the network, or values are not finite.

    Cost: about one forward pass per knot, in float64; memory as said under `max_values`.

    """
    for name, points in (("starts", starts), ("ends", ends)):
        if tuple(points.shape[1:]) != graph.input_shape or points.dim() == 0:
            wanted = f"(segments, {', '.join(map(str, graph.input_shape))})"
            raise InputError(name, f"a tensor of shape {tuple(points.shape)}", f"shape {wanted}")
        if not bool(points.isfinite().all()):
            raise InputError(name, "values that are not finite", "finite values")
    if starts.shape != ends.shape or starts.shape[0] == 0:
        raise InputError("ends", f"{ends.shape[0]} segments", f"{starts.shape[0]}, at least one")
    limit = max(8, max_values // graph.widest)
    first, last = starts.double(), ends.double()
    done: list[SegmentPieces] = []
    begin, group = 0, max(1, limit // 64)
    while begin < starts.shape[0]:
        part = slice(begin, begin + group)
        found = _grouped(graph, first[part], last[part], limit, max_pieces)
        if isinstance(found, NotApplicable):
            return found
        if any(int(pieces.activation_pieces().max()) > max_pieces for pieces in found):
            return _too_many(max_pieces, 1.0)
        done.extend(found)
        begin += group
        # As many segments next time as fit if they have as many knots as these.
        knots = sum(pieces.t.numel() for pieces in found)
        segments = sum(pieces.segments for pieces in found)
        group = max(1, 2 * limit * segments // (3 * knots))
    return joined(done)


def _grouped(
    graph: PiecewiseLinearGraph, starts: Tensor, ends: Tensor, limit: int, max_pieces: int
) -> list[SegmentPieces] | NotApplicable:
    """Walk a group of segments together; in halves where its knots are too many."""
    try:
        return [_walk(graph, starts, ends, limit)]
    except _TooMany:
        pass
    if starts.shape[0] == 1:
        whole = _cut(graph, starts, ends, limit, max_pieces)
        return whole if isinstance(whole, NotApplicable) else [whole]
    half = starts.shape[0] // 2
    halves = []
    for part in (slice(None, half), slice(half, None)):
        found = _grouped(graph, starts[part], ends[part], limit, max_pieces)
        if isinstance(found, NotApplicable):
            return found
        halves.extend(found)
    return halves


def _cut(
    graph: PiecewiseLinearGraph, start: Tensor, end: Tensor, limit: int, max_pieces: int
) -> SegmentPieces | NotApplicable:
    """Walk one segment in parts, each cut again where its knots are too many."""
    waiting, done, found = [(0.0, 1.0)], [], 0
    while waiting:
        low, high = waiting.pop()
        ends = [start + place * (end - start) for place in (low, high)]
        try:
            part = _walk(graph, ends[0], ends[1], limit)
        except _TooMany:
            middle = low + _SPLIT * (high - low)
            waiting += [(middle, high), (low, middle)]
            continue
        found += part.t.numel() - 1
        if found > max_pieces:
            return _too_many(max_pieces, high)
        done.append((low, high, part))
    return _end_to_end(done)


def _too_many(max_pieces: int, end: float) -> NotApplicable:
    return NotApplicable(
        f"One segment crosses more than {max_pieces:,} linear pieces of the network (up to "
        f"t = {end:.3g} alone); take a shorter segment or raise max_pieces."
    )


def _end_to_end(parts: Sequence[tuple[float, float, SegmentPieces]]) -> SegmentPieces:
    """Join the parts of one segment, and forget the knots where they were cut."""
    last = len(parts) - 1
    columns: list[list[Tensor]] = [[], [], [], []]
    for number, (low, high, part) in enumerate(parts):
        rows = slice(None) if number == last else slice(None, -1)
        scaled = (low + part.t * (high - low), part.width * (high - low))
        for column, values in zip(columns, (*scaled, part.outputs, part.switches), strict=True):
            column.append(values[rows])
    t, width, outputs, switches = (torch.cat(column) for column in columns)
    tolerance = torch.stack([part.tolerance for _, _, part in parts]).amax(0)
    knots = Knots(torch.zeros(t.numel(), dtype=torch.int64), t, width, switches, 1)
    return _table(knots, outputs, tolerance)


def _walk(graph: PiecewiseLinearGraph, starts: Tensor, ends: Tensor, limit: int) -> SegmentPieces:
    """Carry all segments of a group through the network at once."""
    segments = starts.shape[0]
    points = torch.stack([starts, ends], dim=1).flatten(0, 1)
    state = _State(Knots.ends(segments), {0: points}, {0: torch.zeros_like(starts)})
    for step in graph.steps:
        squares = [
            _with_rounding(state.squares[index], state.values[index], state.knots)
            for index in step.inputs
        ]
        bends = step.operation.bends
        if isinstance(bends, Thresholds):
            made = _cross_levels(state, step, bends, squares[0], limit)
        elif isinstance(bends, Competitors):
            made = _change_leaders(state, step, bends, squares, limit)
        else:
            made = step.operation.apply([state.values[index] for index in step.inputs])
        state.values[step.output] = made
        state.squares[step.output] = step.operation.spread(squares)
        for index in step.last_use:
            del state.values[index], state.squares[index]
    outputs = state.values[graph.output]
    squares = _with_rounding(state.squares[graph.output], outputs, state.knots)
    return _table(state.knots, outputs, _ON_LINE * torch.sqrt(squares))


def _map(function: Callable[..., Tensor], *values: Value) -> Value:
    """Apply a function to tensors, or to tuples of tensors one by one."""
    if isinstance(values[0], Tensor):
        return function(*values)
    return tuple(_map(function, *items) for items in zip(*values, strict=True))


def _with_rounding(squares: Value, values: Value, knots: Knots) -> Value:
    """Add to the squared round-off of values that of storing them: [segments, ...]."""

    def add(square: Tensor, value: Tensor) -> Tensor:
        if knots.t.numel() == 2 * knots.segments:
            largest = value.abs().reshape(knots.segments, 2, *value.shape[1:]).amax(1)
        else:
            largest = torch.segment_reduce(value.abs(), "max", lengths=knots.counts())
        rounded: Tensor = square + (EPSILON * largest) ** 2
        return rounded

    return _map(add, squares, values)


def _cross_levels(
    state: _State, step: Step, bends: Thresholds, squares: Tensor, limit: int
) -> Value:
    """Make knots where units cross their levels, then apply the step."""
    index = step.inputs[0]
    value = state.values[index]
    tolerance = _ON_LEVEL * _rows(torch.sqrt(squares))
    levels = [
        torch.broadcast_to(torch.as_tensor(level, dtype=torch.float64), value[:1].shape).flatten()
        for level in bends.levels
    ]
    flat = _rows(value)
    crossings = Crossings.join(
        [threshold_crossings(flat, level, tolerance, state.knots) for level in levels]
    )
    place = _refine(state, crossings, limit)
    # A unit is exactly on its level at its crossing, whatever other knot that was merged with.
    snapped = _rows(state.values[index]).clone()
    snapped[place, crossings.unit] = crossings.level
    for level in levels:
        switches = threshold_switches(snapped, level, tolerance, state.knots)
        state.knots = state.knots.with_switches(switches)
    return step.operation.apply([snapped.reshape(-1, *value.shape[1:])])


def _change_leaders(
    state: _State, step: Step, bends: Competitors, squares: Sequence[Value], limit: int
) -> Value:
    """Make knots where the largest of several values changes, then apply the step."""
    tolerance = _ON_LEVEL * _rows(torch.sqrt(2 * step.operation.spread(squares)))
    values = bends.gather([state.values[index] for index in step.inputs])
    units, left = values.shape[1], state.knots.pieces
    row, weight, slack, _, _ = envelope_crossings(
        values[left].flatten(0, 1),
        values[left + 1].flatten(0, 1),
        tolerance[state.knots.segment[left]].flatten(),
    )
    piece, unit = left[row // units], row % units
    _refine(state, Crossings(piece, weight, slack, unit, torch.zeros_like(weight)), limit)
    inputs = [state.values[index] for index in step.inputs]
    switches = leader_switches(bends.gather(inputs), tolerance, state.knots)
    state.knots = state.knots.with_switches(switches)
    return step.operation.apply(inputs)


def _rows(values: Tensor) -> Tensor:
    """Flatten all axes but the first; [K] becomes [K, 1]."""
    return values.reshape(values.shape[0], -1)


def _refine(state: _State, crossings: Crossings, limit: int) -> Tensor:
    """Insert crossings into everything that is carried; returns the new row of each."""
    state.knots, refinement = refine(state.knots, crossings)
    if state.knots.t.numel() > max(limit, 2 * state.knots.segments):
        raise _TooMany
    state.values = {index: _map(refinement.apply, value) for index, value in state.values.items()}
    return refinement.place


def _table(knots: Knots, outputs: Tensor, tolerance: Tensor) -> SegmentPieces:
    """Put the result together, without knots at which nothing switches and nothing bends."""
    bends = output_bends(_rows(outputs), _rows(tolerance), knots)
    kept = bends | (knots.switches > 0)
    same = knots.segment[1:] == knots.segment[:-1]
    kept[1:][~same] = kept[:-1][~same] = kept[0] = kept[-1] = True
    width = torch.zeros(int(kept.sum()), dtype=torch.float64)
    width.index_add_(0, torch.cumsum(kept, 0) - 1, knots.width)
    counts = torch.bincount(knots.segment[kept], minlength=knots.segments)
    return SegmentPieces(
        offsets_of(counts),
        knots.t[kept],
        width,
        outputs[kept],
        torch.where(bends, knots.switches.clamp(min=1), knots.switches)[kept],
        bends[kept],
        tolerance,
    )
