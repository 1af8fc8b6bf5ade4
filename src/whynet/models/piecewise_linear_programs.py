"""All cells of a piecewise-linear network in a box of its input space, by linear programs.

For dimensions in which a cell has too many faces to follow. Operation by operation and cell by
cell, units are asked in turn whether they cut. Most need no program: a wall through a known ball,
or between known points, cuts for sure; a unit that does not cut a cell of the operations before
cuts none of its parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_box_walls import walls_at
from whynet.models.piecewise_linear_boxes import Limits
from whynet.models.piecewise_linear_local import LocalBend, local_maps
from whynet.numerics.polytope_cells import PolytopeCells
from whynet.numerics.polytopes import farthest_point, inscribed_ball

_AT_ONCE = 2**22
"""Numbers of one operation on the centers of cells, for bounding memory."""

_FLAT = 1e-12
"""Share of the largest slope below which two competitors differ by a constant."""

_SMALLER = 0.1
"""Share of its parent's ball below which a part gets the largest ball by a linear program."""


@dataclass(frozen=True)
class _Part:
    """A convex set: half-spaces and what made them, a ball inside, and some points of it."""

    normals: np.ndarray
    limits: np.ndarray
    walls: np.ndarray
    center: np.ndarray
    radius: float
    points: np.ndarray


@dataclass(frozen=True)
class _Wall:
    """An affine function, of unit slope: normal @ x + shift; and what made it."""

    normal: np.ndarray
    shift: float
    name: tuple[int, int, int]


@torch.no_grad()
def cells_by_programs(
    graph: PiecewiseLinearGraph,
    low: np.ndarray,
    high: np.ndarray,
    limits: Limits,
    thinnest: float,
) -> PolytopeCells:
    """Cut a box into the cells of a network.

    Args:
        graph: the network.
        low: float64 [D], flattened.
        high: float64 [D].
        limits: where to stop.
        thinnest: radius of the largest ball inside below which a part is left out.

    Returns:
        The cells, without vertices, neighbors or volumes, and with half-spaces that may be
        redundant; `complete` false where it was interrupted or stopped.

    Cost: at most one linear program for each cell and each unit of the operation that cuts it, and
        two for each cell; about a millisecond each in a dozen of dimensions.

    """
    dims = len(low)
    sides = [(-1, axis, end) for end in (1, 0) for axis in range(dims)]
    center = (low + high) / 2
    parts = [
        _Part(
            np.vstack([np.eye(dims), -np.eye(dims)]),
            np.concatenate([high, -low]),
            np.array(sides),
            center,
            float((high - low).min()) / 2,
            np.stack([low, high]),
        )
    ]
    complete = False
    try:
        for number, step in enumerate(graph.steps):
            if step.operation.bends is None:
                continue
            done: list[list[_Part]] = []
            try:
                whole = _cut_by(graph, number, parts, done, limits, thinnest)
            finally:
                # What was cut so far stands, also after an interruption.
                parts = [piece for pieces in done for piece in pieces] + parts[len(done) :]
            if not whole:
                break
        else:
            complete = True
    except KeyboardInterrupt:
        pass
    return _finished(graph, parts, low, high, complete)


def _cut_by(
    graph: PiecewiseLinearGraph,
    number: int,
    parts: list[_Part],
    done: list[list[_Part]],
    limits: Limits,
    thinnest: float,
) -> bool:
    """Cut parts by an operation, and append to `done` what became of each; False where stopped."""
    count = len(parts)
    rows = max(1, _AT_ONCE // ((len(parts[0].center) + 1) * graph.widest))
    for begin in range(0, len(parts), rows):
        some = parts[begin : begin + rows]
        bend = _bend_at(graph, some, number)
        for row, part in enumerate(some):
            most = limits.cells - count + 1
            if bend.competing:
                units = _rivals(bend, row, part)
                pieces, whole = _divided_by_winners(part, units, limits, most, thinnest)
            else:
                walls = _walls(bend, row, part)
                pieces, whole = _divided(part, walls, limits, most, thinnest)
            done.append(pieces)
            count += len(pieces) - 1
            if not whole:
                return False
    return True


def _bend_at(graph: PiecewiseLinearGraph, parts: list[_Part], number: int) -> LocalBend:
    centers = torch.as_tensor(np.stack([part.center for part in parts]))
    found = local_maps(graph, centers.reshape(-1, *graph.input_shape), stop=number + 1)
    return found.bends[-1]


def _walls(bend: LocalBend, row: int, part: _Part) -> list[_Wall]:
    """Return the units that are not constant on a part."""
    slopes, values = bend.gradients[row].T.numpy(), bend.values[row].numpy()
    units = bend.pattern.shape[1]
    lengths = np.linalg.norm(slopes, axis=1)
    kept = np.flatnonzero(lengths > 1e-12 * lengths.max(initial=0))
    normals = slopes[kept] / lengths[kept, None]
    shifts = values[kept] / lengths[kept] - normals @ part.center
    return [
        _Wall(normal, float(shift), (bend.step, int(index % units), int(index // units)))
        for normal, shift, index in zip(normals, shifts, kept, strict=True)
    ]


def _divided(
    part: _Part, walls: list[_Wall], limits: Limits, most: int, thinnest: float
) -> tuple[list[_Part], bool]:
    """Return the parts into which walls cut a part, and whether by all of them."""
    active, known = [], [part.points]
    for wall in walls:
        cut, seen = _cuts(part, wall, thinnest)
        known.append(seen)
        if cut:
            active.append(wall)
    pieces = [replace(part, points=np.vstack(known))]
    for wall in active:
        if limits.out_of_time:
            return pieces, False
        finer: list[_Part] = []
        for piece in pieces:
            cut, seen = _cuts(piece, wall, thinnest)
            wider = replace(piece, points=np.vstack([piece.points, seen]))
            finer += _halves(wider, wall, thinnest) if cut else [wider]
        pieces = finer
        if len(pieces) > most:
            return pieces, False
    return pieces, True


@dataclass(frozen=True)
class _Rivals:
    """The competitors of one unit: normals @ x + shifts, up to a function that all share."""

    normals: np.ndarray
    shifts: np.ndarray
    step: int
    unit: int

    def lead(self, one: int, two: int) -> _Wall | float:
        """Return where two of them are equal, above zero where `one` is larger, or their gap."""
        slope = self.normals[one] - self.normals[two]
        shift = float(self.shifts[one] - self.shifts[two])
        length = float(np.linalg.norm(slope))
        if length <= _FLAT * float(np.abs(self.normals).max(initial=0.0)):
            return shift
        return _Wall(slope / length, shift / length, (self.step, self.unit, max(one, two)))


def _rivals(bend: LocalBend, row: int, part: _Part) -> list[_Rivals]:
    """Return the competitors of all units on a part."""
    units = bend.pattern.shape[1]
    # How far the winner at the center is above each, so that these are the functions negated.
    normals = -bend.gradients[row].T.numpy().reshape(units, -1, len(part.center))
    shifts = -bend.values[row].numpy().reshape(units, -1) - normals @ part.center
    return [_Rivals(normals[unit], shifts[unit], bend.step, unit) for unit in range(units)]


def _divided_by_winners(
    part: _Part, units: list[_Rivals], limits: Limits, most: int, thinnest: float
) -> tuple[list[_Part], bool]:
    """Return the parts on which every unit has one winner, and whether by all units."""
    active = [rivals for rivals in units if len(_won(part, rivals, thinnest)) > 1]
    pieces = [part]
    for rivals in active:
        finer: list[_Part] = []
        for number, piece in enumerate(pieces):
            if limits.out_of_time:
                return [*finer, *pieces[number:]], False
            finer += _won(piece, rivals, thinnest)
        pieces = finer
        if len(pieces) > most:
            return pieces, False
    return pieces, True


def _won(part: _Part, rivals: _Rivals, thinnest: float) -> list[_Part]:
    """Return the parts that the competitors of one unit win, by a tournament."""
    winners: dict[int, list[_Part]] = {0: [part]}
    for rival in range(1, len(rivals.shifts)):
        after: dict[int, list[_Part]] = {}
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
    piece: _Part, lead: _Wall | float, holder: int, rival: int, thinnest: float
) -> list[tuple[int, _Part]]:
    """Return what of a piece the holder keeps, and what the rival takes."""
    if not isinstance(lead, _Wall):
        return [(holder if lead >= 0 else rival, piece)]
    cut, seen = _cuts(piece, lead, thinnest)
    wider = replace(piece, points=np.vstack([piece.points, seen]))
    if cut:
        return list(zip((holder, rival), _halves(wider, lead, thinnest), strict=True))
    ahead = float(lead.normal @ piece.center + lead.shift)
    return [(holder if ahead >= 0 else rival, wider)]


def _united(part: _Part, rivals: _Rivals, winner: int, pieces: list[_Part]) -> _Part:
    """Return what a competitor wins of a part: all pieces where it does, which are convex."""
    leads = [rivals.lead(winner, k) for k in range(len(rivals.shifts)) if k != winner]
    walls = [lead for lead in leads if isinstance(lead, _Wall)]
    widest = max(pieces, key=lambda piece: piece.radius)
    return _Part(
        np.vstack([part.normals, *(-wall.normal for wall in walls)]),
        np.concatenate([part.limits, [wall.shift for wall in walls]]),
        np.vstack([part.walls, *(wall.name for wall in walls)]),
        widest.center,
        widest.radius,
        np.vstack([piece.points for piece in pieces]),
    )


def _cuts(part: _Part, wall: _Wall, thinnest: float) -> tuple[bool, np.ndarray]:
    """Return whether a wall leaves a ball of the least radius on both sides; and points found."""
    seen = np.zeros((0, len(part.center)))
    height = float(wall.normal @ part.center + wall.shift)
    if abs(height) < part.radius / 2 and part.radius >= 4 * thinnest:
        return True, seen
    far = -1.0 if height > 0 else 1.0
    if _ball_beyond(part, wall, far)[1] >= thinnest:
        return True, seen
    toward = far * wall.normal
    point = farthest_point(part.normals, part.limits, toward, part.center, part.radius)
    reach = far * float(wall.normal @ point + wall.shift)
    found = point[None]
    if reach <= thinnest:
        return False, found
    if _ball_beyond(replace(part, points=found), wall, far)[1] >= thinnest:
        return True, found
    return _largest(part, wall, far, point)[1] >= thinnest, found


def _halves(part: _Part, wall: _Wall, thinnest: float) -> list[_Part]:
    """Return the two parts beside a wall that cuts."""
    halves = []
    heights = part.points @ wall.normal + wall.shift
    for side in (1.0, -1.0):
        center, radius = _ball_beyond(part, wall, side)
        if radius < max(thinnest, _SMALLER * part.radius):
            inside = np.vstack([part.points, center])
            start = inside[int((side * (inside @ wall.normal + wall.shift)).argmax())]
            center, radius = _largest(part, wall, side, start)
        halves.append(
            _Part(
                np.vstack([part.normals, -side * wall.normal]),
                np.append(part.limits, side * wall.shift),
                np.vstack([part.walls, wall.name]),
                center,
                radius,
                part.points[side * heights >= 0],
            )
        )
    return halves


def _ball_beyond(part: _Part, wall: _Wall, side: float) -> tuple[np.ndarray, float]:
    """Return a ball on one side of a wall: the known one, or one on the way to a point beyond."""
    height = side * float(wall.normal @ part.center + wall.shift)
    if height >= part.radius:
        return part.center, part.radius
    heights = side * (part.points @ wall.normal + wall.shift)
    if len(heights) == 0 or heights.max() <= max(height, 0):
        return part.center, max(height, 0.0)
    best = int(heights.argmax())
    share = (part.radius - height) / (part.radius - height + float(heights[best]))
    return (1 - share) * part.center + share * part.points[best], (1 - share) * part.radius


def _largest(part: _Part, wall: _Wall, side: float, start: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the largest ball of a part on one side of a wall; `start` is a point there."""
    normals = np.vstack([part.normals, -side * wall.normal])
    return inscribed_ball(normals, np.append(part.limits, side * wall.shift), start)


def _finished(
    graph: PiecewiseLinearGraph,
    parts: list[_Part],
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
