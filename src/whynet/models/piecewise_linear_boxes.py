"""All cells of a piecewise-linear network in a box of its input space, by their vertices.

The network is continuous, so that its values belong to vertices, not to cells; every cell in which
a unit has both signs is cut, with its faces of all dimensions (`whynet.numerics.face_cutting`). No
linear program is needed. A cell of D dimensions has about 2^D faces of its own, which bounds D.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_box_walls import walls_at
from whynet.models.piecewise_linear_cancellation import applied
from whynet.models.piecewise_linear_operations import Competitors, Thresholds, Value
from whynet.models.step_graph import Step
from whynet.numerics import face_cutting
from whynet.numerics.plane_cutting import refine
from whynet.numerics.polytope_cells import Corners, PolytopeCells, kept_cells, merged_cells
from whynet.numerics.polytopes import inscribed_ball

_NEAR = 1e-12
"""Share of the largest value of a unit within which it is on its level."""

_WIDEST_NEAR = 1e-7
"""To which that share is raised where the signs at the vertices of a cell contradict each other."""

_BLOCK = 16
"""Units that are cut by at a time, before time is looked at and an interruption is heard."""


@dataclass(frozen=True)
class Limits:
    """Where a search stops.

    Attributes:
        cells: most cells.
        until: the end, as `time.monotonic`; infinite for none.

    """

    cells: int
    until: float = np.inf

    @property
    def out_of_time(self) -> bool:
        """Whether the end has come."""
        return time.monotonic() >= self.until


def all_taken(graph: PiecewiseLinearGraph, take: Callable[[int, Step], bool]) -> bool:
    """Take the steps of a network one after the other.

    Args:
        graph: the network.
        take: takes a step, given its number; returns whether it was taken whole.

    Returns:
        Whether all were; not after an interruption, which leaves what stands.

    """
    try:
        return all(take(number, step) for number, step in enumerate(graph.steps))
    except KeyboardInterrupt:
        return False


@dataclass(frozen=True)
class _Faces:
    """The cells so far: arrays as of `face_cutting.cut_faces`."""

    vertices: np.ndarray
    begin: np.ndarray
    size: np.ndarray
    pool: np.ndarray
    count: np.ndarray
    walls: np.ndarray


@dataclass(frozen=True)
class _State:
    faces: _Faces
    values: dict[int, Value]


@torch.no_grad()
def cells_by_vertices(
    graph: PiecewiseLinearGraph,
    low: np.ndarray,
    high: np.ndarray,
    limits: Limits,
    thinnest: float,
    workers: int = 1,
) -> PolytopeCells:
    """Cut a box into the cells of a network.

    Args:
        graph: the network.
        low: float64 [D], flattened.
        high: float64 [D].
        limits: where to stop.
        thinnest: radius of the largest ball inside below which a cell is left out.
        workers: threads that read half-spaces, maps, volumes and vertices off the faces, to the
            same bits; the faces are cut by one.

    Returns:
        The cells, with vertices, volumes and facets, `complete` false where it was interrupted or
        stopped.

    Cost: for each unit a pass over the faces of all cells, about 2^D a cell.

    """
    vertices, begin, size, pool, count, sides = face_cutting.box_faces(low, high)
    walls = np.column_stack([np.full(len(sides), -1), sides])
    inputs = torch.as_tensor(vertices).reshape(-1, *graph.input_shape)
    state = _State(_Faces(vertices, begin, size, pool, count, walls), {0: inputs})

    def take(number: int, step: Step) -> bool:
        nonlocal state
        state, whole = _crossed(state, step, number, limits)
        if whole:
            made = applied(step.operation, [state.values[index] for index in step.inputs])
            values = {**state.values, step.output: made}
            for index in step.last_use:
                values.pop(index, None)
            state = _State(state.faces, values)
        return whole

    complete = all_taken(graph, take)
    box, threads = np.stack([low, high]), torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # so that the bits do not depend on how many there are
        if workers == 1:
            return _finished(graph, state.faces, box, complete, thinnest, None)
        with ThreadPoolExecutor(workers, initializer=_one_thread) as team:
            return _finished(graph, state.faces, box, complete, thinnest, team)
    finally:
        torch.set_num_threads(threads)


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)


def _functions(
    state: _State, step: Step
) -> Iterator[tuple[int, Callable[[_State], np.ndarray], np.ndarray]]:
    """Yield what a step bends at the zeros of: number of the level, values at vertices, [V, U], and
    the size of what they are differences of, [U].

    Of competitors each meets the largest of those before it. Where a later one beats both the wall
    is none of the maximum, and goes in the end.
    """
    bends = step.operation.bends
    if isinstance(bends, Competitors):
        for rival in range(1, bends.count):

            def lead(state: _State, rival: int = rival) -> np.ndarray:
                values = bends.gather([state.values[index] for index in step.inputs])
                return np.asarray((values[..., rival] - values[..., :rival].amax(2)).flatten(1))

            values = bends.gather([state.values[index] for index in step.inputs])
            yield rival, lead, np.asarray(values.abs().amax((0, 2)))
    elif isinstance(bends, Thresholds):
        for number, level in enumerate(bends.levels):
            shift = torch.as_tensor(level, dtype=torch.float64)

            def gap(state: _State, shift: Tensor = shift) -> np.ndarray:
                return np.asarray((state.values[step.inputs[0]] - shift).flatten(1))

            shape = state.values[step.inputs[0]].shape[1:]
            yield number, gap, torch.broadcast_to(shift.abs(), shape).flatten().numpy()


def _crossed(state: _State, step: Step, number: int, limits: Limits) -> tuple[_State, bool]:
    """Return the cells, cut where units bend, and whether by all of them.

    New states, so that an interruption leaves an old one whole.
    """
    for level, function, scale in _functions(state, step):
        gaps = function(state)
        # Values between those at the vertices: what has one sign now will cut nothing later.
        active = np.flatnonzero((gaps.max(0) > 0) & (gaps.min(0) < 0))
        for begin in range(0, len(active), _BLOCK):
            if limits.out_of_time:
                return state, False
            units = active[begin : begin + _BLOCK]
            names = np.stack([np.full(len(units), number), units, np.full(len(units), level)], 1)
            gaps = function(state)[:, units]
            state, whole = _cut(state, gaps, scale[units], names, limits.cells)
            if not whole:
                return state, False
    return state, True


def _cut(
    state: _State, gaps: np.ndarray, scale: np.ndarray, names: np.ndarray, most: int
) -> tuple[_State, bool]:
    """Cut by the zeros of a few functions, at the least tolerance at which signs make sense."""
    faces, near = state.faces, _NEAR
    gaps = np.ascontiguousarray(gaps)
    while True:
        _, *lists, made, _, status = face_cutting.cut_faces(
            gaps, near, scale, faces.vertices, faces.begin, faces.size,
            faces.pool, faces.count, faces.walls, names, most,
        )  # fmt: skip
        if status != face_cutting.UNCLEAR:
            break
        near *= 10
        if near > _WIDEST_NEAR:
            raise ArithmeticError("the signs of a unit at the vertices of a cell contradict")
    values = {k: _finer(v, made) for k, v in state.values.items()} if len(made) else state.values
    return _State(_Faces(*lists), values), status == face_cutting.WHOLE


def _finer(value: Value, made: np.ndarray) -> Value:
    if not isinstance(value, Tensor):
        return tuple(_finer(item, made) for item in value)
    flat = np.ascontiguousarray(value.reshape(len(value), -1).numpy())
    return torch.from_numpy(refine(flat, made)).reshape(-1, *value.shape[1:])


def _finished(
    graph: PiecewiseLinearGraph,
    faces: _Faces,
    box: np.ndarray,
    complete: bool,
    thinnest: float,
    pool: Executor | None,
) -> PolytopeCells:
    """Read facets, half-spaces, maps and volumes off the faces."""
    lists = (faces.begin, faces.size, faces.pool, faces.count)
    dims, cells = faces.vertices.shape[1], int(faces.count[-1])
    inner = face_cutting.centers_of(faces.vertices, *lists)
    # The kernels leave the interpreter to other threads.
    volumes = _begun(pool, face_cutting.volumes_of, *lists, inner)
    vertices = _begun(pool, face_cutting.corners_of, *lists)
    sizes, begins = faces.size[dims, :cells], faces.begin[dims, :cells]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    facets = faces.pool[dims, np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], sizes)]
    owner = np.repeat(np.arange(cells), sizes)
    beside = face_cutting.cells_beside(*lists)[facets]
    centers, walls = inner[dims, :cells], faces.walls[facets]
    seen = walls_at(graph, centers, walls, offsets, box, pool)
    radii = np.minimum.reduceat(seen.room, offsets[:-1])
    across = np.where(beside[:, 0] == owner, beside[:, 1], beside[:, 0])
    starts, numbers = vertices()
    corners = Corners(faces.vertices, starts, numbers, volumes())
    found = PolytopeCells(
        offsets, seen.normals, seen.room + (seen.normals * centers[owner]).sum(1), walls,
        across, centers, radii, seen.maps, corners, complete,
    )  # fmt: skip
    if any(_many(step) for step in graph.steps):
        if not complete:  # what stands between two cells may be no wall: each pattern counts once
            first = np.unique(seen.patterns, return_index=True)[1]
            return kept_cells(found, np.isin(np.arange(cells), first))
        same = seen.silent & (across >= 0) & (seen.patterns[across] == seen.patterns[owner])
        found = merged_cells(found, same)
    return without_thin_cells(found, thinnest)


def _begun(
    pool: Executor | None, function: Callable[..., Any], *arguments: Any
) -> Callable[[], Any]:
    """Begin a call in a thread, if there is one; returns what waits for its value."""
    if pool is None:
        return partial(function, *arguments)
    return pool.submit(function, *arguments).result


def _many(step: Step) -> bool:
    bends = step.operation.bends
    return isinstance(bends, Competitors) and bends.count > 2


def without_thin_cells(cells: PolytopeCells, thinnest: float) -> PolytopeCells:
    """Leave out cells whose largest ball has a radius below `thinnest`."""
    kept = np.ones(len(cells.radii), dtype=bool)
    # The known ball is seldom so small; where it is, a linear program decides.
    for cell in np.flatnonzero(cells.radii < thinnest):
        rows = slice(cells.offsets[cell], cells.offsets[cell + 1])
        ball = inscribed_ball(cells.normals[rows], cells.limits[rows], cells.centers[cell])
        kept[cell] = ball[1] >= thinnest
    return cells if kept.all() else kept_cells(cells, kept)
