"""Pictures of a subdivided polygon: cells, walls, decision boundary and marks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from whynet.numerics import plane_measures as measures

if TYPE_CHECKING:
    from whynet.concepts.regions.subdivision import PlaneRegions

Color = Literal["class", "slope", "depth"]
COLORS: tuple[Color, ...] = ("class", "slope", "depth")
"""What cells or walls are colored by."""

CLASS_COLORS = (
    "#0b6e99", "#e08a1e", "#3d8b5f", "#b0413e", "#7a4d8c", "#c2a83e", "#4fb3bf", "#8a5a3b",
    "#d16ba5", "#6b7684", "#8cb04a", "#3b4fa0",
)  # fmt: skip
"""Of classes, by their number; they repeat after the last."""

INK = "#1c2430"
_HALO = (withStroke(linewidth=2.2, foreground="white"),)
_MOST_CANDIDATES = 400
"""Parts of a class that are looked at for a place for its name."""


def tessellation(
    figure: Figure, regions: PlaneRegions, color: Color = "class", labels: Sequence[str] = ()
) -> None:
    """Draw the cells of a polygon, the decision boundary on top, and the marks.

    Args:
        figure: empty figure.
        regions: the subdivision; one that was stopped is drawn by its walls alone.
        color: `class`: the predicted class, paler where its lead is small; `slope`: the norm of
            the Jacobian along the plane; `depth`: how deep in the network a wall arises.
        labels: names of the plane's marks.

    """
    axes = figure.subplots()
    if not regions.complete:
        _walls(axes, regions, deep=True)
    elif color == "class":
        _classes(axes, regions)
        _walls(axes, regions)
    elif color == "slope":
        _slopes(figure, axes, regions)
        _walls(axes, regions)
    else:
        _walls(axes, regions, deep=True)
    if regions.complete:
        lines = LineCollection(regions.decision_boundary.lines, colors="white", linewidths=2.6)
        axes.add_collection(lines, autolim=False)
        lines = LineCollection(regions.decision_boundary.lines, colors=INK, linewidths=1.3)
        lines.set_capstyle("round")
        axes.add_collection(lines, autolim=False)
        if color == "class":
            _class_names(axes, regions)
    frame(axes, regions.plane.polygon, bare=len(regions.plane.marks) > 0)
    _marks(axes, regions, labels)


def density(figure: Figure, polygon: np.ndarray, counts: np.ndarray) -> None:
    """Draw how many cells stand where, for polygons of more cells than can be drawn.

    Args:
        figure: empty figure.
        polygon: [P, 2].
        counts: [columns, rows], of tiles of the bounding rectangle.

    """
    axes = figure.subplots()
    low, high = polygon.min(0), polygon.max(0)
    shown = np.ma.masked_equal(counts.T, 0)
    drawn = axes.imshow(
        shown, extent=(low[0], high[0], low[1], high[1]), origin="lower", cmap="cividis",
        norm=LogNorm(1, max(2, int(counts.max()))), interpolation="nearest",
    )  # fmt: skip
    frame(axes, polygon, bare=False)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.7, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.set_label("cells with their middle in a tile")


def shape_of(polygon: np.ndarray, width: float = 5.4) -> float:
    """Return the height in inches at which a polygon fills a figure of a width."""
    across, up = np.ptp(polygon, axis=0)
    return float(np.clip(width * up / across + 0.15, 2.2, 7.2))


def _classes(axes: Axes, regions: PlaneRegions) -> None:
    parts = regions.class_parts
    maps = regions.cells.maps[parts.cells]
    centers = np.array([corners.mean(0) for corners in parts.polygons])
    values = measures.evaluate_maps(maps, centers)
    if values.shape[1] == 1:
        lead = np.abs(values[:, 0])
    else:
        top = np.partition(values, -2, axis=1)[:, -2:]
        lead = top[:, 1] - top[:, 0]
    _fill(axes, parts.polygons, class_tones(parts.classes, lead))


def class_tones(classes: np.ndarray, lead: np.ndarray) -> np.ndarray:
    """Return the color of each part, [N, 3]: that of its class, paler where its lead is small."""
    strength = np.clip(lead / max(float(np.quantile(lead, 0.9)), 1e-300), 0, 1)[:, None]
    base = np.array([to_rgb(color) for color in CLASS_COLORS])[classes % len(CLASS_COLORS)]
    share = 0.22 + 0.5 * strength
    return np.asarray((1 - share) + share * base)


def _slopes(figure: Figure, axes: Axes, regions: PlaneRegions) -> None:
    slopes = regions.slopes
    positive = slopes[slopes > 0]
    low, high = (float(positive.min()), float(positive.max())) if len(positive) else (0.0, 1.0)
    spread = low > 0 and high / low > 30
    norm = LogNorm(max(low, high * 1e-4), high) if spread else Normalize(low, high)
    polygons = np.split(regions.cells.vertices[regions.cells.corners], regions.cells.offsets[1:-1])
    palette = colormaps["cividis"]
    _fill(axes, polygons, palette(norm(np.maximum(slopes, norm.vmin or 0.0))))
    bar = figure.colorbar(ScalarMappable(norm, palette), ax=axes, shrink=0.7, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.set_label("slope: norm of the Jacobian in the plane")


def _fill(axes: Axes, polygons: Sequence[np.ndarray], colors: np.ndarray) -> None:
    # Edges of the color of the inside close the hairline gaps that antialiasing leaves.
    drawn = PolyCollection(polygons, facecolors=colors, edgecolors=colors, linewidths=0.3)
    axes.add_collection(drawn, autolim=False)


def _walls(axes: Axes, regions: PlaneRegions, deep: bool = False) -> None:
    edges, _ = measures.inner_walls(regions.cells)
    start, stop = (ends[edges] for ends in measures.edge_ends(regions.cells))
    lines = regions.cells.vertices[np.stack([start, stop], 1)]
    width = wall_width(regions.count)
    if not deep:
        color = "white" if regions.complete else INK  # nothing is filled below the latter
        drawn = LineCollection(lines, colors=color, linewidths=width, alpha=0.75)
        axes.add_collection(drawn, autolim=False)
        return
    depths = regions.depths()[edges]
    deepest = int(depths.max(initial=0))
    palette = colormaps["viridis"]
    for depth in range(deepest, -1, -1):
        tone = palette(0.05 + 0.8 * depth / max(1, deepest))
        wide = width * (1 + 0.8 * (deepest - depth) / max(1, deepest))
        some = LineCollection(lines[depths == depth], colors=[tone], linewidths=wide)
        axes.add_collection(some, autolim=False)
        made = regions.cells.origins[edges][depths == depth]
        name = regions.steps[int(made[0])] if len(made) else ""
        axes.plot([], [], color=tone, linewidth=1.6, label=f"wall where {name.replace('`', '')}")
    if 0 < deepest < 12:
        handles, names = axes.get_legend_handles_labels()
        figure = axes.get_figure(root=True)
        assert figure is not None
        columns = min(3, len(names))
        figure.legend(handles[::-1], names[::-1], loc="outside lower center", ncols=columns)


def wall_width(cells: int) -> float:
    """Return how wide walls between some number of cells are drawn."""
    return float(np.clip(22 / math.sqrt(cells), 0.12, 0.7))


def _class_names(axes: Axes, regions: PlaneRegions) -> None:
    """Write the number of a class into its largest room."""
    segments = regions.decision_boundary.segments
    parts = regions.class_parts
    extent = float(np.ptp(regions.plane.polygon, axis=0).max())
    for number in np.unique(parts.classes):
        own = np.flatnonzero(parts.classes == number)
        own = own[np.argsort(-parts.areas[own])][:_MOST_CANDIDATES]
        centers = np.array([parts.polygons[i].mean(0) for i in own])
        taken = [_distance(centers, regions.plane.polygon, np.roll(regions.plane.polygon, 1, 0))]
        if len(segments):
            taken.append(_distance(centers, segments[:, 0], segments[:, 1]))
        if len(regions.plane.marks):
            marks = regions.plane.marks
            taken.append(np.linalg.norm(centers[:, None] - marks, axis=2).min(1))
        room = np.min(taken, axis=0)
        if room.max() < 0.018 * extent:
            continue
        tone = np.array(to_rgb(CLASS_COLORS[number % len(CLASS_COLORS)])) * 0.62
        axes.annotate(
            str(number), centers[room.argmax()], ha="center", va="center", color=tone,
            fontsize=11, fontweight="bold", path_effects=_HALO, zorder=4,
        )  # fmt: skip


def _distance(points: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return the distance of each point to the nearest of some segments."""
    along = stop - start
    square = np.maximum((along**2).sum(1), 1e-300)
    share = np.clip(((points[:, None] - start) * along).sum(2) / square, 0, 1)
    nearest = start + share[..., None] * along
    return np.asarray(np.linalg.norm(points[:, None] - nearest, axis=2).min(1))


def frame(axes: Axes, polygon: np.ndarray, bare: bool) -> None:
    """Fit axes to a polygon, without anything around it; `bare` of ticks too."""
    low, high = polygon.min(0), polygon.max(0)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    axes.grid(False)
    for side in axes.spines.values():
        side.set_visible(False)
    if bare:
        axes.set_xticks([])
        axes.set_yticks([])


def _marks(axes: Axes, regions: PlaneRegions, labels: Sequence[str]) -> None:
    marks = regions.plane.marks
    if len(marks) == 0:
        return
    axes.scatter(
        marks[:, 0], marks[:, 1], s=34, c="white", edgecolors=INK, linewidths=1.4, zorder=6
    )
    middle = marks.mean(0)
    for mark, label in zip(marks, labels, strict=False):
        above = mark[1] >= middle[1]
        axes.annotate(
            label, mark, xytext=(0, 7 if above else -7), textcoords="offset points", ha="center",
            va="bottom" if above else "top", color=INK, fontsize=7.5, path_effects=_HALO, zorder=6,
        )  # fmt: skip
