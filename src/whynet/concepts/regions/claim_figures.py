"""Pictures of counts beside what is expected of them: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from whynet.numerics.intervals import half_widths


def counted_and_expected(
    figure: Figure,
    places: NDArray[Any],
    counted: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw counts with the t intervals of their means, the expected ones, and the ratio of both.

    Args:
        figure: empty.
        places: `[places]`, on the horizontal axis.
        counted: family to `[places, seeds]`.
        expected: family to `[places, seeds]`.
        labels: of the horizontal and the left vertical axis.

    """
    left, right = figure.subplots(1, 2)
    shifts = np.linspace(-0.1, 0.1, len(counted)) * (len(counted) > 1)
    for shift, (name, counts) in zip(shifts, counted.items(), strict=True):
        for axes, values in ((left, counts), (right, counts / expected[name])):
            half = half_widths(values, 1)
            (drawn, *_) = axes.errorbar(
                places + shift, values.mean(1), half, fmt="o", markersize=4, label=name
            )
            if axes is left:
                left.plot(
                    places + shift,
                    expected[name].mean(1),
                    "_",
                    markersize=16,
                    color=drawn.get_color(),
                )
    left.set_ylim(bottom=0)
    left.set_ylabel(labels[1])
    right.axhline(1, color="#5b6472", linewidth=0.8)
    right.set_ylabel("counted over expected")
    for axes in (left, right):
        axes.set_xticks(places)
        axes.set_xlabel(labels[0])
    left.legend(fontsize="small", title="bars: expected")


def over_depths(
    figure: Figure, measured: xr.DataArray, predicted: xr.DataArray, label: str
) -> None:
    """Draw counted and expected numbers over the depth, for each width, at the first of all else.

    Args:
        figure: empty.
        measured: over depth, width, seed and other axes.
        predicted: over the same.
        label: of the vertical axis.

    """
    rest = {n: 0 for n in measured.dims if n not in ("depth", "width", "seed")}
    counted, expected = (
        table.isel(rest).transpose("width", "depth", "seed").values
        for table in (measured, predicted)
    )
    widths = measured["width"].values
    counted_and_expected(
        figure,
        measured["depth"].values,
        {f"width {w}": c for w, c in zip(widths, counted, strict=True)},
        {f"width {w}": e for w, e in zip(widths, expected, strict=True)},
        labels=("hidden layers", label),
    )


def equal_numbers(
    figure: Figure,
    families: Mapping[str, tuple[NDArray[Any], NDArray[Any]]],
    *,
    labels: tuple[str, str],
) -> None:
    """Draw numbers against those they are to equal, on logarithmic axes with their diagonal.

    Args:
        figure: empty.
        families: name to known and counted numbers, `[cases]` each.
        labels: of both axes.

    """
    axes = figure.subplots()
    low = min(float(np.minimum(*pair).min()) for pair in families.values())
    high = max(float(np.maximum(*pair).max()) for pair in families.values())
    axes.plot([low, high], [low, high], color="#5b6472", linewidth=0.8)
    for (name, (known, counted)), marker in zip(families.items(), "o^sDvP" * 9, strict=False):
        axes.plot(known, counted, marker, markersize=5, fillstyle="none", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.legend(fontsize="small")
