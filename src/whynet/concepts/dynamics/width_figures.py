"""Pictures of networks of several widths: data in, matplotlib axes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator


@dataclass(frozen=True)
class Changes:
    """How far the outputs of one layer moved at each width; NaN where unknown."""

    name: str
    slope: float
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Losses:
    """Training loss, `[widths, rates]`; NaN where a run diverged."""

    rates: Sequence[float]
    widths: Sequence[float]
    values: np.ndarray


def width_transfer(
    figure: Figure, *, widths: Sequence[float], changes: Sequence[Changes], losses: Losses | None
) -> None:
    """Draw how far layers moved against width, and loss against step size for each width.

    Args:
        figure: empty figure.
        widths: factors on the width.
        changes: the layers.
        losses: what the step sizes gave, or None.

    """
    every = figure.subplots(1, 1 if losses is None else 2, squeeze=False)[0]
    axes = every[0]
    for number, layer in enumerate(changes):
        middle = np.sqrt(np.nanmin(layer.values) * np.nanmax(layer.values))
        axes.plot(widths, np.full(len(widths), middle), ":", color="0.75", linewidth=0.8)
        # A bar over three seeds may reach far; what the eye needs is where the points lie.
        ends = np.clip([layer.low, layer.high], layer.values / 4, layer.values * 4)
        bars = np.abs(ends - layer.values)
        label = f"layer {layer.name}: slope {layer.slope:+.2f}".replace("-", "−")
        axes.errorbar(
            widths, layer.values, yerr=bars, fmt="o-", color=f"C{number}", markersize=3.5,
            linewidth=1.2, elinewidth=0.8, label=label,
        )  # fmt: skip
    axes.set(xlabel="factor on the width", ylabel="change of outputs")
    _logarithmic(axes, widths)
    if changes:
        _legend_below(axes)
    if losses is None:
        return
    right = every[1]
    for number, (width, row) in enumerate(zip(losses.widths, losses.values, strict=True)):
        right.plot(
            losses.rates, row, "o-", color=f"C{number}", markersize=3.5, linewidth=1.2,
            label=f"width × {width:g}",
        )  # fmt: skip
        if np.isfinite(row).any():
            best = int(np.nanargmin(row))
            right.plot(losses.rates[best], row[best], "o", color=f"C{number}", markersize=8,
                       markerfacecolor="none")  # fmt: skip
    right.set(xlabel="factor on the step size", ylabel="training loss")
    _logarithmic(right, losses.rates)
    _legend_below(right)


def _legend_below(axes: Axes) -> None:
    legend = axes.legend(
        frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.2)
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # names of layers are foreign text


def _logarithmic(axes: Axes, places: Sequence[float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(places, [f"{place:g}" for place in places])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
