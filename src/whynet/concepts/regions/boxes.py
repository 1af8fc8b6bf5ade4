"""A network on a box of a few dimensions: every cell, its half-spaces and its affine map."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.regions.cells import Cell, cell_of
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_boxes import Limits, cells_by_vertices
from whynet.models.piecewise_linear_programs import cells_by_programs
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics.polytope_cells import (
    Corners,
    PolytopeCells,
    linear_regions,
    locate,
    walls_between,
)

MOST_INPUTS, MOST_UNITS = 16, 5000
"""Above which a search is refused: there are more cells than anybody could wait for."""

_BY_VERTICES = 6
"""Dimensions up to which the faces of cells are followed; in more of them there are too many, and
linear programs are solved."""

_THIN = 1e-9
"""Radius of a cell's largest ball, in longest sides of the box, below which it is not counted."""


@dataclass(frozen=True, eq=False)
class BoxRegions:
    """A network on a box, exact up to the round-off of float64.

    Attributes:
        low: float64 [*input_shape], one end of the box.
        high: float64 [*input_shape], the other.
        cells: the cells: half-spaces, neighbors, vertices, and the affine map of each. Of more than
            six dimensions vertices and neighbors are not known, and half-spaces may be redundant.
        steps: what made a wall, by the number in `cells.walls`: module path and operation.
        output_shape: shape of one output; maps hold it flattened.

    Where `complete` is false, the search was interrupted or stopped: `count` is then a lower bound,
    and what needs the network on each cell raises an `InputError`.

    """

    low: Tensor
    high: Tensor
    cells: PolytopeCells
    steps: tuple[str, ...]
    output_shape: tuple[int, ...]
    _graph: PiecewiseLinearGraph = field(repr=False)

    @property
    def complete(self) -> bool:
        """Whether all cells were found."""
        return self.cells.complete

    @property
    def count(self) -> int:
        """Cells: sets of constant activation pattern. A lower bound where not complete."""
        return len(self.cells.centers)

    @property
    def volumes(self) -> np.ndarray:
        """float64 [C]; known of up to six dimensions."""
        return self._corners("volumes").volumes

    @property
    def neighbors(self) -> np.ndarray:
        """int64 [walls, 2]: the two cells beside each wall, each once; of up to six dimensions."""
        self._corners("neighbors")
        return walls_between(self.cells)

    @cached_property
    def linear_regions(self) -> int:
        """Connected sets on which the output is affine; known of up to six dimensions."""
        self._corners("linear_regions")
        return int(linear_regions(self._whole()).max()) + 1

    @cached_property
    def slopes(self) -> np.ndarray:
        """float64 [C]: spectral norm of the Jacobian on every cell."""
        return np.asarray(np.linalg.norm(self._whole().maps[:, :-1], 2, axis=(1, 2)))

    @property
    def lipschitz_constant(self) -> float:
        """Exact Lipschitz constant of the network on the box."""
        return float(self.slopes.max())

    @property
    def extrema(self) -> tuple[np.ndarray, np.ndarray]:
        """Smallest and largest value of every output, float64 [O] each; of up to six dimensions."""
        self._whole()
        vertices = torch.as_tensor(self._corners("extrema").vertices)
        values = self._graph.evaluate(vertices.reshape(-1, *self.low.shape)).flatten(1)
        return values.amin(0).numpy(), values.amax(0).numpy()

    def cell(self, number: int) -> Cell:
        """Return one cell, with facets, largest ball, Lipschitz constant and neighbors.

        Raises:
            InputError: there is no such cell.

        """
        if not 0 <= number < self.count:
            raise InputError("number", repr(number), f"a number from 0 to {self.count - 1}")
        center = torch.as_tensor(self._whole().centers[number]).reshape(self.low.shape)
        box = (self.low.flatten().numpy(), self.high.flatten().numpy())
        with preserved():
            return cell_of(self._graph, center, box)

    def evaluate(self, points: Any) -> Tensor:
        """Return the outputs, float64 [N, *output_shape], at points of the box, from the cells.

        Args:
            points: [N, *input_shape].

        Raises:
            InputError: a point lies outside the box.

        Cost: points times half-spaces.

        """
        cells = self._whole()
        flat = np.asarray(points, dtype=np.float64).reshape(-1, self.low.numel())
        low, high = self.low.flatten().numpy(), self.high.flatten().numpy()
        outside = ((flat < low) | (flat > high)).any(1)
        if outside.any():
            found = f"{flat[int(outside.argmax())].tolist()} outside the box"
            raise InputError("points", found, "points inside it")
        maps = cells.maps[locate(cells, flat)]
        values = np.einsum("nd,ndo->no", flat, maps[:, :-1]) + maps[:, -1]
        return torch.as_tensor(values).reshape(-1, *self.output_shape)

    def _corners(self, name: str) -> Corners:
        if self.cells.corners is None:
            found = f"cells of {self.low.numel()} dimensions, found by linear programs"
            raise InputError(name, found, f"at most {_BY_VERTICES} dimensions")
        return self.cells.corners

    def _whole(self) -> PolytopeCells:
        if not self.complete:
            raise InputError(
                "regions",
                f"a search that stopped at {self.count:,} cells, a lower bound",
                "a complete one: raise max_cells or seconds, take a smaller box, or let it finish",
            )
        return self.cells


def cells_in_box(
    model: nn.Module | Subject,
    low: Any,
    high: Any,
    *,
    max_cells: int = 50_000,
    seconds: float | None = None,
    workers: int = 1,
) -> BoxRegions | NotApplicable:
    """Find all cells of a piecewise-linear network in a box of a few input dimensions.

        regions = whynet.regions.cells_in_box(model, -torch.ones(3), torch.ones(3))

    On each cell every unit keeps its side and the network is affine (Montúfar et al. 2014,
    arXiv:1402.1869). Up to six dimensions cells are cut unit by unit with their faces of all
    dimensions, and no linear program is solved; beyond, linear programs decide which units cut, and
    vertices, volumes and neighbors are not known. A cell whose largest ball has a radius below 1e-9
    of the longest side of the box is taken for round-off and not counted.

    Args:
        model: a network, taken in evaluation mode and left as it is, or a subject.
        low: one end of the box, [*input_shape]; of a subject also a number.
        high: the other end.
        max_cells: cells above which it stops.
        seconds: time after which it stops.
        workers: up to six dimensions, threads that read half-spaces, maps, volumes and vertices
            off the faces, which takes more than half of the time; beyond, processes that solve the
            linear programs, and a script that asks for more than one has to guard its start by
            `__name__ == "__main__"`. Cells are the same.

    Returns:
        The cells; or the sentence that says what is not piecewise linear. Where it is stopped or
        interrupted, `complete` is false, and cells are coarser ones that hold at least one each.

    Raises:
        InputError: the box does not fit the network or has no inside, weights are not finite, or
            the network has too many inputs or units.

    Cost: for each unit a pass over all faces, about 2^D a cell: tens of thousands of cells a second
        and 4 KB each in three dimensions, a thousand and 70 KB in six; beyond, a hundred, by 2 to 6
        linear programs each.

    """
    until = _until(max_cells, seconds, workers)
    box = _box(model, low, high)
    if box[0].numel() > MOST_INPUTS:
        raise too_large(box[0].numel())
    graph = graph_from(model, box[0], "low")
    if isinstance(graph, NotApplicable):
        return graph
    if graph.units > MOST_UNITS:
        raise too_large(box[0].numel(), graph.units)
    with preserved():
        cells = _search(graph, box, Limits(max_cells, until), workers)
    steps = tuple(step.name for step in graph.steps)
    return BoxRegions(box[0], box[1], cells, steps, tuple(graph.output_shape), graph)


def _until(max_cells: int, seconds: float | None, workers: int) -> float:
    """Check what bounds a search; returns its end, as `time.monotonic`."""
    for name, number in (("max_cells", max_cells), ("workers", workers)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(name, repr(number), "a whole number of at least 1")
    if seconds is not None and not seconds > 0:
        raise InputError("seconds", repr(seconds), "a number above 0")
    return np.inf if seconds is None else time.monotonic() + seconds


def _search(
    graph: PiecewiseLinearGraph, box: tuple[Tensor, Tensor], limits: Limits, workers: int
) -> PolytopeCells:
    low, high = (end.flatten().numpy() for end in box)
    thinnest = _THIN * float((high - low).max())
    if len(low) <= _BY_VERTICES:
        return cells_by_vertices(graph, low, high, limits, thinnest, workers)
    return cells_by_programs(graph, low, high, limits, thinnest, workers)


def too_large(inputs: int, units: int | None = None) -> InputError:
    """Return the refusal of a network of too many inputs or units."""
    found = f"a network of {inputs:,} inputs"
    if units is not None:
        found += f" and {units:,} units"
    return InputError(
        "model",
        found,
        f"at most {MOST_INPUTS} inputs and {MOST_UNITS:,} units; of larger ones `subdivide` cuts a "
        "plane and `cell_at` finds the cell of a point",
    )


def _box(model: nn.Module | Subject, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """Check the ends of a box; returns them, float64 [*input_shape]."""
    ends = [torch.as_tensor(end).detach().cpu().double() for end in (low, high)]
    shape = next((end.shape for end in ends if end.dim()), None)
    if shape is None and isinstance(model, Subject):
        shape = _input_shape(model)
    if shape is None:
        raise InputError("low", "a number", "one end of the box, of the shape of one input")
    box = _end(ends[0], "low", shape), _end(ends[1], "high", shape)
    if not bool((box[0] < box[1]).all()):
        raise InputError("high", "a box without inside", "an end above `low` in every coordinate")
    return box


def _input_shape(subject: Subject) -> torch.Size | None:
    graph = subject.graph
    return torch.Size(graph.input_shape) if isinstance(graph, PiecewiseLinearGraph) else None


def _end(end: Tensor, name: str, shape: Sequence[int]) -> Tensor:
    if end.dim() and end.shape != torch.Size(shape):
        wanted = f"a number or an array of shape {list(shape)}"
        raise InputError(name, f"an array of shape {list(end.shape)}", wanted)
    if not bool(end.isfinite().all()):
        raise InputError(name, "values that are not finite", "finite ends of the box")
    return end.expand(tuple(shape)).clone()
