"""A network on a convex polygon of a plane: every cell and its affine map, exactly."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.regions.planes import Plane
from whynet.core.errors import InputError
from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_planes
from whynet.models.data.limits import memory_limit
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics import plane_measures as measures
from whynet.numerics.plane_boundaries import Boundary, decision_boundary, level_set
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_classes import ClassParts, class_parts
from whynet.numerics.plane_measures import Extrema

_CELL_BYTES, _MAP_BYTES = 500, 100
"""Of memory that a cell takes until it stands in the table, and more for each output."""

PART_SHARE = 8
"""Of the memory, for the values of the network at the corners of the cells that are being cut."""


@dataclass(frozen=True, eq=False)
class PlaneRegions:
    """A network on a polygon, exact up to the round-off of float64.

    Attributes:
        plane: the polygon and where it lies; lengths and areas are those of the input space.
        cells: the cells: corners, walls, neighbors, and the affine map of each.
        steps: what made a wall, by the number in `cells.origins`: module path and operation.
        output_shape: shape of one output; maps hold it flattened.

    Where `complete` is false, the search was interrupted or stopped by a bound: `count` is
    then a lower bound, and what needs the network on each cell raises an `InputError`.

    """

    plane: Plane
    cells: PlaneCells
    steps: tuple[str, ...]
    output_shape: tuple[int, ...]

    @property
    def interrupted(self) -> bool:
        """Whether somebody interrupted the search."""
        return self.cells.interrupted

    @property
    def complete(self) -> bool:
        """Whether all cells were found."""
        return self.cells.complete

    @property
    def count(self) -> int:
        """Cells: sets of constant activation pattern. A lower bound where not complete."""
        return len(self.cells.offsets) - 1

    @cached_property
    def linear_regions(self) -> int:
        """Connected sets on which the output is one affine function."""
        return int(measures.linear_regions(self._whole()).max()) + 1

    @cached_property
    def areas(self) -> np.ndarray:
        """float64 [C]."""
        return measures.areas_and_centroids(self.cells)[0]

    @property
    def neighbors(self) -> np.ndarray:
        """int64 [walls, 2]: the two cells beside each wall."""
        edges, _ = measures.inner_walls(self.cells)
        return np.stack(
            [measures.cell_of_corner(self.cells)[edges], self.cells.neighbors[edges]], 1
        )

    @property
    def wall_length(self) -> float:
        """Total length of the walls inside the polygon. A lower bound where not complete."""
        return measures.wall_length(self.cells)

    @cached_property
    def slopes(self) -> np.ndarray:
        """float64 [C]: norm of the Jacobian along the plane on every cell."""
        return measures.slopes(self._whole())

    @property
    def lipschitz_constant(self) -> float:
        """Exact Lipschitz constant of the network on the polygon, for moves inside the plane."""
        return float(self.slopes.max())

    @property
    def integrals(self) -> np.ndarray:
        """float64 [O]: integral of every output over the polygon."""
        return measures.integrals(self._whole())

    @property
    def gradient_norm_integrals(self) -> np.ndarray:
        """float64 [O]: integral of the norm of every output's gradient, its total variation."""
        return measures.gradient_norm_integrals(self._whole())

    @property
    def extrema(self) -> Extrema:
        """Smallest and largest value of every output, and where in the plane."""
        return measures.extrema(self._whole())

    @cached_property
    def class_parts(self) -> ClassParts:
        """Cells cut along the decision boundary, and the class of every part."""
        return class_parts(self._whole())

    @cached_property
    def decision_boundary(self) -> Boundary:
        """Where the predicted class changes; of one output, where it crosses 0."""
        return decision_boundary(self._whole())

    def level_set(self, level: float, output: int = 0) -> Boundary:
        """Return where an output crosses a level.

        Raises:
            InputError: there is no such output.

        """
        if not 0 <= output < self.cells.maps.shape[2]:
            wanted = f"a number from 0 to {self.cells.maps.shape[2] - 1}"
            raise InputError("output", repr(output), wanted)
        return level_set(self._whole(), output, level)

    def depths(self) -> np.ndarray:
        """Return how deep the unit stands that made each edge, int64 [K].

        0 is the first operation that bends the network on the polygon; -1 the border.
        """
        depths = np.full(len(self.steps) + 1, -1)
        made = np.unique(self.cells.origins)
        made = made[made >= 0]
        depths[made] = np.arange(len(made))
        return np.where(self.cells.origins < 0, -1, depths[self.cells.origins])

    def evaluate(self, coordinates: Any) -> Tensor:
        """Return the outputs, float64 [N, *output_shape], at points of the polygon, from the cells.

        Args:
            coordinates: [N, 2], in the plane.

        Raises:
            InputError: a point lies outside the polygon.

        Cost: points times edges.

        """
        points = np.asarray(coordinates, dtype=np.float64).reshape(-1, 2)
        found = measures.locate(self._whole(), points)
        if (found < 0).any():
            outside = points[int((found < 0).argmax())].tolist()
            raise InputError("coordinates", f"{outside} outside the polygon", "points inside it")
        values = measures.evaluate_maps(self.cells.maps[found], points)
        return torch.as_tensor(values).reshape(-1, *self.output_shape)

    def _whole(self) -> PlaneCells:
        if not self.complete:
            raise InputError(
                "regions",
                f"a subdivision that stopped at {self.count:,} cells, a lower bound",
                "a complete one: raise max_cells, take a smaller polygon, or let it finish",
            )
        return self.cells


def subdivide(
    model: nn.Module | Subject,
    plane: Plane,
    *,
    max_cells: int = 1_000_000,
    memory: int | None = None,
    seconds: float | None = None,
) -> PlaneRegions | NotApplicable:
    """Cut a convex polygon of the input space into all cells of a piecewise-linear network.

        plane = whynet.regions.Plane.through(x[0], x[1], x[2])
        regions = whynet.regions.subdivide(model, plane)
        regions.count, regions.lipschitz_constant, regions.decision_boundary.length

    On each cell every unit keeps its side and the network is affine (Montúfar et al. 2014,
    arXiv:1402.1869; Hanin and Rolnick 2019, arXiv:1906.00904).

    Args:
        model: a network, taken in evaluation mode and left as it is, or a subject.
        plane: the polygon.
        max_cells: cells above which it stops.
        memory: bytes to stay within, as estimated; by default half of the machine's. Of wide
            layers fewer cells are worked on at once, which changes no result; it stops where the
            table of the cells alone would take more, which `write_cells` puts on disk.
        seconds: time after which it stops.

    Returns:
        The cells; or the sentence that says what is not piecewise linear, where, and what to do.
        A keyboard interrupt, the end of the time, or more cells than `max_cells` or the memory
        allow, leave what was found, `complete` false.

    Raises:
        InputError: the plane does not fit the network, or weights are not finite.

    Cost: about one forward pass in float64 for each vertex, and linear in the cells.

    """
    held, until = checked_limits(plane, max_cells, memory, seconds)
    graph = graph_from(model, plane.origin, "plane")
    if isinstance(graph, NotApplicable):
        return graph
    most = most_in_memory(math.prod(graph.output_shape), held)
    part = min(piecewise_linear_planes.PART_BYTES, held // PART_SHARE)
    with preserved():
        cells = piecewise_linear_planes.subdivide(
            graph, plane.origin, plane.axes, plane.polygon, min(max_cells, most), part, until
        )
    return PlaneRegions(
        plane, cells, tuple(step.name for step in graph.steps), tuple(graph.output_shape)
    )


def checked_limits(
    plane: Plane, max_cells: int, memory: int | None, seconds: float | None
) -> tuple[int, float]:
    """Check what bounds a subdivision; returns bytes, and the end as `time.monotonic`.

    Raises:
        InputError: one of them is none.

    """
    if not isinstance(plane, Plane):
        raise InputError("plane", f"a {type(plane).__name__}", "a whynet.regions.Plane")
    if isinstance(max_cells, bool) or not isinstance(max_cells, int) or max_cells < 1:
        raise InputError("max_cells", repr(max_cells), "a whole number of at least 1")
    if memory is not None and (isinstance(memory, bool) or not memory >= 1):
        raise InputError("memory", repr(memory), "a number of bytes of at least 1")
    if seconds is not None and not seconds > 0:
        raise InputError("seconds", repr(seconds), "a number above 0")
    until = math.inf if seconds is None else time.monotonic() + seconds
    return int(memory or memory_limit()), until


def most_in_memory(outputs: int, memory: int) -> int:
    """Return how many cells a table in so many bytes holds."""
    return max(1, memory // (_CELL_BYTES + _MAP_BYTES * outputs))
