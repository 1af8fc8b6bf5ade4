"""The largest difference of two piecewise-linear networks over balls, exactly, cell by cell.

The difference of two piecewise-linear networks is one itself. Over each of its cells in a box it is
affine, so that its largest value is at a vertex. Balls are taken in the order of their proven
bounds; as soon as the largest exact value reaches the bound of the next ball, it is that of all.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from whynet.concepts.regions.boxes import cells_in_box
from whynet.core.outcome import NotApplicable
from whynet.models.difference_bounds import Norm
from whynet.models.subject import Subject

MOST_INPUTS: Final = 6
"""Dimensions up to which vertices of cells are followed."""

MOST_UNITS: Final = 4_000
"""Units of both networks above which cells are not enumerated."""

MOST_CELLS: Final = 20_000
"""Cells of all balls together above which the others keep their bounds."""

MOST_BALLS: Final = 12
"""Balls whose cells are enumerated at most."""


@dataclass(frozen=True, eq=False)
class ExactMaximum:
    """The largest difference of an output over balls, from cells.

    Attributes:
        values: `[balls]`, the exact largest difference inside a ball; nan where only the bound is
            known.
        cells: cells that were looked at.
        complete: whether the largest of them is that of all balls.

    """

    values: np.ndarray
    cells: int
    complete: bool


class _Difference(nn.Module):
    def __init__(self, large: nn.Module, small: nn.Module) -> None:
        super().__init__()
        self.large, self.small = large, small

    def forward(self, inputs: Tensor) -> Tensor:
        return self.small(inputs) - self.large(inputs)  # type: ignore[no-any-return]


def exact_maximum(
    subject: Subject,
    smaller: Subject,
    centers: Tensor,
    radius: float,
    norm: Norm,
    bounds: np.ndarray,
) -> ExactMaximum | NotApplicable:
    """Find the largest difference of an output over balls exactly, where networks are small.

    Args:
        subject: the network as it came.
        smaller: the smaller one.
        centers: `[balls, *input]`, float64.
        radius: of the balls.
        norm: of the balls; cells are cut by boxes, so that only `linf` balls are offered.
        bounds: `[balls]`, proven upper bounds of the difference.

    Returns:
        The exact values, up to the round-off of float64 and slivers of cells thinner than 1e-9 of
        the ball; or why there are none.

    Cost: for each ball a pass over its cells' faces for every unit of both networks.

    """
    if norm != "linf":
        return NotApplicable("Cells are enumerated in linf balls only.")
    if centers[0].numel() > MOST_INPUTS:
        return NotApplicable(f"Cells are enumerated for at most {MOST_INPUTS} inputs.")
    networks = [
        copy.deepcopy(one.module).to("cpu", torch.float64).requires_grad_(False)
        for one in (subject, smaller)
    ]
    graphs = [one.in_precision(torch.float64).graph for one in (subject, smaller)]
    units = sum(graph.units for graph in graphs if not isinstance(graph, NotApplicable))
    if units > MOST_UNITS:
        return NotApplicable(f"Cells are enumerated for at most {MOST_UNITS:,} units.")
    difference = _Difference(*networks).eval()
    values, cells = np.full(len(centers), np.nan), 0
    order = np.argsort(-bounds, kind="stable")
    for place, ball in enumerate(order):
        best = np.nanmax(values) if place else -np.inf
        if best >= bounds[ball]:
            return ExactMaximum(values, cells, True)
        if place >= MOST_BALLS:
            break
        low, high = centers[ball] - radius, centers[ball] + radius
        found = cells_in_box(difference, low, high, max_cells=MOST_CELLS - cells)
        if isinstance(found, NotApplicable):
            return found
        cells += found.count
        if not found.complete or cells >= MOST_CELLS:
            break
        values[ball] = max(float(np.abs(end).max()) for end in found.extrema)
    return ExactMaximum(values, cells, not np.isnan(values).any())
