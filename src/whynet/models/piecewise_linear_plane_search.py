"""Parts of a polygon carried through a network, one operation at a time.

A part is cut and carried as far as a bound on memory allows; where it becomes too large, the cells
that are left wait as a part of their own. Several threads may carry parts of one search: what parts
become does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_cancellation import applied
from whynet.models.piecewise_linear_maxima import cut_at_winners, units_of
from whynet.models.piecewise_linear_operations import Competitors, Thresholds
from whynet.models.piecewise_linear_plane_maps import affine_maps
from whynet.models.piecewise_linear_plane_probes import Probes
from whynet.models.piecewise_linear_plane_state import (
    NEAR,
    Cut,
    Cutter,
    Limits,
    PlaneState,
    cut_by_first,
    part_of,
    refined,
)
from whynet.models.step_graph import Step
from whynet.numerics.plane_cutting import cut_cells, ends_of, neighbors_of, refine
from whynet.numerics.plane_joining import (
    SHARED,
    Border,
    Part,
    SharedEdges,
    border_of,
    join_parts,
)

Array = np.ndarray[Any, Any]

_COPIES = 4
"""Of all living numbers at a vertex while cells are cut: before, after, and room to grow."""

_LEAST = 256
"""Vertices of a part that are held in any case."""

_SAME = 1e-9
"""Share of the polygon's extent within which vertices of the two sides of an edge are one."""

_NEW = -1
"""Stands, while cells are cut, for the origin of a new wall."""


@dataclass(frozen=True)
class Waiting:
    """A part of the polygon that was carried up to a step, and within it up to a unit.

    Attributes:
        state: its cells.
        names: int64 [V], names of its vertices, shared with other parts.
        step: the next step.
        unit: the next unit of that step, counted over its levels.
        path: which part it is: those of one part follow each other in ascending order.

    """

    state: PlaneState
    names: Array
    step: int = 0
    unit: int = 0
    path: tuple[int, ...] = ()


class Search:
    """Carries parts of the polygon through a network."""

    def __init__(
        self, graph: PiecewiseLinearGraph, polygon: Array, origin: Tensor, axes: Tensor,
        most: int, part_bytes: int, keep: Callable[[Part], Callable[[], Part]] | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.most = graph, most
        self.probes = Probes({}, ())
        self.origin, self.axes = origin, axes
        self.part_bytes = part_bytes
        self.extent = float(np.ptp(polygon, axis=0).max())
        self.named = len(polygon)
        self.parts: list[tuple[tuple[int, ...], Border, Callable[[], Part]]] = []
        self.keep = keep
        self.near = _SAME * self.extent
        self.cells = 1
        self.edges: list[tuple[Array, Array, Array]] = []
        self.shared = 0
        self.lock = Lock()

    def advance(self, own: list[Waiting]) -> bool:
        """Carry the only part of a list one step further; returns whether to go on.

        The list then holds what became of it, of which the last is to be carried first. It changes
        in one assignment, so that an interruption leaves it whole.
        """
        (item,) = own
        if item.step == len(self.graph.steps):
            self.finish(item)
            own.pop()
            return True
        step = self.graph.steps[item.step]
        per_vertex = _COPIES * 8 * self.probes.numbers[item.step]
        room = max(_LEAST, self.part_bytes // per_vertex)
        units = self._units(step, item.state)
        # Of what is to be cut, half of the room is left to new vertices.
        if len(item.state.vertices) > (room // 2 if units else room) and item.state.count > 1:
            own[:] = self._halves(item)
            return True
        if item.unit < units:
            others = self.cells - item.state.count
            limits = Limits(self.most - others, max(room, 2 * len(item.state.vertices) + 64))
            after, going = self._bent(item, step, units, limits)
            with self.lock:
                self.cells += sum(one.state.count for one in after) - item.state.count
            own[:] = after
            return going
        values = dict(item.state.values)
        values[step.output] = applied(step.operation, [values[index] for index in step.inputs])
        for index in step.last_use:
            values.pop(index, None)
        own[0] = replace(item, state=replace(item.state, values=values), step=item.step + 1, unit=0)
        return True

    def finish(self, item: Waiting) -> None:
        """Keep the cells of a part with their affine maps."""
        state = item.state
        maps = affine_maps(self.graph, self.origin, self.axes, state, self.extent)
        part = Part(
            state.vertices.copy(), item.names, state.offsets.copy(), state.corners.copy(),
            state.origins.copy(), maps,
        )  # fmt: skip
        held = (lambda: part) if self.keep is None else self.keep(part)
        self.parts.append((item.path, border_of(part), held))

    def in_order(self) -> list[tuple[tuple[int, ...], Border, Callable[[], Part]]]:
        """Return the finished parts in the order in which the polygon was cut into them."""
        return sorted(self.parts, key=lambda held: held[0])

    def shared_edges(self) -> SharedEdges:
        """Return the edges along which parts were taken from each other."""
        if not self.edges:
            return SharedEdges(np.zeros(0, int), np.zeros((0, 2), int), np.zeros((0, 2, 2)))
        return SharedEdges(*(np.concatenate(columns) for columns in zip(*self.edges, strict=True)))

    def joined(self) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Return all cells in one table, as `join_parts` does."""
        parts = [held() for _, _, held in self.in_order()]
        if len(parts) > 1:
            return join_parts(parts, self.shared_edges(), self.near)
        (part,) = parts
        neighbors = neighbors_of(part.offsets, part.corners)
        return part.vertices, part.offsets, part.corners, neighbors, part.origins, part.maps

    def _units(self, step: Step, state: PlaneState) -> int:
        bends = step.operation.bends
        if isinstance(bends, Competitors):
            return units_of(state, step.inputs, bends)
        if isinstance(bends, Thresholds):
            return int(len(bends.levels) * state.values[step.inputs[0]][0].numel())
        return 0

    def _bent(
        self, item: Waiting, step: Step, units: int, limits: Limits
    ) -> tuple[list[Waiting], bool]:
        """Cut by the units from the next one on; returns what waits then, and whether to go on."""
        state = replace(item.state, origins=np.arange(len(item.state.corners)))
        cut, first, size, parts = self._cutter(item, step, units)
        stop = size
        found = cut(state, slice(first, stop), limits)
        while found.done == 0 and not found.full and state.count == 1:
            # The parts of the only cell are too many: those that some units make.
            stop = first + max(1, (stop - first) // 2)
            found = cut(state, slice(first, stop), limits)
        if found.full:
            found = cut_by_first(state, cut, slice(first, stop), limits, parts)
            return [self._named(item, found, item.unit)], False
        if found.done == 0:
            return self._halves(item), True
        after = item.unit + stop - first
        if found.done == state.count:
            return [self._named(item, found, after)], True
        rest, item = self._split(item, found.done)
        return [rest, self._named(item, found, after)], True

    def _cutter(self, item: Waiting, step: Step, units: int) -> tuple[Cutter, int, int, int]:
        """Return what cuts, its next unit, how many it has, and into how many parts one cuts."""
        bends, scale = step.operation.bends, self.probes.scales[item.step]
        if isinstance(bends, Competitors):
            cut: Cutter = partial(
                cut_at_winners, inputs=step.inputs, bends=bends, number=_NEW, scale=scale
            )
            return cut, item.unit, units, bends.count
        assert isinstance(bends, Thresholds)
        size = units // len(bends.levels)
        level = torch.as_tensor(bends.levels[item.unit // size], dtype=torch.float64)
        shape = item.state.values[step.inputs[0]].shape[1:]
        levels = torch.broadcast_to(level, shape).flatten().numpy()
        cut = partial(_cut, index=step.inputs[0], levels=levels, scale=scale)
        return cut, item.unit % size, size, 2  # a line cuts each cell in at most two

    def _named(self, item: Waiting, found: Cut, unit: int) -> Waiting:
        """Return what waits after a cut, with names for new vertices and origins for new walls."""
        new = len(found.state.vertices) - len(item.names)
        with self.lock:
            first = self.named
            self.named += new
        names = np.concatenate([item.names, np.arange(first, first + new)])
        before = found.state.origins
        origins = np.where(before == _NEW, item.step, item.state.origins[before])
        state = replace(found.state, origins=origins)
        return Waiting(state, names, item.step, unit, item.path)

    def _halves(self, item: Waiting) -> list[Waiting]:
        half = item.state.count // 2
        rest, item = self._split(item, half)
        first, kept = part_of(item.state, 0, half)
        return [rest, replace(item, state=first, names=item.names[kept])]

    def _split(self, item: Waiting, done: int) -> tuple[Waiting, Waiting]:
        """Take the cells from `done` on as a part of their own; edges between are marked in both.

        Returns that part, and all cells with their edges marked.
        """
        state = item.state
        origins = state.origins.copy()
        top = state.offsets[done]
        last = np.zeros(len(origins), dtype=bool)
        last[state.offsets[1:] - 1] = True
        heads = np.append(state.corners[1:], state.corners[0])
        heads[last] = state.corners[state.offsets[:-1]]
        forth, back = state.corners << 32 | heads, heads << 32 | state.corners
        _, here, there = np.intersect1d(
            forth[:top], back[top:], assume_unique=True, return_indices=True
        )
        there += top
        ends = np.stack([state.corners[here], heads[here]], 1)
        with self.lock:
            numbers = SHARED - (self.shared + np.arange(len(here)))
            self.edges.append((origins[here], item.names[ends], state.vertices[ends]))
            self.shared += len(here)
        origins[here] = origins[there] = numbers
        marked = replace(state, origins=origins)
        rest, kept = part_of(marked, done, state.count)
        return (
            replace(item, state=rest, names=item.names[kept], path=(*item.path, 1)),
            replace(item, state=marked, path=(*item.path, 0)),
        )


def _cut(
    state: PlaneState, units: slice, limits: Limits, *, index: int, levels: Array, scale: Array
) -> Cut:
    """Cut the cells by some units of a value; a `Cutter` with the rest bound."""
    shape = state.values[index].shape[1:]
    held = np.ascontiguousarray(state.values[index].reshape(len(state.vertices), -1).numpy())
    lowest, highest = (end[units] - levels[units] for end in ends_of(held))
    # Only units with both signs can cut; of a convolutional layer those are few.
    active = units.start + np.flatnonzero((highest > 0) & (lowest < 0))
    every = units == slice(0, len(levels)) and 2 * len(active) > len(levels)
    if every:
        active = np.arange(len(levels))
    picked = held if every else held[:, active]
    shift = levels[active]
    gap, vertices, offsets, corners, origins, _, made, done, full = cut_cells(
        np.ascontiguousarray(picked - shift if shift.any() else picked), NEAR,
        np.abs(shift) + scale[active], state.vertices, state.offsets, state.corners,
        state.origins, _NEW, *limits,
    )  # fmt: skip
    if done == 0:
        return Cut(state, 0, full)
    if len(made) == 0:
        cells = replace(state, offsets=offsets, corners=corners, origins=origins)
        return Cut(cells, done, full)
    values = {k: refined(v, made) for k, v in state.values.items() if k != index}
    finer = gap + shift if shift.any() else gap
    if not every:
        finer, cut = refine(held, made), finer
        finer[:, active] = cut
    # As the kernel left them: exactly on their level where they cross.
    values[index] = torch.from_numpy(finer).reshape(-1, *shape)
    return Cut(PlaneState(vertices, offsets, corners, origins, values), done, full)
