"""All cells of a piecewise-linear network in a box of its input space, by linear programs.

For dimensions in which a cell has too many faces to follow. Operation by operation and cell by
cell, units are asked in turn whether they cut. Most need no program: a wall through a known ball,
or between known points, cuts for sure; a unit that does not cut a cell of the operations before
cuts none of its parts.
"""

from __future__ import annotations

from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from signal import SIG_IGN, SIGINT, signal

import numpy as np
import torch

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_box_walls import walls_at
from whynet.models.piecewise_linear_boxes import Limits, all_taken
from whynet.models.piecewise_linear_local import LocalBend, local_maps
from whynet.models.piecewise_linear_program_parts import Part, Wall, cuts, halves
from whynet.models.step_graph import Step
from whynet.numerics.polytope_cells import PolytopeCells

_AT_ONCE = 2**22
"""Numbers of one operation on the centers of cells, for bounding memory."""

_FLAT = 1e-12
"""Share of the largest slope below which two competitors differ by a constant."""

_WORTH_SHARING = 64
"""Parts from which on an operation's cuts are shared among processes."""


@torch.no_grad()
def cells_by_programs(
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
        thinnest: radius of the largest ball inside below which a part is left out.
        workers: processes that solve programs. More than one are started anew, which takes
            seconds, once there are parts enough.

    Returns:
        The cells, without vertices, neighbors or volumes, and with half-spaces that may be
        redundant; `complete` false where it was interrupted or stopped.

    Cost: at most one linear program for each cell and each unit of the operation that cuts it, and
        two for each cell; about a millisecond each in a dozen of dimensions.

    """
    parts = [_box(low, high)]
    pool = _pool(workers)

    def take(number: int, step: Step) -> bool:
        nonlocal parts
        if step.operation.bends is None:
            return True
        done: list[list[Part]] = []
        try:
            return _cut_by(graph, number, parts, done, limits, thinnest, pool)
        finally:
            # What was cut so far stands, also after an interruption.
            parts = [piece for pieces in done for piece in pieces] + parts[len(done) :]

    try:
        complete = all_taken(graph, take)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
    return _finished(graph, parts, low, high, complete)


def _box(low: np.ndarray, high: np.ndarray) -> Part:
    dims = len(low)
    sides = np.array([(-1, axis, end) for end in (1, 0) for axis in range(dims)])
    normals, limits = np.vstack([np.eye(dims), -np.eye(dims)]), np.concatenate([high, -low])
    radius = float((high - low).min()) / 2
    return Part(normals, limits, sides, (low + high) / 2, radius, np.stack([low, high]))


def _pool(workers: int) -> ProcessPoolExecutor | None:
    """Return processes that do not hear of an interruption, which the first one deals with."""
    if workers < 2:
        return None
    # Of the calls that these start, the first may take some seconds: the modules are imported.
    return ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=signal, initargs=(SIGINT, SIG_IGN)
    )


def _cut_by(
    graph: PiecewiseLinearGraph,
    number: int,
    parts: list[Part],
    done: list[list[Part]],
    limits: Limits,
    thinnest: float,
    pool: Executor | None,
) -> bool:
    """Cut parts by an operation, and append to `done` what became of each; False where stopped."""
    count = len(parts)
    if pool is not None and count < _WORTH_SHARING:
        pool = None
    rows = max(1, _AT_ONCE // ((len(parts[0].center) + 1) * graph.widest))
    for begin in range(0, len(parts), rows):
        some = parts[begin : begin + rows]
        bend = _bend_at(graph, some, number)
        jobs = (
            _Job(
                part,
                _rivals(bend, row, part) if bend.competing else _walls(bend, row, part),
                replace(limits, cells=limits.cells - count + 1),
                thinnest,
            )
            for row, part in enumerate(some)
        )
        found = map(_pieces, jobs) if pool is None else pool.map(_pieces, jobs, chunksize=8)
        for pieces, whole in found:
            done.append(pieces)
            count += len(pieces) - 1
            if not whole:
                return False
    return True


@dataclass(frozen=True)
class _Job:
    """A part, what may cut it, and how many pieces it may become."""

    part: Part
    bends: list[Wall] | list[_Rivals]
    limits: Limits
    thinnest: float


def _pieces(job: _Job) -> tuple[list[Part], bool]:
    """Return the pieces of a part, and whether all units have cut it."""
    rivals = [bend for bend in job.bends if isinstance(bend, _Rivals)]
    walls = [bend for bend in job.bends if isinstance(bend, Wall)]
    if rivals:
        return _divided_by_winners(job.part, rivals, job.limits, job.thinnest)
    return _divided(job.part, walls, job.limits, job.thinnest)


def _bend_at(graph: PiecewiseLinearGraph, parts: list[Part], number: int) -> LocalBend:
    centers = torch.as_tensor(np.stack([part.center for part in parts]))
    found = local_maps(graph, centers.reshape(-1, *graph.input_shape), stop=number + 1)
    return found.bends[-1]


def _walls(bend: LocalBend, row: int, part: Part) -> list[Wall]:
    """Return the units that are not constant on a part."""
    slopes, values = bend.gradients[row].T.numpy(), bend.values[row].numpy()
    units = bend.pattern.shape[1]
    lengths = np.linalg.norm(slopes, axis=1)
    kept = np.flatnonzero(lengths > 1e-12 * lengths.max(initial=0))
    normals = slopes[kept] / lengths[kept, None]
    shifts = values[kept] / lengths[kept] - normals @ part.center
    return [
        Wall(normal, float(shift), (bend.step, int(index % units), int(index // units)))
        for normal, shift, index in zip(normals, shifts, kept, strict=True)
    ]


def _divided(
    part: Part, walls: list[Wall], limits: Limits, thinnest: float
) -> tuple[list[Part], bool]:
    """Return the parts into which walls cut a part, and whether by all of them."""
    active, known = [], [part.points]
    for wall in walls:
        cut, seen = cuts(part, wall, thinnest)
        known.append(seen)
        if cut:
            active.append(wall)
    pieces = [replace(part, points=np.vstack(known))]
    for wall in active:
        if limits.out_of_time:
            return pieces, False
        finer: list[Part] = []
        for piece in pieces:
            cut, seen = cuts(piece, wall, thinnest)
            wider = replace(piece, points=np.vstack([piece.points, seen]))
            finer += halves(wider, wall, thinnest) if cut else [wider]
        pieces = finer
        if len(pieces) > limits.cells:
            return pieces, False
    return pieces, True


@dataclass(frozen=True)
class _Rivals:
    """The competitors of one unit: normals @ x + shifts, up to a function that all share."""

    normals: np.ndarray
    shifts: np.ndarray
    step: int
    unit: int

    def lead(self, one: int, two: int) -> Wall | float:
        """Return where two of them are equal, above zero where `one` is larger, or their gap."""
        slope = self.normals[one] - self.normals[two]
        shift = float(self.shifts[one] - self.shifts[two])
        length = float(np.linalg.norm(slope))
        if length <= _FLAT * float(np.abs(self.normals).max(initial=0.0)):
            return shift
        return Wall(slope / length, shift / length, (self.step, self.unit, max(one, two)))


def _rivals(bend: LocalBend, row: int, part: Part) -> list[_Rivals]:
    """Return the competitors of all units on a part."""
    units = bend.pattern.shape[1]
    # How far the winner at the center is above each, so that these are the functions negated.
    normals = -bend.gradients[row].T.numpy().reshape(units, -1, len(part.center))
    shifts = -bend.values[row].numpy().reshape(units, -1) - normals @ part.center
    return [_Rivals(normals[unit], shifts[unit], bend.step, unit) for unit in range(units)]


def _divided_by_winners(
    part: Part, units: list[_Rivals], limits: Limits, thinnest: float
) -> tuple[list[Part], bool]:
    """Return the parts on which every unit has one winner, and whether by all units."""
    active = [rivals for rivals in units if len(_won(part, rivals, thinnest)) > 1]
    pieces = [part]
    for rivals in active:
        finer: list[Part] = []
        for number, piece in enumerate(pieces):
            if limits.out_of_time:
                return [*finer, *pieces[number:]], False
            finer += _won(piece, rivals, thinnest)
        pieces = finer
        if len(pieces) > limits.cells:
            return pieces, False
    return pieces, True


def _won(part: Part, rivals: _Rivals, thinnest: float) -> list[Part]:
    """Return the parts that the competitors of one unit win, by a tournament."""
    winners: dict[int, list[Part]] = {0: [part]}
    for rival in range(1, len(rivals.shifts)):
        after: dict[int, list[Part]] = {}
        for holder, pieces in winners.items():
            lead = rivals.lead(holder, rival)
            for piece in pieces:
                for winner, share in _shared(piece, lead, holder, rival, thinnest):
                    after.setdefault(winner, []).append(share)
        winners = after
    if len(winners) == 1:
        return [part]
    return [_united(part, rivals, *one) for one in winners.items()]


def _shared(
    piece: Part, lead: Wall | float, holder: int, rival: int, thinnest: float
) -> list[tuple[int, Part]]:
    """Return what of a piece the holder keeps, and what the rival takes."""
    if not isinstance(lead, Wall):
        return [(holder if lead >= 0 else rival, piece)]
    cut, seen = cuts(piece, lead, thinnest)
    wider = replace(piece, points=np.vstack([piece.points, seen]))
    if cut:
        return list(zip((holder, rival), halves(wider, lead, thinnest), strict=True))
    ahead = float(lead.normal @ piece.center + lead.shift)
    return [(holder if ahead >= 0 else rival, wider)]


def _united(part: Part, rivals: _Rivals, winner: int, pieces: list[Part]) -> Part:
    """Return what a competitor wins of a part: all pieces where it does, which are convex."""
    leads = [rivals.lead(winner, k) for k in range(len(rivals.shifts)) if k != winner]
    walls = [lead for lead in leads if isinstance(lead, Wall)]
    widest = max(pieces, key=lambda piece: piece.radius)
    return Part(
        np.vstack([part.normals, *(-wall.normal for wall in walls)]),
        np.concatenate([part.limits, [wall.shift for wall in walls]]),
        np.vstack([part.walls, *(wall.name for wall in walls)]),
        widest.center,
        widest.radius,
        np.vstack([piece.points for piece in pieces]),
    )


def _finished(
    graph: PiecewiseLinearGraph,
    parts: list[Part],
    low: np.ndarray,
    high: np.ndarray,
    complete: bool,
) -> PolytopeCells:
    offsets = np.concatenate([[0], np.cumsum([len(part.limits) for part in parts])])
    centers = np.stack([part.center for part in parts])
    walls = np.vstack([part.walls for part in parts])
    # Walls are known; of the network at the centers the maps alone are needed.
    maps = walls_at(graph, centers, walls[:0], 0 * offsets, np.stack([low, high])).maps
    return PolytopeCells(
        offsets,
        np.vstack([part.normals for part in parts]),
        np.concatenate([part.limits for part in parts]),
        walls,
        np.where(walls[:, 0] < 0, -1, -2),
        centers,
        np.array([part.radius for part in parts]),
        maps,
        None,
        complete,
    )
