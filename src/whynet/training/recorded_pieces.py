"""How many straight pieces a network in training is made of, between and around training rows."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from whynet.core.estimate import Estimate
from whynet.core.outcome import NotApplicable
from whynet.models.piecewise_linear import PiecewiseLinearGraph
from whynet.models.piecewise_linear_planes import subdivide
from whynet.models.piecewise_linear_segments import segment_pieces
from whynet.models.subject import Subject
from whynet.numerics import intervals
from whynet.numerics.plane_pictures import PlanePicture, picture_of

QUANTITIES: Final = ("pieces_between_rows", "cells_of_triangle")

SEGMENTS, FEWEST, UNITS = 30, 8, 20_000
"""Segments between recorded rows, fewer of large networks; and units above which none is followed,
by which also what segments cost is bounded."""

MOST_CELLS, MOST_BYTES = 5_000, 2**26
"""Of the triangle, and of values of the network at once."""

_THIN = 1e-9


def pieces_of(
    subject: Subject, order: np.ndarray
) -> tuple[dict[str, Estimate | str], PlanePicture | None]:
    """Count activation pieces along segments between rows, and cells of a triangle of three.

    Args:
        subject: the network now, on the recorded rows.
        order: random order of these rows, the same at every step, so that segments and triangle
            are.

    Returns:
        The mean over segments with its t interval, and the exact count of cells, or why not; and
        a picture of these cells, where they can be counted.

    """
    graph = subject.graph
    if isinstance(graph, NotApplicable):
        reason = graph.reason.removeprefix("This does not apply: ")
        return dict.fromkeys(QUANTITIES, reason[:1].upper() + reason[1:]), None
    if graph.units > UNITS:
        return dict.fromkeys(QUANTITIES, f"It has more than {UNITS:,} units."), None
    rows, _ = subject.examples("train").take(order.tolist(), dtype=torch.float64)
    assert isinstance(rows, Tensor)
    rows = rows.cpu()
    cells, picture = _around(graph, rows, "classification" in subject.loss.task)
    return {QUANTITIES[0]: _between(graph, rows), QUANTITIES[1]: cells}, picture


def _between(graph: PiecewiseLinearGraph, rows: Tensor) -> Estimate | str:
    most = min(SEGMENTS, max(FEWEST, UNITS // max(1, graph.units)))
    count = min(most, len(rows) // 2)
    starts, ends = rows[:count], rows[count : 2 * count]
    apart = (starts != ends).flatten(1).any(1)
    if not bool(apart.any()):
        return "The recorded rows have one input."
    found = segment_pieces(graph, starts[apart], ends[apart])
    if isinstance(found, NotApplicable):
        return found.reason
    how = "activation pieces of segments between training rows, counted exactly"
    pieces = found.activation_pieces().numpy()
    return intervals.mean_t(pieces, unit="count", how=how, over="segments between training rows")


def _around(
    graph: PiecewiseLinearGraph, rows: Tensor, classes: bool
) -> tuple[Estimate | str, PlanePicture | None]:
    corners = _triangle(rows)
    if corners is None:
        return "The recorded rows lie on a line.", None
    origin, sides = corners[0], corners[1:] - corners[0]
    axes, lower = np.linalg.qr(sides.flatten(1).numpy().T)
    polygon = np.vstack([np.zeros(2), lower.T])
    if lower[0, 0] * lower[1, 1] < 0:
        polygon = polygon[::-1]
    cells = subdivide(
        graph, origin, torch.from_numpy(np.ascontiguousarray(axes.T)).reshape(sides.shape),
        np.ascontiguousarray(polygon), MOST_CELLS, MOST_BYTES,
    )  # fmt: skip
    if not cells.complete:
        return f"It has more than {MOST_CELLS:,} cells.", None
    count = float(len(cells.offsets) - 1)
    how = "cells of the triangle of three training rows, counted exactly"
    found = Estimate(count, count, count, "exact", 0.95, "count", how, "")
    return found, picture_of(cells, polygon, classes)


def _triangle(rows: Tensor) -> Tensor | None:
    """Return the first rows that are the corners of a triangle."""
    for third in range(2, len(rows)):
        corners = rows[[0, third - 1, third]]
        sides = (corners[1:] - corners[0]).flatten(1)
        sizes = torch.linalg.svdvals(sides)
        if len(sizes) == 2 and float(sizes[1]) > _THIN * float(sizes[0]):
            return corners
    return None
