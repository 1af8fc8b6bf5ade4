"""Hinges: a one-dimensional network whose every kink is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from whynet.core.seeds import seed_from
from whynet.models.subject import Subject
from whynet.testing.closed_forms import ClosedForm, Key

UNITS, POPULATION, ROWS = 12, 60, 400


def hinges() -> ClosedForm:
    """A sum of ReLUs with kinks at known places, on data drawn from a finite set of points.

    The number of pieces between two inputs is one more than the number of kinks between them;
    its mean over pairs of different points of the population is a finite sum. So is the number
    of kinks within a distance of a point, or of the middle of two that are drawn independently;
    the distance is a share of the spread of the rows that were drawn.
    """
    generator = np.random.default_rng(seed_from("hinges"))
    kinks = np.sort(generator.uniform(-1, 1, UNITS))
    heights = generator.standard_normal(UNITS)
    points = np.sort(generator.uniform(-1.2, 1.2, POPULATION))

    def rows_of(draw: int) -> np.ndarray:
        return np.random.default_rng(seed_from("hinges", draw)).integers(POPULATION, size=ROWS)

    def subject(dtype: torch.dtype, draw: int) -> Subject:
        rows = rows_of(draw)
        first, last = nn.Linear(1, UNITS), nn.Linear(UNITS, 1)
        with torch.no_grad():
            first.weight.fill_(1.0)
            first.bias.copy_(-torch.tensor(kinks))
            last.weight.copy_(torch.tensor(heights)[None])
        module = nn.Sequential(first, nn.ReLU(), last)
        data = (torch.tensor(points[rows, None], dtype=dtype), torch.zeros(ROWS, dtype=dtype))
        return Subject(module, train=data, test=data, loss="mse", dtype=dtype, name="hinges")

    below = (kinks[None] < points[:, None]).sum(1)
    pieces = 1 + np.abs(below[:, None] - below[None])
    # Pairs of equal points have no segment; instruments draw pairs of different inputs.
    different = ~np.eye(POPULATION, dtype=bool)
    mean: Key = ("pieces", (("pair", "any"),))
    truth = {"segment-pieces": {mean: float(pieces[different].mean())}, "wall-density": {}}

    def of_draw(instrument: str, draw: int) -> dict[Key, float]:
        if instrument != "wall-density":
            return {}
        return _densities(kinks, points, 0.1 * float(points[rows_of(draw)].std()))

    return ClosedForm(subject, truth, over_examples=True, of_draw=of_draw)


def _densities(kinks: np.ndarray, points: np.ndarray, radius: float) -> dict[Key, float]:
    """Return kinks per length within a distance, around points and the middles of two."""
    middles = (points[:, None] + points[None]).ravel() / 2

    def density(centers: np.ndarray) -> float:
        near = np.abs(centers[:, None] - kinks) < radius
        return float(near.sum(1).mean() / (2 * radius))

    around: Key = ("wall_density", (("place", "around examples"),))
    between: Key = ("wall_density", (("place", "between examples"),))
    return {around: density(points), between: density(middles)}
