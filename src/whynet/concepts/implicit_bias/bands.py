"""Verdicts that ask whether a number lies within a band at every point of a grid."""

from __future__ import annotations

import numpy as np
import xarray as xr

from whynet.core.claim import Judgement, State
from whynet.core.estimate import Estimate, format_number
from whynet.numerics.order_statistics import median_interval

LEVEL = 0.95


def judged_within(
    values: xr.DataArray, low: float, high: float, what: str, *, unit: str = ""
) -> Judgement:
    """Judge whether the median over seeds lies within a band at all points of a grid.

    Supported where the interval of the median (order statistics, 95 %) lies within the band at
    every point; refuted where it lies wholly outside at one point, at the level that allows for
    the number of points, as far as the number of seeds carries it.

    Args:
        values: over the grid's parameters and `seed`.
        low: lower end of the band.
        high: upper end.
        what: the number's name, in the sentence `... the median of {what} is ...`.
        unit: its unit.

    """
    names = [str(name) for name in values.dims if name != "seed"]
    table = values.transpose(*names, "seed")
    points = table.values.reshape(-1, table.sizes["seed"])
    inner = [median_interval(row, unit=unit, over="training seeds", level=LEVEL) for row in points]
    strict = _strict_level(*points.shape)
    outer = [median_interval(row, unit=unit, over="training seeds", level=strict) for row in points]
    within = [low <= e.low and e.high <= high for e in inner]
    out = [e.excludes(low, high) for e in outer]
    state: State = "supported" if all(within) else "refuted" if any(out) else "inconclusive"
    worst = max(range(len(inner)), key=lambda i: (out[i], _excess(inner[i], low, high)))
    where = _place(table, names, worst)
    band = f"{format_number(low)} to {format_number(high)}"
    verdict = {"supported": "inside", "refuted": "outside", "inconclusive": "not clearly inside"}
    sentence = (
        f"At {sum(within)} of {len(within)} points of the grid the median of {what} lies within "
        f"{band}; at the worst ({where}) it is {_written(inner[worst])}, {verdict[state]}."
    )
    return Judgement(state, sentence, {f"{what}, worst point": inner[worst]})


def _strict_level(points: int, seeds: int) -> float:
    """Return the level that allows for all points, or the highest the seeds can carry."""
    highest = max(1 - 2.0 ** (1 - seeds) - 1e-12, LEVEL)
    return min(1 - (1 - LEVEL) / points, highest)


def _excess(estimate: Estimate, low: float, high: float) -> float:
    """Return by how much of its width an interval passes its band; negative inside."""
    center, half = (low + high) / 2, (high - low) / 2
    return max(abs(estimate.low - center), abs(estimate.high - center)) / half


def _place(table: xr.DataArray, names: list[str], index: int) -> str:
    places = np.unravel_index(index, [table.sizes[name] for name in names])
    parts = []
    for name, place in zip(names, places, strict=True):
        if table.sizes[name] == 1:
            continue
        if name in table.coords:
            value = table.coords[name].values[place]
            shown = value if isinstance(value, str) else f"{value:g}"
        else:
            shown, name = str(int(place) + 1), "entry"
        parts.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(parts) or "the only one"


def _written(estimate: Estimate) -> str:
    numbers = (format_number(v, estimate.unit) for v in (estimate.value, estimate.low))
    middle, low = numbers
    return f"{middle} [{low}, {format_number(estimate.high, estimate.unit)}]"


def not_reached(reached: xr.DataArray, what: str) -> Judgement | None:
    """Return what is said where runs miss a precondition, or None where all meet it."""
    missed = int((reached.values < 0.5).sum())
    if missed == 0:
        return None
    sentence = f"{missed:,} of {reached.size:,} runs did not {what}."
    return Judgement("inconclusive", sentence)
