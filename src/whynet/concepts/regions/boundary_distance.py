"""How far the decision boundary of a piecewise-linear network is from a point, certified."""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.regions.cells import BORDER, Cell, across, cell_of, read_box
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_local import local_maps
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics.polytopes import nearest_point

_STEPS = 50
"""Steps of the attack that gives a first upper bound."""

_OVERSHOOT = 0.02
"""How far beyond the linearized boundary each of its steps goes."""

_HALVINGS = 60


@dataclass(frozen=True, eq=False)
class BoundaryDistance:
    """Certified bounds on the distance of a point to the decision boundary.

    Attributes:
        low: within this distance no other class is predicted.
        high: at this distance another class is predicted, or tied; infinite where none was found.
        nearest: float64 [*input_shape], such a point, or None.
        prediction: class of the point; of one output whether it is above 0.
        cells: cells that were looked at.

    """

    low: float
    high: float
    nearest: Tensor | None
    prediction: int
    cells: int

    @property
    def exact(self) -> bool:
        """Whether both bounds are one: the distance is known up to round-off."""
        return self.low == self.high


@dataclass
class _Search:
    """The search so far: the best point, and facets still to be crossed by distance."""

    graph: PiecewiseLinearGraph
    point: np.ndarray
    shape: torch.Size
    box: tuple[np.ndarray, np.ndarray] | None
    prediction: int
    high: float
    nearest: np.ndarray | None
    low: float = 0.0

    def offer(self, point: np.ndarray, distance: float) -> None:
        """Take a point of another class where it is nearer."""
        if distance < self.high:
            self.high, self.nearest = distance, point


def distance_to_boundary(
    model: nn.Module | Subject,
    point: Any,
    *,
    low: Any = None,
    high: Any = None,
    max_cells: int = 10_000,
    seconds: float | None = None,
) -> BoundaryDistance | NotApplicable:
    """Find how far the decision boundary of a piecewise-linear network is from a point.

        found = whynet.regions.distance_to_boundary(model, x[0], seconds=10)

    Cells are visited outward from the point, in the order in which their facets are met by a
    growing ball (Jordan, Lewis and Dimakis 2019, arXiv:1903.08778); in each the nearest point of
    another class is a projection. When the next facet is farther than the best such point, that
    point is the nearest; when the search is stopped, no other class is nearer than the next facet.
    A first upper bound comes from steps to the linearized boundary (Moosavi-Dezfooli et al. 2016,
    arXiv:1511.04599), moved back along the straight line. Distances are Euclidean.

    Args:
        model: a network that returns scores of classes, [N, C], of which the largest counts, or one
            number, [N] or [N, 1], whose sign counts; taken in evaluation mode and left as it is.
        point: one input, [*input_shape], finite.
        low: a number, or [*input_shape]: only points of the box from here …
        high: … to here count.
        max_cells: cells after which it stops; 1 looks at the cell of the point alone.
        seconds: time after which it stops.

    Returns:
        The bounds, also after a keyboard interrupt; or the sentence that says what does not apply.

    Raises:
        InputError: the point does not fit the network or the box, is not finite, or the network
            returns something else.

    Cost: for each cell D + 2 forward passes and a linear program, for each of its facets inside the
        distance a least-squares problem and at most one linear program.

    """
    if isinstance(max_cells, bool) or not isinstance(max_cells, int) or max_cells < 1:
        raise InputError("max_cells", repr(max_cells), "a whole number of at least 1")
    if seconds is not None and not seconds > 0:
        raise InputError("seconds", repr(seconds), "a number above 0")
    where = _finite(point)
    box = read_box(low, high, where)
    graph = graph_from(model, where, "point")
    if isinstance(graph, NotApplicable):
        return graph
    _refuse_images(graph)
    until = np.inf if seconds is None else time.monotonic() + seconds
    with preserved():
        return _searched(_started(graph, where, box), max_cells, until)


def _searched(search: _Search, max_cells: int, until: float) -> BoundaryDistance:
    cells = 0
    try:
        for cells in _outward(search, max_cells):
            if cells >= max_cells or time.monotonic() >= until:
                break
    except KeyboardInterrupt:
        pass  # the bounds stand
    nearest = None
    if search.nearest is not None:
        nearest = torch.as_tensor(search.nearest).reshape(search.shape)
    low = min(search.low, search.high)
    return BoundaryDistance(low, search.high, nearest, search.prediction, cells)


def _finite(point: Any) -> Tensor:
    where = torch.as_tensor(point).detach().cpu().double()
    if not bool(where.isfinite().all()):
        raise InputError("point", "values that are not finite numbers", "one finite input")
    return where


def _refuse_images(graph: PiecewiseLinearGraph) -> None:
    if len(graph.output_shape) > 1:
        found = f"a network with outputs of shape {list(graph.output_shape)}"
        raise InputError("model", found, "scores of classes, or one number")


def _scores(values: np.ndarray) -> np.ndarray:
    """Return scores of two classes for one output: of the sign, as of the class 0 and 1."""
    return np.concatenate([np.zeros_like(values), values], -1) if values.shape[-1] == 1 else values


def _started(
    graph: PiecewiseLinearGraph, point: Tensor, box: tuple[np.ndarray, np.ndarray] | None
) -> _Search:
    flat = point.flatten().numpy()
    prediction = int(_predicted(graph, point[None])[0])
    search = _Search(graph, flat, point.shape, box, prediction, np.inf, None)
    _attack(search)
    return search


def _predicted(graph: PiecewiseLinearGraph, points: Tensor) -> np.ndarray:
    values = _scores(graph.evaluate(points).reshape(len(points), -1).numpy())
    return np.asarray(values.argmax(1))


def _attack(search: _Search) -> None:
    """Step to the linearized boundary until the class changes, and come back along the line."""
    where = search.point.copy()
    for _ in range(_STEPS):
        found = local_maps(search.graph, torch.as_tensor(where).reshape(1, *search.shape))
        leads, slopes = _leads(found.outputs.numpy()[0], found.jacobians.numpy()[0], search)
        lengths = np.linalg.norm(slopes, axis=1)
        ways = np.where(lengths > 0, leads / np.where(lengths > 0, lengths, 1), np.inf)
        if not np.isfinite(ways).any():
            return
        best = int(ways.argmin())
        step = (1 + _OVERSHOOT) * ways[best] + 1e-9 * (1 + np.linalg.norm(where))
        where = where - step * slopes[best] / lengths[best]
        if search.box is not None:
            where = np.clip(where, *search.box)
        if _changed(search, where):
            break
    else:
        return
    inside, outside = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if _changed(search, search.point + middle * (where - search.point)):
            outside = middle
        else:
            inside = middle
    step = outside * (where - search.point)
    search.offer(search.point + step, float(np.linalg.norm(step)))


def _changed(search: _Search, where: np.ndarray) -> bool:
    point = torch.as_tensor(where).reshape(1, *search.shape)
    return int(_predicted(search.graph, point)[0]) != search.prediction


def _leads(
    values: np.ndarray, slopes: np.ndarray, search: _Search
) -> tuple[np.ndarray, np.ndarray]:
    """Return by how much the predicted class leads each other one, [C - 1], and gradients."""
    scores, gradients = _scores(values), slopes
    if len(values) == 1:
        gradients = np.vstack([np.zeros_like(slopes), slopes])
    own = search.prediction
    others = np.arange(len(scores)) != own
    return scores[own] - scores[others], gradients[own] - gradients[others]


def _outward(search: _Search, max_cells: int) -> Any:
    """Visit cells by the distance of their facets; yields the number of cells after each facet."""
    start = torch.as_tensor(search.point).reshape(search.shape)
    # Next facet by distance: its bound, an order, the cell, its rows by distance, and which.
    waiting: list[tuple[float, int, Cell, np.ndarray, int, bool]] = []
    seen: set[bytes] = set()
    cells = 0

    def enter(point: Tensor, entered: float) -> None:
        nonlocal cells
        cell = cell_of(search.graph, point, search.box)
        seen.add(cell.pattern.tobytes())
        cells += 1
        _look(search, cell)
        gaps = np.abs(cell.limits - cell.normals @ search.point)
        gaps = np.where(cell.origins[:, 0] == BORDER, np.inf, np.maximum(gaps, entered))
        rows = np.argsort(gaps)
        rows = rows[: int((gaps < search.high).sum())]
        if len(rows):
            heapq.heappush(waiting, (float(gaps[rows[0]]), cells, cell, rows, 0, False))

    enter(start, 0.0)
    search.low = waiting[0][0] if waiting else np.inf
    yield cells
    order = max_cells + 1
    while waiting:
        bound, _, cell, rows, place, known = heapq.heappop(waiting)
        search.low = max(search.low, bound)
        if bound >= search.high:
            return
        row = int(rows[place])
        if not known:
            if place + 1 < len(rows):
                gap = abs(
                    cell.limits[rows[place + 1]] - cell.normals[rows[place + 1]] @ search.point
                )
                order += 1
                heapq.heappush(waiting, (max(bound, gap), order, cell, rows, place + 1, False))
            normals = np.vstack([cell.normals, -cell.normals[row]])
            limits = np.append(cell.limits, -cell.limits[row])
            found = nearest_point(normals, limits, search.point)
            if found is not None and found[1] < search.high:
                order += 1
                heapq.heappush(waiting, (max(bound, found[1]), order, cell, rows, place, True))
        else:
            neighbor = across(cell, row, np.arange(len(cell.limits)))
            if neighbor is not None and neighbor.pattern.tobytes() not in seen:
                enter(neighbor.point, bound)
        search.low = max(search.low, waiting[0][0] if waiting else search.high)
        yield cells


def _look(search: _Search, cell: Cell) -> None:
    """Find the nearest point of another class, or of a tie, in a cell."""
    values = cell.jacobian @ search.point + cell.constant
    leads, slopes = _leads(values, cell.jacobian, search)
    lengths = np.linalg.norm(slopes, axis=1)
    for lead, slope, length in zip(leads, slopes, lengths, strict=True):
        if length == 0:
            if lead > 0:
                continue
            normals, limits = cell.normals, cell.limits
        elif lead / length >= search.high:
            continue
        else:
            normals = np.vstack([cell.normals, slope / length])
            limits = np.append(cell.limits, (slope @ search.point - lead) / length)
        found = nearest_point(normals, limits, search.point)
        if found is not None:
            search.offer(*found)
