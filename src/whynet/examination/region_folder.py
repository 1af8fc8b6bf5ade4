"""The folder of exact geometry: a figure, the cells as arrays, a summary; written whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr

from whynet.concepts.regions import figures, plane_figures
from whynet.concepts.regions.cell_tables import (
    CellTable,
    read_cells,
    write_array,
    write_boundary,
    write_cells,
    write_table,
)
from whynet.concepts.regions.film_strips import film_strip, strip_height
from whynet.concepts.regions.plane_figures import Color
from whynet.concepts.regions.planes import Plane
from whynet.concepts.regions.polylines import PolylinePieces
from whynet.concepts.regions.subdivision import PlaneRegions, most_in_memory
from whynet.core.outcome import NotApplicable
from whynet.core.question import Figure
from whynet.examination.folder import SUMMARY, check_out, write_whole
from whynet.examination.region_page import render_plane
from whynet.models.subject import Subject
from whynet.numerics import plane_measures
from whynet.numerics.plane_pictures import picture_of
from whynet.pages.drawing import WIDTH, draw_figure, new_figure, styled

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
    place = check_place(path, "path")
    summary, write = _whole_plane(regions, color, labels, frames, about or {})

    def written(folder: Path) -> None:
        write_table(folder / CELLS, regions)
        write(folder)

    write_whole(place, written)
    return summary


def save_in_pieces(
    subject: Subject,
    plane: Plane,
    path: str | Path,
    *,
    memory: int,
    max_cells: int,
    seconds: float | None = None,
    color: Color = "class",
    labels: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any] | NotApplicable:
    """Cut a plane whose table may not fit into memory, and write the folder that `save_plane` does.

    The table is written piece by piece. Where it turns out to fit all the same, all else is as by
    `save_plane`; else the figure shows how densely cells stand, and the summary what can be summed
    up part by part.

    Raises:
        InputError: the plane does not fit the network, or the folder cannot be used.
        OSError: the disk is full or gone; what was in the folder before is still there.

    """
    found: list[dict[str, Any] | NotApplicable] = []

    def written(folder: Path) -> None:
        table = write_cells(
            subject, plane, folder / CELLS, max_cells=max_cells, memory=memory, seconds=seconds
        )
        if isinstance(table, NotApplicable):
            raise _CannotApplyError(table)
        outputs = int(np.prod(table.output_shape))
        if table.count <= most_in_memory(outputs, memory):
            cells = replace(read_cells(table.path), interrupted=table.interrupted)
            regions = PlaneRegions(plane, cells, table.steps, table.output_shape)
            summary, write = _whole_plane(regions, color, labels, (), about or {})
            if regions.complete:
                write_boundary(table.path, regions)
        else:
            summary, write = _large_plane(table, about or {})
        write(folder)
        found.append({**summary, "interrupted": table.interrupted})

    try:
        write_whole(check_place(path, "path"), written)
    except _CannotApplyError as error:
        return error.outcome
    return found[0]


class _CannotApplyError(Exception):
    """The network is not piecewise linear: nothing is written."""

    def __init__(self, outcome: NotApplicable) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


_Write = Callable[[Path], None]


def _large_plane(table: CellTable, about: Mapping[str, Any]) -> tuple[dict[str, Any], _Write]:
    """Return the summary of a table that is not in memory, and what writes all beside it."""
    summary = {
        "schema_version": SCHEMA_VERSION, **about, "complete": table.complete, "cells": table.count,
        **table.numbers,
    }  # fmt: skip
    drawing = Figure(
        "density",
        partial(plane_figures.density, polygon=table.plane.polygon, counts=table.density),
        "How many cells have their middle in each tile of a plane of the input space: there are "
        "too many for a picture of each.",
        f"A map of where {table.count:,} cells stand.",
        height=plane_figures.shape_of(table.plane.polygon, WIDTH),
    )
    write = partial(
        _write_beside, plane=table.plane, summary=summary, drawings=((DRAWING, drawing),)
    )
    return summary, write


def _write_beside(
    folder: Path, plane: Plane, summary: Mapping[str, Any], drawings: Sequence[tuple[str, Figure]]
) -> None:
    """Write all but the cells."""
    drawn = [(one, save_drawing(folder / name, one)) for name, one in drawings]
    (folder / PAGE).write_text(render_plane(summary, drawn), encoding="utf-8")
    np.savez(
        folder / PLANE,
        origin=plane.origin.numpy(),
        axes=plane.axes.numpy(),
        polygon=plane.polygon,
        marks=plane.marks,
    )
    write_summary(folder, summary)


def _whole_plane(
    regions: PlaneRegions,
    color: Color,
    labels: Sequence[str],
    frames: Sequence[tuple[str, PlaneRegions]],
    about: Mapping[str, Any],
) -> tuple[dict[str, Any], _Write]:
    """Return the summary of a subdivision, and what writes all but its cells."""
    summary = {"schema_version": SCHEMA_VERSION, **about, **plane_summary(regions)}
    if frames:
        summary["checkpoints"] = [{"name": name, **_frame_counts(frame)} for name, frame in frames]
    drawing = Figure(
        "tessellation",
        partial(plane_figures.tessellation, regions=regions, color=color, labels=labels),
        f"Cells of the network in a plane of its input space{_COLORED[color]}.",
        f"A polygon cut into {regions.count:,} convex cells.",
        height=plane_figures.shape_of(regions.plane.polygon, WIDTH),
    )
    drawings = ((DRAWING, drawing), *(((FILM, _film(frames)),) if frames else ()))
    write = partial(_write_beside, plane=regions.plane, summary=summary, drawings=drawings)
    return summary, write


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
            write_array(root, name, values, ("knot", "output")[: values.ndim])
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
    figure = new_figure(drawing.draw, drawing.height)
    with styled():  # colors by number are looked up while it is saved
        figure.savefig(place.with_suffix(".png"), dpi=_DPI)
    return drawn


def write_summary(folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the numbers into a folder."""
    text = json.dumps(summary, indent=1, allow_nan=False)
    (folder / SUMMARY).write_text(text + "\n", encoding="utf-8")
