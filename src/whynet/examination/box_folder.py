"""The folder of all cells in a box: a figure, the cells as arrays, a summary; written whole."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from whynet.concepts.regions import figures
from whynet.concepts.regions.boxes import BoxRegions
from whynet.concepts.regions.cell_tables import write_array
from whynet.core.question import Figure
from whynet.examination.folder import write_whole
from whynet.examination.region_folder import (
    CELLS,
    DRAWING,
    SCHEMA_VERSION,
    check_place,
    save_drawing,
    write_summary,
)

_AXES = {
    "offsets": ("cell_edge",),
    "normals": ("half_space", "coordinate"),
    "limits": ("half_space",),
    "walls": ("half_space", "origin"),
    "neighbors": ("half_space",),
    "centers": ("cell", "coordinate"),
    "radii": ("cell",),
    "maps": ("cell", "coefficient", "output"),
}


def save_box(
    regions: BoxRegions, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the figure, the cells and a summary of all cells in a box.

    Args:
        regions: the cells; of a search that was stopped, those found so far are written.
        path: the folder.
        about: what else the summary says, such as the network's name.

    Returns:
        The summary: numbers, all exact up to round-off, or lower bounds where not complete.

    Raises:
        InputError: the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    summary = {"schema_version": SCHEMA_VERSION, **(about or {}), **box_summary(regions)}
    unit = float((regions.high - regions.low).min()) / 2
    drawing = Figure(
        "sizes",
        partial(figures.sizes, radii=regions.cells.radii, unit=unit),
        "Cells of the network in a box by their size.",
        f"A histogram of {regions.count:,} cells.",
    )

    def write(folder: Path) -> None:
        save_drawing(folder / DRAWING, drawing)
        _write_cells(folder / CELLS, regions)
        write_summary(folder, summary)

    write_whole(check_place(path, "path"), write)
    return summary


def box_summary(regions: BoxRegions) -> dict[str, Any]:
    """Return the numbers of all cells in a box by name."""
    cells = regions.cells
    found: dict[str, Any] = {
        "complete": regions.complete,
        "inputs": regions.low.numel(),
        "cells": regions.count,
        "half_spaces_of_a_cell": len(cells.limits) / regions.count,
        "smallest_radius": float(cells.radii.min()),
        "largest_radius": float(cells.radii.max()),
    }
    if cells.corners is not None:
        found |= {
            "walls": len(regions.neighbors),
            "vertices": len(cells.corners.vertices),
            "volume": float(regions.volumes.sum()),
        }
    if not regions.complete:
        return found
    found["lipschitz_constant"] = regions.lipschitz_constant
    if cells.corners is not None:
        smallest, largest = regions.extrema
        found |= {
            "linear_regions": regions.linear_regions,
            "mean_slope": float(regions.volumes @ regions.slopes / regions.volumes.sum()),
            "smallest": smallest.tolist(),
            "largest": largest.tolist(),
        }
    return found


def _write_cells(place: Path, regions: BoxRegions) -> None:
    cells = regions.cells
    root = zarr.create_group(place, zarr_format=3)
    root.update_attributes(
        {
            "complete": regions.complete,
            "steps": list(regions.steps),
            "low": regions.low.flatten().tolist(),
            "high": regions.high.flatten().tolist(),
            "about": "cell c is where normals[k] @ x <= limits[k], k in offsets[c]:offsets[c+1]; "
            "on it the outputs are x @ maps[c,:-1] + maps[c,-1]; walls hold operation, unit and "
            "level, of the box -1, coordinate and end; vertices of cell c are "
            "vertices[corners[k]] for k in corner_offsets[c]:corner_offsets[c+1]",
        }
    )
    for name, dims in _AXES.items():
        values = getattr(cells, name)
        write_array(root, name, values, dims)
    if cells.corners is None:
        return
    arrays: tuple[tuple[str, np.ndarray, tuple[str, ...]], ...] = (
        ("vertices", cells.corners.vertices, ("vertex", "coordinate")),
        ("corner_offsets", cells.corners.offsets, ("cell_edge",)),
        ("corners", cells.corners.corners, ("corner",)),
        ("volumes", cells.corners.volumes, ("cell",)),
    )
    for name, values, dims in arrays:
        write_array(root, name, values, dims)
