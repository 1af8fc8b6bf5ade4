"""Predicted curves over measured points: data in, axes out."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from whynet.numerics.order_statistics import median_interval


def against(
    figure: Figure,
    measured: xr.DataArray,
    predicted: xr.DataArray,
    *,
    along: str,
    lines: str,
    labels: tuple[str, str],
    logarithmic: tuple[bool, bool] = (False, False),
) -> None:
    """Draw predicted curves over measured points: medians over seeds with their intervals.

    Args:
        figure: empty.
        measured: over the grid's parameters and `seed`.
        predicted: likewise.
        along: parameter of the horizontal axis.
        lines: parameter with one curve a value; the first value of all others is shown.
        labels: of both axes.
        logarithmic: which axes are.

    """
    axes = figure.subplots()
    rest = {n: 0 for n in measured.dims if n not in (along, lines, "seed")}
    for place, value in enumerate(measured.coords[lines].values):
        color = f"C{place}"
        found = measured.isel({**rest, lines: place}).sortby(along).transpose(along, "seed")
        theory = predicted.isel({**rest, lines: place}).sortby(along).transpose(along, "seed")
        at = found.coords[along].values
        bars = [median_interval(row) for row in found.values]
        middle = np.array([bar.value for bar in bars])
        ends = np.array([[bar.low, bar.high] for bar in bars]).T
        ends = np.where(np.isfinite(ends), ends, middle)
        axes.errorbar(at, middle, abs(ends - middle), fmt="o", color=color, capsize=3)
        line = np.median(theory.values, axis=1)
        axes.plot(at, line, color=color, label=f"{lines.replace('_', ' ')} {value}")
    for axis, scaled in zip("xy", logarithmic, strict=True):
        if scaled:
            axes.set(**{f"{axis}scale": "log"})
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.legend(title="lines: predicted", frameon=False)
