"""The cell of a piecewise-linear network around a point: its walls, its map, its neighbors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_local import LocalMaps, local_maps
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics import polytopes

BORDER = -1
"""Stands for the operation where a half-space is a side of the box."""

_FLAT = 1e-12
"""Share of the steepest unit of an operation below which a unit is constant on the cell."""

_NO_FACET = 1e-8
"""Radius of a ball in the face of a half-space, in inradii of the cell, below which it is none."""

_ACROSS = 1e-6
"""How far beyond a facet its neighbor is looked for first, in inner radii of the facet."""


@dataclass(frozen=True, eq=False)
class Neighbor:
    """The cell across a facet.

    Attributes:
        facet: row of the facet in the half-spaces of the cell.
        point: float64 [*input_shape], a point inside the neighbor.
        pattern: int64 [U], its activation pattern.
        flipped: int64, the units in which the patterns differ.

    """

    facet: int
    point: Tensor
    pattern: np.ndarray
    flipped: np.ndarray


@dataclass(frozen=True, eq=False)
class Cell:
    """A cell: the closed set of inputs {x: normals @ x <= limits}, flattened, of one pattern.

    Attributes:
        point: float64 [*input_shape], the point it was found by.
        pattern: int64 [U], for every unit the number of levels it is above (of a ReLU 1 where it
            is active), or which of its competitors is the largest.
        jacobian: float64 [O, D], and
        constant: float64 [O]: on the cell the flattened output is jacobian @ x + constant.
        normals: float64 [M, D], of unit length, outward; one row for each unit that is not constant
            on the cell and each of its levels, then the sides of the box.
        limits: float64 [M].
        origins: int64 [M, 2], operation and unit of each row; of a side of the box `BORDER` and the
            coordinate.
        steps: names of the operations.
        output_shape: shape of one output.
        graph: the network in float64.

    What takes linear programs (`facets`, `center`, `inradius`, `neighbors`) is computed when first
    asked for.

    """

    point: Tensor
    pattern: np.ndarray
    jacobian: np.ndarray
    constant: np.ndarray
    normals: np.ndarray
    limits: np.ndarray
    origins: np.ndarray
    steps: tuple[str, ...]
    output_shape: tuple[int, ...]
    graph: PiecewiseLinearGraph = field(repr=False)

    @property
    def lipschitz_constant(self) -> float:
        """Spectral norm of the Jacobian: the exact Lipschitz constant on the cell."""
        return float(np.linalg.norm(self.jacobian, 2)) if self.jacobian.size else 0.0

    @cached_property
    def wall_distance(self) -> float:
        """Distance of the point to the nearest wall of the network; infinite if there is none.

        Exact: the least distance to a hyperplane, redundant or not. The box has no part in it.
        """
        return float(self._room().min(initial=np.inf))

    @property
    def nearest_wall(self) -> int | None:
        """Row of the nearest wall; None where the cell is the whole space."""
        room = self._room()
        return int(room.argmin()) if np.isfinite(room).any() else None

    @cached_property
    def center(self) -> Tensor:
        """Center of a largest ball in the cell (Chebyshev center), float64 [*input_shape].

        The point itself where there is no largest ball.
        """
        return torch.as_tensor(self.ball[0]).reshape(self.point.shape)

    @property
    def inradius(self) -> float:
        """Radius of a largest ball in the cell; infinite where there is none."""
        return self.ball[1]

    @cached_property
    def facets(self) -> np.ndarray:
        """Half-spaces that are needed, int64 rows: the walls and sides that bound the cell."""
        if len(self.limits) == 0:
            return np.zeros(0, dtype=np.int64)
        return polytopes.facets(self.normals, self.limits, *self.ball)

    @cached_property
    def neighbors(self) -> tuple[Neighbor, ...]:
        """The cells across the facets that are walls of the network, in the order of `facets`."""
        with preserved():
            walls = [row for row in self.facets if self.origins[row, 0] != BORDER]
            found = (across(self, int(row), self.facets) for row in walls)
            return tuple(neighbor for neighbor in found if neighbor is not None)

    def evaluate(self, points: Any) -> Tensor:
        """Return the affine function of the cell, float64 [N, *output_shape], at any points."""
        flat = torch.as_tensor(points, dtype=torch.float64).reshape(-1, self.jacobian.shape[1])
        values = flat @ torch.as_tensor(self.jacobian).T + torch.as_tensor(self.constant)
        return values.reshape(-1, *self.output_shape)

    def contains(self, points: Any, tolerance: float = 1e-9) -> np.ndarray:
        """Return which points, [N, *input_shape], lie in the cell up to a distance, bool [N]."""
        flat = np.asarray(points, dtype=np.float64).reshape(-1, self.normals.shape[1])
        return np.asarray((flat @ self.normals.T <= self.limits + tolerance).all(1))

    @cached_property
    def ball(self) -> tuple[np.ndarray, float]:
        """Flat center and radius of a largest ball."""
        return polytopes.inscribed_ball(self.normals, self.limits, self.point.flatten().numpy())

    def _room(self) -> np.ndarray:
        room = np.maximum(self.limits - self.normals @ self.point.flatten().numpy(), 0)
        return np.where(self.origins[:, 0] == BORDER, np.inf, room)


def across(cell: Cell, row: int, among: np.ndarray) -> Neighbor | None:
    """Return the neighbor across a half-space; None where that bounds no facet.

    Cells meet in whole facets, so that any inner point of a facet leads to it.

    Args:
        cell: the cell.
        row: the half-space.
        among: int64, rows that bound the cell: its facets, or all.

    Cost: at most one linear program, and two forward passes of D + 1 points.

    """
    center, inradius = cell.ball
    own = int(np.flatnonzero(among == row)[0])
    where, radius = polytopes.facet_ball(
        cell.normals[among], cell.limits[among], own, center, inradius
    )
    size = radius if np.isfinite(radius) else min(1.0, inradius)
    if size <= _NO_FACET * (inradius if np.isfinite(inradius) else 1.0):
        return None
    beyond = where + _ACROSS * size * cell.normals[row]
    found = local_maps(cell.graph, torch.as_tensor(beyond).reshape(1, *cell.point.shape))
    pattern = pattern_of(found)
    normals, limits, _ = half_spaces(found, beyond)
    # From the facet straight on to half way to the next wall, to be well inside.
    speed = normals @ cell.normals[row]
    room = limits - normals @ beyond
    ahead = speed > 1e-12
    way = float((room[ahead] / speed[ahead]).min(initial=2 * size))
    inner = beyond + max(way, 0.0) / 2 * cell.normals[row]
    return Neighbor(
        row,
        torch.as_tensor(inner).reshape(cell.point.shape),
        pattern,
        np.flatnonzero(pattern != cell.pattern),
    )


def cell_at(
    model: nn.Module | Subject, point: Any, *, low: Any = None, high: Any = None
) -> Cell | NotApplicable:
    """Return the cell of a piecewise-linear network that a point lies in.

        cell = whynet.regions.cell_at(model, x[0])
        cell.wall_distance, cell.lipschitz_constant, len(cell.facets), cell.inradius

    A cell is a largest set on which every unit keeps its side (Montúfar et al. 2014,
    arXiv:1402.1869); it is convex, and the network is affine on it. A point on walls, within
    round-off, belongs to several; one of them is taken, always the same, with points inside.

    Args:
        model: a network of any piecewise-linear operations, maxima among them, taken in evaluation
            mode and left as it is, or a subject.
        point: one input, [*input_shape], finite.
        low: a number, or [*input_shape]: the cell is intersected with the box from here …
        high: … to here. Both or neither.

    Returns:
        The cell; or the sentence that says what is not piecewise linear, where, and what to do.

    Raises:
        InputError: the point does not fit the network, is not finite or lies outside the box; the
            box has no inside; weights are not finite.

    Cost: D + 2 forward passes in float64, D the number of input coordinates, and M D numbers, M
    the number of units; two linear programs for `inradius`, about M for `facets`.

    """
    where = torch.as_tensor(point).detach().cpu()
    where = where.double() if where.dtype != torch.bool else where
    if not where.is_floating_point() or not bool(where.isfinite().all()):
        raise InputError("point", "values that are not finite numbers", "one finite input")
    box = read_box(low, high, where)
    graph = graph_from(model, where, "point")
    if isinstance(graph, NotApplicable):
        return graph
    with preserved():
        return cell_of(graph, where, box)


def cell_of(
    graph: PiecewiseLinearGraph, point: Tensor, box: tuple[np.ndarray, np.ndarray] | None
) -> Cell:
    """Return the cell of a graph around a point, float64; `box` is flat and may be None."""
    found = local_maps(graph, point[None])
    flat = point.flatten().numpy()
    normals, limits, origins = half_spaces(found, flat)
    if box is not None:
        size = len(flat)
        normals = np.vstack([normals, np.eye(size), -np.eye(size)])
        limits = np.concatenate([limits, box[1], -box[0]])
        sides = np.stack([np.full(2 * size, BORDER), np.tile(np.arange(size), 2)], 1)
        origins = np.vstack([origins, sides])
    jacobian = found.jacobians[0].numpy()
    return Cell(
        point, pattern_of(found), jacobian, found.outputs[0].numpy() - jacobian @ flat,
        normals, limits, origins, tuple(step.name for step in graph.steps),
        tuple(graph.output_shape), graph,
    )  # fmt: skip


def pattern_of(found: LocalMaps) -> np.ndarray:
    """Return the activation pattern at the first point, int64 [U]."""
    parts = [bend.pattern[0].numpy() for bend in found.bends]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def half_spaces(found: LocalMaps, point: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return normals [M, D], limits [M] and origins [M, 2] of the cell of the first point."""
    normals, limits, origins = [np.zeros((0, len(point)))], [np.zeros(0)], [np.zeros((0, 2), int)]
    for bend in found.bends:
        gradients = bend.gradients[0].T.numpy()
        lengths = np.linalg.norm(gradients, axis=1)
        kept = np.flatnonzero(lengths > _FLAT * lengths.max(initial=0))
        rows = -gradients[kept] / lengths[kept, None]
        room = np.maximum(bend.values[0].numpy()[kept] / lengths[kept], 0)
        normals.append(rows)
        limits.append(rows @ point + room)
        units = bend.pattern.shape[1]
        tall = gradients.shape[0] // max(1, units)
        unit = kept // tall if bend.competing else kept % units
        origins.append(np.stack([np.full(len(kept), bend.step), unit], 1))
    return np.vstack(normals), np.concatenate(limits), np.vstack(origins)


def read_box(low: Any, high: Any, point: Tensor) -> tuple[np.ndarray, np.ndarray] | None:
    """Check a box around a point; returns its ends, flat float64 [D]."""
    if low is None and high is None:
        return None
    if low is None or high is None:
        raise InputError("high" if high is None else "low", "no value", "both ends of the box")
    ends = []
    for name, value in (("low", low), ("high", high)):
        end = torch.as_tensor(value, dtype=torch.float64)
        if end.dim() and end.shape != point.shape:
            wanted = f"a number or an array of shape {list(point.shape)}"
            raise InputError(name, f"an array of shape {list(end.shape)}", wanted)
        if not bool(end.isfinite().all()):
            raise InputError(name, "values that are not finite", "finite ends of the box")
        ends.append(end.expand(point.shape).flatten().numpy())
    if not (ends[0] < ends[1]).all():
        raise InputError("high", "a box without inside", "an end above `low` in every coordinate")
    flat = point.flatten().numpy()
    if (flat < ends[0]).any() or (flat > ends[1]).any():
        raise InputError("point", "a point outside the box", "a point inside it")
    return ends[0], ends[1]
