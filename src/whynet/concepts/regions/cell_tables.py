"""The cells of a plane as arrays on disk, written piece by piece, also while it is cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import zarr
from torch import nn

from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.subdivision import PART_SHARE, PlaneRegions, checked_limits
from whynet.core.errors import InputError, StoreError
from whynet.core.outcome import NotApplicable
from whynet.models import piecewise_linear_planes
from whynet.models.piecewise_linear_source import graph_from
from whynet.models.preservation import preserved
from whynet.models.subject import Subject
from whynet.numerics import plane_measures as measures
from whynet.numerics.plane_cells import PlaneCells
from whynet.numerics.plane_joining import Joined

ROWS: Final = 2**17
"""Rows of a chunk, and rows that are written at a time."""

AXES: Final[Mapping[str, tuple[str, ...]]] = {
    "vertices": ("vertex", "coordinate"),
    "offsets": ("cell_edge",),
    "corners": ("corner",),
    "neighbors": ("corner",),
    "origins": ("corner",),
    "maps": ("cell", "coefficient", "output"),
}
"""Arrays of a table, as in `PlaneCells`, and what their axes are."""

_ABOUT = (
    "cell c has the vertices corners[offsets[c]:offsets[c+1]], counter-clockwise; "
    "on it the outputs are maps[c,0] x + maps[c,1] y + maps[c,2]"
)

TILES: Final = 128
"""Of the map of how densely cells stand, along each axis."""


@dataclass(frozen=True, eq=False)
class CellTable:
    """A table of cells on disk, and what was summed up while it was written.

    Attributes:
        path: the Zarr group.
        plane: the polygon.
        steps: what made a wall, as in `PlaneRegions`.
        output_shape: shape of one output.
        count: cells; a lower bound where not `complete`.
        complete: whether all cells were found.
        interrupted: whether somebody interrupted.
        numbers: area, walls, slopes, integrals and extrema, by name.
        density: int64 [TILES, TILES], cells whose middle lies in each tile of the polygon's
            bounding rectangle, by column and row.

    """

    path: Path
    plane: Plane
    steps: tuple[str, ...]
    output_shape: tuple[int, ...]
    count: int
    complete: bool
    interrupted: bool
    numbers: Mapping[str, Any]
    density: np.ndarray


def write_cells(
    model: nn.Module | Subject,
    plane: Plane,
    path: str | Path,
    *,
    max_cells: int = 1_000_000_000,
    memory: int | None = None,
    seconds: float | None = None,
) -> CellTable | NotApplicable:
    """Cut a plane into cells that are written to disk piece by piece, as many as the disk holds.

        table = whynet.regions.write_cells(model, plane, "cells.zarr")
        table.count, table.numbers["lipschitz_constant"]

    The arrays are those of `PlaneRegions.cells`, to the same bits. Finished parts of the polygon
    wait in a temporary folder beside `path`, and are joined when all are known.

    Args:
        model: a network, taken in evaluation mode and left as it is, or a subject.
        plane: the polygon.
        path: a folder that is not there yet, or is empty.
        max_cells: cells above which it stops.
        memory: bytes to stay within, as estimated, for the values of the network at the corners
            that are worked on; half of the machine's by default. The edges between parts are
            held beside them.
        seconds: time after which it stops.

    Returns:
        The table; or the sentence that says what is not piecewise linear. A keyboard interrupt,
        the end of the time or of `max_cells` leave what was found, `complete` false, also in the
        group's attributes.

    Raises:
        InputError: the plane does not fit the network, weights are not finite, or something is
            at `path`.
        OSError: the disk is full or gone.

    Cost: that of `subdivide`, and the table twice on disk.

    """
    held, until = checked_limits(plane, max_cells, memory, seconds)
    place = Path(path)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InputError("path", f"{str(path)!r}, where something is", "a folder to be made")
    graph = graph_from(model, plane.origin, "plane")
    if isinstance(graph, NotApplicable):
        return graph
    steps = tuple(step.name for step in graph.steps)
    writer = _Writer(place, steps, math.prod(graph.output_shape), plane.polygon)
    place.parent.mkdir(parents=True, exist_ok=True)
    with preserved(), TemporaryDirectory(dir=place.parent, prefix=".parts-") as parts:
        complete, interrupted = piecewise_linear_planes.subdivide_in_pieces(
            graph, plane.origin, plane.axes, plane.polygon, writer, Path(parts), max_cells,
            min(piecewise_linear_planes.PART_BYTES, held // PART_SHARE), until,
        )  # fmt: skip
    writer.close(complete)
    return CellTable(
        place, plane, steps, tuple(graph.output_shape), writer.cells, complete, interrupted,
        writer.numbers(complete), writer.density,
    )  # fmt: skip


def read_cells(path: str | Path) -> PlaneCells:
    """Read a table of cells into memory.

    Raises:
        InputError: there is none.
        StoreError: it is damaged.

    """
    wanted = "a group of cells that whynet wrote"
    try:
        root = zarr.open_group(str(path), mode="r")
        arrays = {name: np.asarray(root[name]) for name in AXES}
        complete = root.attrs["complete"]
    except FileNotFoundError as error:
        raise InputError("path", f"no group of cells {str(path)!r}", wanted) from error
    except (KeyError, ValueError, TypeError, OSError) as error:
        found = f"{str(path)!r}, damaged ({type(error).__name__})"
        raise StoreError("path", found, wanted) from error
    sizes = len(arrays["offsets"]) - 1, len(arrays["corners"])
    fits = len(arrays["maps"]) == sizes[0] and int(arrays["offsets"][-1]) == sizes[1]
    if not fits or not len(arrays["neighbors"]) == len(arrays["origins"]) == sizes[1]:
        raise StoreError("path", f"{str(path)!r}, whose arrays do not fit together", wanted)
    held: Any = arrays
    return PlaneCells(**held, complete=bool(complete))


def write_table(path: Path, regions: PlaneRegions) -> None:
    """Write the cells of a subdivision, and its decision boundary, piece by piece."""
    root = _group(path, regions.steps, regions.complete)
    for name, dims in AXES.items():
        write_array(root, name, getattr(regions.cells, name), dims)
    if regions.complete:
        write_boundary(path, regions)


def write_boundary(path: Path, regions: PlaneRegions) -> None:
    """Write the decision boundary beside the cells."""
    root, boundary = zarr.open_group(path, mode="a"), regions.decision_boundary
    write_array(root, "boundary", boundary.segments, ("segment", "end", "coordinate"))
    write_array(root, "boundary_classes", boundary.pairs, ("segment", "side"))


def write_array(root: zarr.Group, name: str, values: np.ndarray, dims: tuple[str, ...]) -> None:
    """Write an array piece by piece, so that no second copy of it is held."""
    most = max(1, min(ROWS, len(values)))
    rows = _Rows(root, name, values.shape[1:], values.dtype, dims, most)
    for begin in range(0, len(values), most):
        rows.add(values[begin : begin + most])
    rows.close()


def _group(path: Path, steps: tuple[str, ...], complete: bool) -> zarr.Group:
    root = zarr.create_group(path, zarr_format=3)
    about = {"complete": complete, "steps": list(steps), "about": _ABOUT}
    root.update_attributes(about)
    return root


class _Rows:
    """An array that grows, written in whole chunks."""

    def __init__(
        self, root: zarr.Group, name: str, shape: tuple[int, ...], dtype: Any,
        dims: tuple[str, ...], chunk: int,
    ) -> None:  # fmt: skip
        self.chunk = chunk
        chunks = (chunk, *(max(1, size) for size in shape))
        self.array = root.create_array(
            name, shape=(0, *shape), dtype=dtype, chunks=chunks, dimension_names=dims
        )
        self.waiting: list[np.ndarray] = []
        self.count = 0

    def add(self, rows: np.ndarray) -> None:
        self.waiting.append(rows)
        self.count += len(rows)
        if self.count >= self.chunk:
            held = np.concatenate(self.waiting)
            whole = self.count - self.count % self.chunk
            self._write(held[:whole])
            self.waiting, self.count = [held[whole:].copy()], self.count - whole

    def close(self) -> None:
        if self.count:
            self._write(np.concatenate(self.waiting))
        self.waiting, self.count = [], 0

    def _write(self, rows: np.ndarray) -> None:
        before = self.array.shape[0]
        self.array.resize((before + len(rows), *rows.shape[1:]))
        self.array[before:] = rows


class _Writer:
    """Receives a table part by part: writes it, and sums up what is asked of the whole."""

    def __init__(
        self, place: Path, steps: tuple[str, ...], outputs: int, polygon: np.ndarray
    ) -> None:
        self.root, self.steps, self.polygon = _group(place, steps, False), steps, polygon
        shapes = {"vertices": (2,), "maps": (3, outputs)}
        floats = ("vertices", "maps")
        self.arrays = {
            name: _Rows(
                self.root, name, shapes.get(name, ()), "f8" if name in floats else "i8", dims, ROWS
            )
            for name, dims in AXES.items()
        }
        self.arrays["offsets"].add(np.zeros(1, dtype=np.int64))
        self.cells = self.corners = 0
        self.area, self.sloped, self.steepest = 0.0, 0.0, 0.0
        self.walls = np.zeros((2, len(steps)))
        self.sums = np.zeros((2, outputs))
        self.ends = np.stack([np.full(outputs, np.inf), np.full(outputs, -np.inf)])
        self.density = np.zeros((TILES, TILES), dtype=np.int64)

    def rows(self, joined: Joined) -> None:
        """Write the rows of one part."""
        self._sum(joined)
        for name in ("vertices", "corners", "neighbors", "origins", "maps"):
            self.arrays[name].add(getattr(joined, name))
        self.arrays["offsets"].add(self.corners + np.cumsum(joined.sizes))
        self.cells += len(joined.sizes)
        self.corners += len(joined.corners)

    def across(self, places: np.ndarray, cells: np.ndarray) -> None:
        """Fill in neighbors of other parts, chunk by chunk."""
        self.arrays["neighbors"].close()
        array = self.arrays["neighbors"].array
        for chunk in np.unique(places // ROWS):
            begin = int(chunk) * ROWS
            first, last = np.searchsorted(places, [begin, begin + ROWS])
            held = np.asarray(array[begin : begin + ROWS])
            held[places[first:last] - begin] = cells[first:last]
            array[begin : begin + len(held)] = held

    def close(self, complete: bool) -> None:
        """Write what waits, and whether that is all."""
        for rows in self.arrays.values():
            rows.close()
        self.root.update_attributes({"complete": complete})

    def _sum(self, joined: Joined) -> None:
        offsets = np.concatenate([[0], np.cumsum(joined.sizes)])
        numbers = np.arange(len(joined.corners))
        cells = PlaneCells(
            joined.points, offsets, numbers, joined.neighbors, joined.origins, joined.maps
        )
        areas, centers = measures.areas_and_centroids(cells)
        slopes, values = measures.slopes(cells), measures.extrema(cells)
        self.area += float(areas.sum())
        self.sloped += float(areas @ slopes)
        self.steepest = max(self.steepest, float(slopes.max()))
        self.sums += [measures.integrals(cells), measures.gradient_norm_integrals(cells)]
        self.ends[0] = np.minimum(self.ends[0], values.smallest)
        self.ends[1] = np.maximum(self.ends[1], values.largest)
        inner = np.flatnonzero(joined.origins >= 0)
        start, stop = (joined.points[ends[inner]] for ends in measures.edge_ends(cells))
        lengths = np.linalg.norm(stop - start, axis=1)
        # Each wall is the edge of two cells.
        made = joined.origins[inner]
        self.walls += 0.5 * np.stack(
            [np.bincount(made, weights, len(self.steps)) for weights in (None, lengths)]
        )
        low, high = self.polygon.min(0), self.polygon.max(0)
        tiles = np.clip((centers - low) / (high - low) * TILES, 0, TILES - 1).astype(int)
        np.add.at(self.density, tuple(tiles.T), 1)

    def numbers(self, complete: bool) -> dict[str, Any]:
        """Return what was summed up; slopes and values only where all cells were found."""
        found: dict[str, Any] = {
            "area": self.area,
            "walls": round(float(self.walls[0].sum())),
            "wall_length": float(self.walls[1].sum()),
            "wall_length_by_operation": {
                f"{index}: {name}": float(length)
                for index, (name, length) in enumerate(zip(self.steps, self.walls[1], strict=True))
                if length > 0
            },
        }
        if not complete:
            return found
        return found | {
            "lipschitz_constant": self.steepest,
            "mean_slope": self.sloped / self.area,
            "integrals": self.sums[0].tolist(),
            "gradient_norm_integrals": self.sums[1].tolist(),
            "smallest": self.ends[0].tolist(),
            "largest": self.ends[1].tolist(),
        }
