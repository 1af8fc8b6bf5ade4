"""The folder of exact geometry: a figure, the cells as arrays, a summary; written whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from whynet.concepts.regions import figures, plane_figures
from whynet.concepts.regions.film_strips import film_strip, strip_height
from whynet.concepts.regions.plane_figures import Color
from whynet.concepts.regions.polylines import PolylinePieces
from whynet.concepts.regions.subdivision import PlaneRegions
from whynet.core.question import Figure
from whynet.examination.folder import SUMMARY, check_out, write_whole
from whynet.examination.region_page import render_plane
from whynet.numerics import plane_measures
from whynet.numerics.plane_pictures import picture_of
from whynet.pages.drawing import WIDTH, draw_figure, new_figure

CELLS, PIECES, PLANE, DRAWING, FILM, PAGE = (
    "cells.zarr",
    "pieces.zarr",
    "plane.npz",
    "figure.svg",
    "film.svg",
    "report.html",
)
WRITTEN: Final = frozenset(
    {CELLS, PIECES, PLANE, DRAWING, FILM, PAGE, "figure.png", "film.png", SUMMARY}
)
"""All that is written; a folder that holds anything else is never replaced."""

SCHEMA_VERSION: Final = "1.0"
_SLAB: Final = 2**17
"""Rows of a chunk, and rows that are written at a time."""

_DPI: Final = 300

_COLORED: Final[Mapping[Color, str]] = {
    "class": ", colored by the predicted class, paler where its lead is small; the decision "
    "boundary on top",
    "slope": ", colored by the norm of the Jacobian along the plane; the decision boundary on top",
    "depth": ", walls colored by the operation that makes them; the decision boundary on top",
}


def check_place(path: str | Path, argument: str = "--out") -> Path:
    """Check, before anything is computed, that geometry can be written to a folder.

    Raises:
        InputError: it is a file, a mount point, a folder with other content, or cannot be written.

    """
    always = frozenset({SUMMARY, DRAWING})
    return check_out(path, argument, written=WRITTEN, always=always, writer="this command")


def save_plane(
    regions: PlaneRegions,
    path: str | Path,
    *,
    color: Color = "class",
    labels: Sequence[str] = (),
    frames: Sequence[tuple[str, PlaneRegions]] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the figure, the cells, the plane and a summary of a subdivision.

    Args:
        regions: the subdivision; of one that was stopped, the walls found so far are drawn.
        path: the folder.
        color: what the figure is colored by.
        labels: names of the plane's marks.
        frames: name and subdivision of the same plane at checkpoints of a training, for a film
            strip and their counts.
        about: what else the summary says, such as the network's name.

    Returns:
        The summary: numbers, all exact up to round-off, or lower bounds where not complete.

    Raises:
        InputError: the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    summary = {"schema_version": SCHEMA_VERSION, **(about or {}), **plane_summary(regions)}
    if frames:
        summary["checkpoints"] = [{"name": name, **_frame_counts(frame)} for name, frame in frames]
    drawing = Figure(
        "tessellation",
        partial(plane_figures.tessellation, regions=regions, color=color, labels=labels),
        f"Cells of the network in a plane of its input space{_COLORED[color]}.",
        f"A polygon cut into {regions.count:,} convex cells.",
        height=plane_figures.shape_of(regions, WIDTH),
    )

    def write(folder: Path) -> None:
        drawings = [(DRAWING, drawing), *([(FILM, _film(frames))] if frames else [])]
        drawn = [(one, save_drawing(folder / name, one)) for name, one in drawings]
        (folder / PAGE).write_text(render_plane(summary, drawn), encoding="utf-8")
        plane = regions.plane
        np.savez(
            folder / PLANE,
            origin=plane.origin.numpy(),
            axes=plane.axes.numpy(),
            polygon=plane.polygon,
            marks=plane.marks,
        )
        _write_cells(folder / CELLS, regions)
        write_summary(folder, summary)

    write_whole(check_place(path, "path"), write)
    return summary


def save_line(
    pieces: PolylinePieces, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write profile, knots and summary of a network along a polyline; as `save_plane`."""
    segments = pieces.segments
    outputs = segments.outputs.reshape(len(segments.t), -1).numpy()
    length = float(pieces.lengths.sum())
    summary = {
        "schema_version": SCHEMA_VERSION, **(about or {}),
        "complete": pieces.complete,
        "pieces": pieces.pieces,
        "output_pieces": pieces.output_pieces,
        "length": length,
        "image_length": pieces.image_length,
        "slope_variation": pieces.slope_variation,
        "class_changes": [
            {"at": change.segment + change.t, "before": change.before, "after": change.after}
            for change in (pieces.class_changes() if segments.outputs.dim() == 2 else ())
        ],
    }  # fmt: skip
    stop = int(segments.offsets[1])
    ends = outputs[[0, stop - 1]]
    first, last = (int(row.argmax()) for row in ends)
    if outputs.shape[1] > 1:
        curve, label = outputs[:, last] - outputs[:, first], f"lead of output {last} over {first}"
        if first == last:
            runner = int(np.argsort(ends[0])[-2])
            curve = outputs[:, first] - outputs[:, runner]
            label = f"lead of output {first} over {runner}"
    else:
        curve, label = outputs[:, 0], "output"
    draw = partial(
        figures.profile, position=segments.t[:stop].numpy(), curve=curve[:stop], label=label
    )
    drawing = Figure("profile", draw, "The network along a segment.", f"{pieces.pieces} pieces.")

    def write(folder: Path) -> None:
        save_drawing(folder / DRAWING, drawing)
        arrays = {
            "position": (segments.segment + segments.t).numpy(),
            "outputs": outputs,
            "switches": segments.switches.numpy(),
        }
        root = zarr.create_group(folder / PIECES, zarr_format=3)
        for name, values in arrays.items():
            write_array(root, name, [values], values.shape, ("knot", "output")[: values.ndim])
        write_summary(folder, summary)

    write_whole(check_place(path, "path"), write)
    return summary


def plane_summary(regions: PlaneRegions) -> dict[str, Any]:
    """Return the numbers of a subdivision by name."""
    edges, lengths = plane_measures.inner_walls(regions.cells)
    by_step = np.bincount(regions.cells.origins[edges], lengths, len(regions.steps))
    found: dict[str, Any] = {
        "complete": regions.complete,
        "cells": regions.count,
        "area": float(regions.areas.sum()),
        "walls": len(edges),
        "wall_length": float(lengths.sum()),
        "wall_length_by_operation": {
            f"{index}: {name}": float(total)
            for index, (name, total) in enumerate(zip(regions.steps, by_step, strict=True))
            if total > 0
        },
    }
    if not regions.complete:
        return found
    extrema, boundary = regions.extrema, regions.decision_boundary
    classes = max(2, regions.cells.maps.shape[2])
    return found | {
        "linear_regions": regions.linear_regions,
        "lipschitz_constant": regions.lipschitz_constant,
        "mean_slope": float(regions.areas @ regions.slopes / regions.areas.sum()),
        "decision_boundary": {
            "length": boundary.length,
            "components": boundary.components,
        },
        "class_areas": {
            str(number): float(area)
            for number, area in enumerate(regions.class_parts.class_areas(classes))
            if area > 0
        },
        "integrals": regions.integrals.tolist(),
        "gradient_norm_integrals": regions.gradient_norm_integrals.tolist(),
        "smallest": extrema.smallest.tolist(),
        "largest": extrema.largest.tolist(),
    }


def _frame_counts(regions: PlaneRegions) -> dict[str, Any]:
    """Return the few numbers of a subdivision that are followed over a training."""
    wanted = ("complete", "cells", "linear_regions", "wall_length", "lipschitz_constant")
    found = plane_summary(regions)
    kept = {name: found[name] for name in wanted if name in found}
    if regions.complete:
        kept["decision_boundary_length"] = regions.decision_boundary.length
    return kept


def _film(frames: Sequence[tuple[str, PlaneRegions]]) -> Figure:
    counts = ", ".join(f"{frame.count:,}" for _, frame in frames)
    drawn = [(name, picture_of(frame.cells, frame.plane.polygon)) for name, frame in frames]
    return Figure(
        "film",
        partial(film_strip, frames=drawn, marks=frames[0][1].plane.marks),
        "The same polygon at checkpoints of a training, cells colored by the predicted class, "
        "paler where its lead is small; the decision boundary on top.",
        f"Pictures of {counts} cells.",
        height=strip_height(drawn, width=WIDTH),
    )


def save_drawing(place: Path, drawing: Figure) -> str:
    """Write a figure as SVG at a place, and as PNG beside it; returns the SVG."""
    drawn = draw_figure(drawing)
    place.write_text(drawn, encoding="utf-8")
    new_figure(drawing.draw, drawing.height).savefig(place.with_suffix(".png"), dpi=_DPI)
    return drawn


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the numbers into a folder."""
    text = json.dumps(summary, indent=1, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _write_cells(place: Path, regions: PlaneRegions) -> None:
    """Write the cells piece by piece, so that no second copy of them is held."""
    cells = regions.cells
    root = zarr.create_group(place, zarr_format=3)
    root.update_attributes(
        {
            "complete": regions.complete,
            "steps": list(regions.steps),
            "about": "cell c has the vertices corners[offsets[c]:offsets[c+1]], counter-clockwise; "
            "on it the outputs are maps[c,0] x + maps[c,1] y + maps[c,2]",
        }
    )
    axes = {
        "vertices": ("vertex", "coordinate"),
        "offsets": ("cell_edge",),
        "corners": ("corner",),
        "neighbors": ("corner",),
        "origins": ("corner",),
        "maps": ("cell", "coefficient", "output"),
    }
    for name, dims in axes.items():
        values = getattr(cells, name)
        write_array(root, name, slabs(values), values.shape, dims)
    if regions.complete:
        boundary = regions.decision_boundary
        for name, values, dims in (
            ("boundary", boundary.segments, ("segment", "end", "coordinate")),
            ("boundary_classes", boundary.pairs, ("segment", "side")),
        ):
            write_array(root, name, slabs(values), values.shape, dims)


def slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array in pieces."""
    for begin in range(0, len(values), _SLAB):
        yield values[begin : begin + _SLAB]


def write_array(
    root: zarr.Group,
    name: str,
    parts: Sequence[np.ndarray] | Iterator[np.ndarray],
    shape: tuple[int, ...],
    dims: tuple[str, ...],
) -> None:
    """Write an array, piece by piece."""
    begin, array = 0, None
    for part in parts:
        if array is None:
            chunks = (max(1, min(_SLAB, shape[0])), *(max(1, size) for size in shape[1:]))
            array = root.create_array(
                name, shape=shape, dtype=part.dtype, chunks=chunks, dimension_names=dims
            )
        array[begin : begin + len(part)] = part
        begin += len(part)
    if array is None:
        root.create_array(name, shape=shape, dtype="f8", dimension_names=dims)
