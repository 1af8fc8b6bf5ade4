"""A film strip: one polygon of the input space, cut by a network at times of its training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from whynet.concepts.regions.plane_figures import INK, class_tones, frame, wall_width
from whynet.numerics.plane_pictures import NO_CLASS, PlanePicture

if TYPE_CHECKING:
    from collections.abc import Iterable

Frames = Sequence[tuple[str, PlanePicture]]

COLUMNS = 4
_THINNER = 0.45
_MOST_SHAPES = 400
"""Parts of a frame above which its cells become a picture inside the drawing."""

_PLAIN = "#e9edf1"


def strip_height(frames: Frames, width: float = 5.4) -> float:
    """Return the height in inches of a film strip."""
    across, up = np.ptp(frames[0][1].polygon, axis=0)
    columns = min(COLUMNS, len(frames))
    return float(math.ceil(len(frames) / columns) * (width / columns * up / across + 0.34))


def film_strip(figure: Figure, frames: Frames, marks: np.ndarray | None = None) -> None:
    """Draw one polygon at several times of a training.

    Cells are colored by the predicted class, paler where its lead is small, with the decision
    boundary on top; where there are no classes, by the first output, on one scale for all frames.

    Args:
        figure: empty figure.
        frames: title and picture of each.
        marks: [M, 2], points of interest.

    """
    columns = min(COLUMNS, len(frames))
    rows = math.ceil(len(frames) / columns)
    grid = np.asarray(figure.subplots(rows, columns, squeeze=False)).ravel()
    for axes in grid[len(frames) :]:
        axes.set_axis_off()
    scale = _scale(picture for _, picture in frames)
    for axes, (title, picture) in zip(grid, frames, strict=False):
        _draw(axes, picture, scale)
        frame(axes, picture.polygon, bare=True)
        if marks is not None and len(marks):
            x, y = marks.T
            axes.scatter(x, y, s=9, c="white", edgecolors=INK, linewidths=0.8, zorder=5)
        least = "" if picture.complete else "at least "
        cells = "cell" if picture.cells == 1 else "cells"
        words = f"{title}\n{least}{picture.cells:,} {cells}"
        axes.set_title(words, fontsize=7, pad=3, fontweight="normal")


def _scale(pictures: Iterable[PlanePicture]) -> Normalize:
    values = [
        picture.values
        for picture in pictures
        if picture.complete and picture.classes[0] == NO_CLASS
    ]
    if not values:
        return Normalize(0, 1)
    held = np.concatenate(values)
    return Normalize(float(held.min()), float(held.max()))


def _draw(axes: Axes, picture: PlanePicture, scale: Normalize) -> None:
    polygons = np.split(picture.corners, picture.offsets[1:-1])
    if not picture.complete:
        tones = np.full((len(polygons), 3), 1.0)
    elif picture.classes[0] == NO_CLASS:
        tones = colormaps["cividis"](scale(picture.values))
    else:
        tones = class_tones(picture.classes, picture.values)
    wall = "white" if picture.complete else INK
    drawn = PolyCollection(
        polygons, facecolors=tones, edgecolors=wall, linewidths=_THINNER * wall_width(picture.cells)
    )
    drawn.set_rasterized(len(polygons) > _MOST_SHAPES)
    axes.add_collection(drawn, autolim=False)
    border = Polygon(picture.polygon, closed=True, fill=False, edgecolor=_PLAIN, linewidth=0.6)
    axes.add_patch(border)
    lines = LineCollection(list(picture.boundary), colors=INK, linewidths=0.9)
    lines.set_capstyle("round")
    lines.set_rasterized(len(picture.boundary) > _MOST_SHAPES)
    axes.add_collection(lines, autolim=False)
